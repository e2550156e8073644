//! Finds where a task can run: its agent or the members of its capability, then its fallbacks.
//! Never ranks by what happened; that is `engine::router`.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use indexmap::IndexMap;

use super::{Catalogue, arguments::Arguments};
use crate::{
    config::{
        agents_file::AgentsFile, findings::Findings, keys::FALLBACK, map::NameHasher, model, shape::Fields,
        source::Extent, tree::Node,
    },
    model::{AgentId, AgentPolicy, AgentSpec, PromptTool, Route},
};

/// Knows the agents, and remembers which of them routes name.
pub(super) struct Router<'a> {
    agents: &'a AgentsFile,
    catalogue: Option<&'a Catalogue>,
    arguments: Arguments<'a>,
    /// The places of those agents in the agents file.
    named: BTreeSet<usize>,
    /// The names of tools that routes have, each once.
    tools: HashSet<Arc<str>, NameHasher>,
    unreachable: HashSet<AgentId>,
}

/// A route as far as the file gives it.
struct Wanted<'w> {
    agent: &'w str,
    tool: Option<&'w str>,
    rank: u32,
    /// Where the agent, and where the tool is named.
    agent_at: Extent,
    tool_at: Extent,
}

impl<'a> Router<'a> {
    pub(super) fn new(agents: &'a AgentsFile, catalogue: Option<&'a Catalogue>) -> Self {
        Self {
            agents,
            catalogue,
            arguments: Arguments::default(),
            named: BTreeSet::new(),
            tools: HashSet::default(),
            unreachable: HashSet::new(),
        }
    }

    /// What the agents file said of each agent that a route names, in the order of the agents file.
    pub(super) fn policies(self) -> IndexMap<AgentId, AgentPolicy> {
        let named = self.named.iter().filter_map(|&place| self.agents.agents.get_index(place));
        named.map(|(id, agent)| (id.clone(), agent.policy.clone())).collect()
    }

    /// The name of a tool, shared by all routes that have it.
    fn tool(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.tools.get(name) {
            return Arc::clone(known);
        }
        let tool: Arc<str> = name.into();
        self.tools.insert(Arc::clone(&tool));
        tool
    }

    /// The routes of a task, best first.
    pub(super) fn routes(&mut self, task: &Fields<'_>, findings: &mut Findings) -> Vec<Route> {
        let mut wanted = self.first(task, findings);
        for (index, fallback) in task.sections("fallback", &FALLBACK).into_iter().enumerate() {
            let Some(agent) = fallback.node("agent") else { continue };
            let tool = fallback.node("tool").or_else(|| task.node("tool"));
            wanted.push(Wanted {
                agent: agent.as_text().unwrap_or_default(),
                tool: tool.and_then(Node::as_text),
                rank: u32::try_from(index + 1).unwrap_or(u32::MAX),
                agent_at: agent.extent,
                tool_at: tool.map_or(agent.extent, |tool| tool.extent),
            });
        }
        let mut routes: Vec<Route> = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let at = wanted.agent_at;
            let Some(route) = self.route(&wanted, task, findings) else { continue };
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
    fn first<'w>(&self, task: &Fields<'w>, findings: &mut Findings) -> Vec<Wanted<'w>>
    where
        'a: 'w,
    {
        let tool = task.node("tool");
        let key = task.key_extent("id").unwrap_or(task.extent);
        match (task.node("agent"), task.node("capability")) {
            (Some(agent), None) => vec![Wanted {
                agent: agent.as_text().unwrap_or_default(),
                tool: tool.and_then(Node::as_text),
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
    fn members<'w>(
        &self,
        capability: &'w Node<'w>,
        tool: Option<&'w Node<'w>>,
        findings: &mut Findings,
    ) -> Vec<Wanted<'w>>
    where
        'a: 'w,
    {
        let name = capability.as_text().unwrap_or_default();
        let agents = self.agents;
        let members: Vec<_> = (agents.agents.values())
            .filter_map(|agent| {
                let mapped = agent.capabilities.get(name)?;
                Some(Wanted {
                    agent: agent.id.as_str(),
                    tool: mapped.as_deref().or_else(|| tool?.as_text()),
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
    fn route(&mut self, wanted: &Wanted<'_>, task: &Fields<'_>, findings: &mut Findings) -> Option<Route> {
        let Some((place, id, agent)) = self.agents.agents.get_full(wanted.agent) else {
            self.unknown_agent(wanted, findings);
            return None;
        };
        self.named.insert(place);
        let Some(tool) = wanted.tool else {
            let found = findings.error("no_tool", wanted.agent_at, format!("no tool of `{id}` is named"));
            found.help("say which with `tool`");
            return None;
        };
        if !agent.allows(tool) {
            self.forbidden(agent, tool, wanted, findings);
            return None;
        }
        self.check_tool(wanted, tool, Some(task), findings);
        Some(Route { agent: id.clone(), tool: self.tool(tool), rank: wanted.rank })
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
            agent: allowed.agent.as_str(),
            tool: allowed.tool.as_deref(),
            rank: 0,
            agent_at: node.extent,
            tool_at: node.extent,
        };
        let Some((place, _, agent)) = self.agents.agents.get_full(&allowed.agent) else {
            self.unknown_agent(&wanted, findings);
            return None;
        };
        self.named.insert(place);
        if let Some(tool) = &allowed.tool {
            if !agent.allows(tool) {
                self.forbidden(agent, tool, &wanted, findings);
                return None;
            }
            self.check_tool(&wanted, tool, None, findings);
        }
        Some(allowed)
    }

    fn unknown_agent(&self, wanted: &Wanted<'_>, findings: &mut Findings) {
        let id = wanted.agent;
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

    fn forbidden(&self, agent: &AgentSpec, tool: &str, wanted: &Wanted<'_>, findings: &mut Findings) {
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
    fn check_tool(&mut self, wanted: &Wanted<'_>, tool: &str, task: Option<&Fields<'_>>, findings: &mut Findings) {
        let Some((id, offered)) = self.catalogue.and_then(|catalogue| catalogue.get_key_value(wanted.agent)) else {
            return;
        };
        match offered {
            Err(_) if self.unreachable.contains(id) => {}
            Err(reason) => {
                self.unreachable.insert(id.clone());
                let message = format!("the agent `{id}` could not be asked for its tools: {reason}");
                let found = findings.warning("unreachable_agent", wanted.agent_at, message);
                found.help("its tools and their arguments are not checked");
            }
            Ok(info) => match info.tool(tool) {
                Some(known) => {
                    if let Some(task) = task {
                        self.arguments.check(id, known, task, findings);
                    }
                }
                None if info.left_out.contains_key(tool) => {
                    let reason = &info.left_out[tool];
                    let message = format!("tool `{tool}` of agent `{id}` is listed but cannot be used: {reason}");
                    let found = findings.error("unknown_tool", wanted.tool_at, message);
                    found.help("the server has to correct its `tools/list`");
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
