//! Resolves the routes of a task: its agent or the members of its capability, then its fallbacks. `engine::router`
//! chooses among them at run time.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;

use super::arguments::ArgumentChecker;
use crate::config::agents::agents_file::AgentsFile;
use crate::config::agents::llm_section;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::schema::keys::FALLBACK;
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::{DocumentNode, NameHasher};
use crate::model::{AgentId, AgentInfo, AgentPolicy, AgentSpec, PromptTool, Route};

/// The description of each agent that was contacted, or the reason why it did not answer.
pub type AgentCatalog = IndexMap<AgentId, Result<AgentInfo, String>>;

/// A resolver of routes, which records the agents that they use.
pub(super) struct RouteResolver<'a> {
    agents: &'a AgentsFile,
    catalog: Option<&'a AgentCatalog>,
    arguments: ArgumentChecker<'a>,
    /// The indices of these agents in the agents file.
    used_agents: BTreeSet<usize>,
    /// The interned names of tools.
    tool_names: HashSet<Arc<str>, NameHasher>,
    unreachable: HashSet<AgentId>,
}

/// A route as the file specifies it.
struct RouteSpec<'w> {
    agent: &'w str,
    tool: Option<&'w str>,
    rank: u32,
    /// The positions of the agent's and the tool's names.
    agent_span: SourceSpan,
    tool_span: SourceSpan,
}

impl<'a> RouteResolver<'a> {
    pub(super) fn new(agents: &'a AgentsFile, catalog: Option<&'a AgentCatalog>) -> Self {
        Self {
            agents,
            catalog,
            arguments: ArgumentChecker::default(),
            used_agents: BTreeSet::new(),
            tool_names: HashSet::default(),
            unreachable: HashSet::new(),
        }
    }

    /// Returns the policy of each agent that a route uses, in the order of the agents file.
    pub(super) fn policies(self) -> IndexMap<AgentId, AgentPolicy> {
        let named = self.used_agents.iter().filter_map(|&place| self.agents.agents.get_index(place));
        named.map(|(id, agent)| (id.clone(), agent.policy.clone())).collect()
    }

    /// Returns the shared name of a tool.
    fn intern_tool_name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.tool_names.get(name) {
            return Arc::clone(known);
        }
        let tool: Arc<str> = name.into();
        self.tool_names.insert(Arc::clone(&tool));
        tool
    }

    /// Returns the routes of a task, best first.
    pub(super) fn routes(&mut self, task: &CheckedTable<'_>, findings: &mut DiagnosticSink) -> Vec<Route> {
        let mut wanted = self.primary_routes(task, findings);
        for (index, fallback) in task.tables("fallback", &FALLBACK).into_iter().enumerate() {
            let Some(agent) = fallback.node("agent") else { continue };
            let tool = fallback.node("tool").or_else(|| task.node("tool"));
            wanted.push(RouteSpec {
                agent: agent.as_text().unwrap_or_default(),
                tool: tool.and_then(DocumentNode::as_text),
                rank: u32::try_from(index + 1).unwrap_or(u32::MAX),
                agent_span: agent.span,
                tool_span: tool.map_or(agent.span, |tool| tool.span),
            });
        }
        let mut routes: Vec<Route> = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let at = wanted.agent_span;
            let Some(route) = self.resolve_route(&wanted, task, findings) else { continue };
            if routes.iter().any(|other| other.agent == route.agent && other.tool == route.tool) {
                let message = format!("duplicate route: `{}` on `{}`", route.tool, route.agent);
                findings.warning("duplicate_route", at, message).help("remove it");
                continue;
            }
            routes.push(route);
        }
        routes
    }

    /// Returns the routes of rank 0.
    fn primary_routes<'w>(&self, task: &CheckedTable<'w>, findings: &mut DiagnosticSink) -> Vec<RouteSpec<'w>>
    where
        'a: 'w,
    {
        let tool = task.node("tool");
        let key = task.key_span("id").unwrap_or(task.span);
        match (task.node("agent"), task.node("capability")) {
            (Some(agent), None) => vec![RouteSpec {
                agent: agent.as_text().unwrap_or_default(),
                tool: tool.and_then(DocumentNode::as_text),
                rank: 0,
                agent_span: agent.span,
                tool_span: tool.map_or(agent.span, |tool| tool.span),
            }],
            (None, Some(capability)) => self.capability_routes(capability, tool, findings),
            (Some(_), Some(capability)) => {
                let found =
                    findings.error("two_routes", capability.span, "a task has `agent` or `capability`, not both");
                found.help("`agent` names one agent; `capability` allows any agent that has it");
                Vec::new()
            }
            (None, None) => {
                if !task.has("agent") && !task.has("capability") && !task.has("prompt") {
                    let found =
                        findings.error("no_route", key, "the task must have `agent`, `capability`, or `prompt`");
                    found.help("set the agent that runs it");
                }
                Vec::new()
            }
        }
    }

    /// Returns a route for every agent with the capability, each with the tool that provides it.
    fn capability_routes<'w>(
        &self,
        capability: &'w DocumentNode<'w>,
        tool: Option<&'w DocumentNode<'w>>,
        findings: &mut DiagnosticSink,
    ) -> Vec<RouteSpec<'w>>
    where
        'a: 'w,
    {
        let name = capability.as_text().unwrap_or_default();
        let agents = self.agents;
        let members: Vec<_> = (agents.agents.values())
            .filter_map(|agent| {
                let mapped = agent.capabilities.get(name)?;
                Some(RouteSpec {
                    agent: agent.id.as_str(),
                    tool: mapped.as_deref().or_else(|| tool?.as_text()),
                    rank: 0,
                    agent_span: capability.span,
                    tool_span: if mapped.is_some() { capability.span } else { tool.unwrap_or(capability).span },
                })
            })
            .collect();
        if members.is_empty() {
            let known = || self.agents.agents.values().flat_map(|agent| agent.capabilities.keys().map(String::as_str));
            let help = findings.did_you_mean(name, known()).unwrap_or_else(|| match known().next() {
                None => "no agent has capabilities: add `capabilities` to the agents file".to_owned(),
                Some(_) => format!("available: {}", crate::expression::format_names(known())),
            });
            let message = format!("no agent has the capability `{name}`");
            findings.error("unknown_capability", capability.span, message).help(help);
        }
        members
    }

    /// Returns the route, or reports that its agent or its tool does not exist or is not allowed.
    fn resolve_route(
        &mut self,
        wanted: &RouteSpec<'_>,
        task: &CheckedTable<'_>,
        findings: &mut DiagnosticSink,
    ) -> Option<Route> {
        let Some((place, id, agent)) = self.agents.agents.get_full(wanted.agent) else {
            self.report_unknown_agent(wanted, findings);
            return None;
        };
        self.used_agents.insert(place);
        let Some(tool) = wanted.tool else {
            let found = findings.error("no_tool", wanted.agent_span, format!("no tool of `{id}` is set"));
            found.help("set `tool`");
            return None;
        };
        if !agent.is_tool_allowed(tool) {
            self.report_forbidden_tool(agent, tool, wanted, findings);
            return None;
        }
        self.check_tool(wanted, tool, Some(task), findings);
        Some(Route { agent: id.clone(), tool: self.intern_tool_name(tool), rank: wanted.rank })
    }

    /// Returns whether any language model is configured.
    pub(super) fn has_model(&self) -> bool {
        !self.agents.models.is_empty()
    }

    /// Returns the model that a prompt refers to, or reports that it is unknown.
    pub(super) fn resolve_model(&self, node: &DocumentNode<'_>, findings: &mut DiagnosticSink) -> Option<String> {
        llm_section::resolve_model(node, self.agents.models.iter().map(|model| model.name.as_str()), findings)
    }

    /// Returns a tool that a prompt allows: `agent.tool`, or `agent` for all of its tools.
    pub(super) fn resolve_prompt_tool(
        &mut self,
        name: &str,
        node: &DocumentNode<'_>,
        findings: &mut DiagnosticSink,
    ) -> Option<PromptTool> {
        let allowed = PromptTool::parse(name);
        let wanted = RouteSpec {
            agent: allowed.agent.as_str(),
            tool: allowed.tool.as_deref(),
            rank: 0,
            agent_span: node.span,
            tool_span: node.span,
        };
        let Some((place, _, agent)) = self.agents.agents.get_full(&allowed.agent) else {
            self.report_unknown_agent(&wanted, findings);
            return None;
        };
        self.used_agents.insert(place);
        if let Some(tool) = &allowed.tool {
            if !agent.is_tool_allowed(tool) {
                self.report_forbidden_tool(agent, tool, &wanted, findings);
                return None;
            }
            self.check_tool(&wanted, tool, None, findings);
        }
        Some(allowed)
    }

    fn report_unknown_agent(&self, wanted: &RouteSpec<'_>, findings: &mut DiagnosticSink) {
        let id = wanted.agent;
        if self.agents.disabled.iter().any(|disabled| disabled.as_str() == id) {
            let found = findings.error("disabled_agent", wanted.agent_span, format!("the agent `{id}` is disabled"));
            found.help("set `enabled = true` in its section of the agents file");
            return;
        }
        let known = || self.agents.agents.keys().map(AgentId::as_str);
        let help = findings.did_you_mean(id, known()).unwrap_or_else(|| match self.agents.agents.is_empty() {
            true => "the agents file has no agents".to_owned(),
            false => format!("the agents file has {}", crate::expression::format_names(known())),
        });
        let message = format!("the agent `{id}` is not in the agents file");
        findings.error("unknown_agent", wanted.agent_span, message).help(help);
    }

    fn report_forbidden_tool(
        &self,
        agent: &AgentSpec,
        tool: &str,
        wanted: &RouteSpec<'_>,
        findings: &mut DiagnosticSink,
    ) {
        let key = if agent.disabled_tools.iter().any(|name| name == tool) { "disabled_tools" } else { "enabled_tools" };
        let help = match &agent.enabled_tools {
            Some(enabled) if key == "enabled_tools" => findings.did_you_mean(tool, enabled.iter().map(String::as_str)),
            _ => None,
        };
        let help = help.unwrap_or_else(|| format!("change `{key}` in the section `{}`", agent.id));
        let message = format!("the agents file disables the tool `{tool}` of `{}`", agent.id);
        findings.error("tool_not_allowed", wanted.tool_span, message).help(help);
    }

    /// Checks the tool, and the arguments of `task` if it is given, against the catalog, if it contains the agent.
    fn check_tool(
        &mut self,
        wanted: &RouteSpec<'_>,
        tool: &str,
        task: Option<&CheckedTable<'_>>,
        findings: &mut DiagnosticSink,
    ) {
        let Some((id, offered)) = self.catalog.and_then(|catalog| catalog.get_key_value(wanted.agent)) else {
            return;
        };
        match offered {
            Err(_) if self.unreachable.contains(id) => {}
            Err(reason) => {
                self.unreachable.insert(id.clone());
                let message = format!("the tools of agent `{id}` are unknown: {reason}");
                let found = findings.warning("unreachable_agent", wanted.agent_span, message);
                found.help("its tools and arguments are not checked");
            }
            Ok(info) => match info.tool(tool) {
                Some(known) => {
                    if let Some(task) = task {
                        self.arguments.check(id, known, task, findings);
                    }
                }
                None if info.unusable_tools.contains_key(tool) => {
                    let reason = &info.unusable_tools[tool];
                    let message = format!("tool `{tool}` of agent `{id}` is not usable: {reason}");
                    let found = findings.error("unknown_tool", wanted.tool_span, message);
                    found.help("the `tools/list` result of the server is wrong");
                }
                None => {
                    let names = || info.tools.iter().map(|tool| tool.name.as_str());
                    let help = findings.did_you_mean(tool, names()).unwrap_or_else(|| match info.tools.is_empty() {
                        true => "it has no tools".to_owned(),
                        false => format!("it has {}", crate::expression::format_names(names())),
                    });
                    let message = format!("the agent `{id}` has no tool `{tool}`");
                    findings.error("unknown_tool", wanted.tool_span, message).help(help);
                }
            },
        }
    }
}
