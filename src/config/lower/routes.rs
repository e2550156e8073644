//! Finds where a task can run: its agent or the members of its capability, then its fallbacks.
//! Never ranks by what happened; that is `engine::router`.

use std::{collections::HashSet, sync::Arc};

use indexmap::IndexMap;

use super::{Catalogue, arguments::Arguments};
use crate::{
    config::{
        agents_file::AgentsFile, findings::Findings, keys::FALLBACK, model, shape::Fields, source::Extent, tree::Node,
    },
    model::{AgentId, AgentPolicy, AgentSpec, PromptTool, Route},
};

/// Knows the agents, and remembers which of them routes name.
pub(super) struct Router<'a> {
    agents: &'a AgentsFile,
    catalogue: Option<&'a Catalogue>,
    arguments: Arguments<'a>,
    named: IndexMap<AgentId, AgentPolicy>,
    unreachable: HashSet<AgentId>,
}

/// A route as far as the file gives it.
struct Wanted {
    agent: AgentId,
    tool: Option<Arc<str>>,
    rank: u32,
    /// Where the agent, and where the tool is named.
    agent_at: Extent,
    tool_at: Extent,
}

impl<'a> Router<'a> {
    pub(super) fn new(agents: &'a AgentsFile, catalogue: Option<&'a Catalogue>) -> Self {
        Self { agents, catalogue, arguments: Arguments::default(), named: IndexMap::new(), unreachable: HashSet::new() }
    }

    /// What the agents file said of each agent that a route names, in the order of the agents file.
    pub(super) fn policies(mut self) -> IndexMap<AgentId, AgentPolicy> {
        self.named.sort_by_cached_key(|id, _| self.agents.agents.get_index_of(id));
        self.named
    }

    /// The routes of a task, best first.
    pub(super) fn routes(&mut self, task: &Fields<'_>, findings: &mut Findings) -> Vec<Route> {
        let mut wanted = self.first(task, findings);
        for (index, fallback) in task.sections("fallback", &FALLBACK).into_iter().enumerate() {
            let Some(agent) = fallback.node("agent") else { continue };
            let tool = fallback.node("tool").or_else(|| task.node("tool"));
            wanted.push(Wanted {
                agent: agent.as_text().unwrap_or_default().into(),
                tool: tool.and_then(Node::as_text).map(Arc::from),
                rank: u32::try_from(index + 1).unwrap_or(u32::MAX),
                agent_at: agent.extent,
                tool_at: tool.map_or(agent.extent, |tool| tool.extent),
            });
        }
        let mut routes: Vec<Route> = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let at = wanted.agent_at;
            let Some(route) = self.route(wanted, task, findings) else { continue };
            if routes.iter().any(|other| other.agent == route.agent && other.tool == route.tool) {
                let message = format!("`{}` on `{}` is a route of this task already", route.tool, route.agent);
                findings.warning("duplicate_route", at, message).help("leave it out");
                continue;
            }
            routes.push(route);
        }
        routes
    }

    /// The routes of rank 0.
    fn first(&self, task: &Fields<'_>, findings: &mut Findings) -> Vec<Wanted> {
        let tool = task.node("tool");
        let key = task.key_extent("id").unwrap_or(task.extent);
        match (task.node("agent"), task.node("capability")) {
            (Some(agent), None) => vec![Wanted {
                agent: agent.as_text().unwrap_or_default().into(),
                tool: tool.and_then(Node::as_text).map(Arc::from),
                rank: 0,
                agent_at: agent.extent,
                tool_at: tool.map_or(agent.extent, |tool| tool.extent),
            }],
            (None, Some(capability)) => self.members(capability, tool, findings),
            (Some(_), Some(capability)) => {
                let found =
                    findings.error("two_routes", capability.extent, "a task has `agent` or `capability`, not both");
                found.help("`agent` names one agent; `capability` any that lists it");
                Vec::new()
            }
            (None, None) => {
                if !task.has("agent") && !task.has("capability") && !task.has("prompt") {
                    let found = findings.error("no_route", key, "the task has neither `agent` nor `capability`");
                    found.help("say which agent runs it");
                }
                Vec::new()
            }
        }
    }

    /// Every agent that lists a capability, each with the tool that serves it there.
    fn members(&self, capability: &Node<'_>, tool: Option<&Node<'_>>, findings: &mut Findings) -> Vec<Wanted> {
        let name = capability.as_text().unwrap_or_default();
        let members: Vec<_> = (self.agents.agents.values())
            .filter_map(|agent| {
                let mapped = agent.capabilities.get(name)?;
                Some(Wanted {
                    agent: agent.id.clone(),
                    tool: mapped.as_deref().or_else(|| tool?.as_text()).map(Arc::from),
                    rank: 0,
                    agent_at: capability.extent,
                    tool_at: if mapped.is_some() { capability.extent } else { tool.unwrap_or(capability).extent },
                })
            })
            .collect();
        if members.is_empty() {
            let known = || self.agents.agents.values().flat_map(|agent| agent.capabilities.keys().map(String::as_str));
            let help = findings.did_you_mean(name, known()).unwrap_or_else(|| match known().next() {
                None => "no agent lists any: add `capabilities` to the agents file".to_owned(),
                Some(_) => format!("there is {}", crate::expression::listed(known())),
            });
            let message = format!("no agent lists the capability `{name}`");
            findings.error("unknown_capability", capability.extent, message).help(help);
        }
        members
    }

    /// A route, if its agent and its tool exist as far as that is known.
    fn route(&mut self, wanted: Wanted, task: &Fields<'_>, findings: &mut Findings) -> Option<Route> {
        let id = &wanted.agent;
        let Some(agent) = self.agents.agents.get(id) else {
            self.unknown_agent(&wanted, findings);
            return None;
        };
        self.named.entry(id.clone()).or_insert_with(|| agent.policy.clone());
        let Some(tool) = wanted.tool.clone() else {
            let found = findings.error("no_tool", wanted.agent_at, format!("no tool of `{id}` is named"));
            found.help("say which with `tool`");
            return None;
        };
        if !agent.allows(&tool) {
            self.forbidden(agent, &tool, &wanted, findings);
            return None;
        }
        self.check_tool(&wanted, &tool, Some(task), findings);
        Some(Route { agent: id.clone(), tool, rank: wanted.rank })
    }

    /// Whether prompts can be answered.
    pub(super) fn has_model(&self) -> bool {
        !self.agents.models.is_empty()
    }

    /// A model that a prompt names.
    pub(super) fn model(&self, node: &Node<'_>, findings: &mut Findings) -> Option<String> {
        model::named(node, self.agents.models.iter().map(|model| model.name.as_str()), findings)
    }

    /// A tool that a prompt allows: `agent.tool`, or `agent` for all of its tools.
    pub(super) fn prompt_tool(&mut self, name: &str, node: &Node<'_>, findings: &mut Findings) -> Option<PromptTool> {
        let allowed = PromptTool::parse(name);
        let wanted = Wanted {
            agent: allowed.agent.clone(),
            tool: allowed.tool.clone(),
            rank: 0,
            agent_at: node.extent,
            tool_at: node.extent,
        };
        let Some(agent) = self.agents.agents.get(&allowed.agent) else {
            self.unknown_agent(&wanted, findings);
            return None;
        };
        self.named.entry(agent.id.clone()).or_insert_with(|| agent.policy.clone());
        if let Some(tool) = &allowed.tool {
            if !agent.allows(tool) {
                self.forbidden(agent, tool, &wanted, findings);
                return None;
            }
            self.check_tool(&wanted, tool, None, findings);
        }
        Some(allowed)
    }

    fn unknown_agent(&self, wanted: &Wanted, findings: &mut Findings) {
        let id = wanted.agent.as_str();
        if self.agents.disabled.iter().any(|disabled| disabled.as_str() == id) {
            let found = findings.error("disabled_agent", wanted.agent_at, format!("the agent `{id}` is switched off"));
            found.help("set `enabled = true` in its section of the agents file");
            return;
        }
        let known = || self.agents.agents.keys().map(AgentId::as_str);
        let help = findings.did_you_mean(id, known()).unwrap_or_else(|| match self.agents.agents.is_empty() {
            true => "the agents file has no agents".to_owned(),
            false => format!("the agents file has {}", crate::expression::listed(known())),
        });
        let message = format!("the agent `{id}` is not in the agents file");
        findings.error("unknown_agent", wanted.agent_at, message).help(help);
    }

    fn forbidden(&self, agent: &AgentSpec, tool: &str, wanted: &Wanted, findings: &mut Findings) {
        let key = if agent.disabled_tools.iter().any(|name| name == tool) { "disabled_tools" } else { "enabled_tools" };
        let help = match &agent.enabled_tools {
            Some(enabled) if key == "enabled_tools" => findings.did_you_mean(tool, enabled.iter().map(String::as_str)),
            _ => None,
        };
        let help = help.unwrap_or_else(|| format!("change `{key}` in the section `{}`", agent.id));
        let message = format!("the agents file does not let `{tool}` of `{}` be called", agent.id);
        findings.error("tool_not_allowed", wanted.tool_at, message).help(help);
    }

    /// Checks the tool, and the task's arguments if it gives them, against what the agent said, if it was asked.
    fn check_tool(&mut self, wanted: &Wanted, tool: &str, task: Option<&Fields<'_>>, findings: &mut Findings) {
        let id = &wanted.agent;
        match self.catalogue.and_then(|catalogue| catalogue.get(id)) {
            None => {}
            Some(Err(_)) if self.unreachable.contains(id) => {}
            Some(Err(reason)) => {
                self.unreachable.insert(id.clone());
                let message = format!("the agent `{id}` could not be asked for its tools: {reason}");
                let found = findings.warning("unreachable_agent", wanted.agent_at, message);
                found.help("its tools and their arguments are not checked");
            }
            Some(Ok(info)) => match info.tool(tool) {
                Some(known) => {
                    if let Some(task) = task {
                        self.arguments.check(id, known, task, findings);
                    }
                }
                None => {
                    let names = || info.tools.iter().map(|tool| tool.name.as_str());
                    let help = findings.did_you_mean(tool, names()).unwrap_or_else(|| match info.tools.is_empty() {
                        true => "it has no tools".to_owned(),
                        false => format!("it has {}", crate::expression::listed(names())),
                    });
                    let message = format!("the agent `{id}` has no tool `{tool}`");
                    findings.error("unknown_tool", wanted.tool_at, message).help(help);
                }
            },
        }
    }
}
