//! Resolves the routes of a task: its agent or the members of its capability, then its fallbacks. `engine::router`
//! chooses among them at run time.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use super::arguments::{self, ArgumentChecker};
use crate::config::agents::agents_file::AgentsFile;
use crate::config::agents::host_section::HostSettings;
use crate::config::agents::llm_section;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::schema::keys::{FALLBACK, READ, ReadKeys, TASK, TaskKeys, USE_PROMPT, UsePromptKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::{DocumentNode, NameHasher};
use crate::model::{
    AgentId, AgentInfo, AgentPolicy, AgentSpec, Effect, HOST_AGENT, JsonObject, Operation, Plan, PromptTool, Route,
    ServerPrompt, Template,
};

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
    /// True if the host itself does a task.
    uses_host: bool,
    /// The plan files that are being read, outermost first.
    open_plans: Vec<PathBuf>,
    /// The function that reads a plan that runs as a task.
    plan_loader: Option<PlanLoader>,
}

/// A function that reads the plan at a path. It returns each problem with its position.
pub(super) type PlanLoader = fn(&Path, &mut RouteResolver<'_>) -> Result<Plan, Vec<String>>;

/// A route as the file specifies it.
struct RouteSpec<'w> {
    agent: &'w str,
    tool: Option<&'w str>,
    rank: u32,
    /// The positions of the agent's and the tool's names.
    agent_span: SourceSpan,
    tool_span: SourceSpan,
}

impl<'w> RouteSpec<'w> {
    fn new(agent: &'w DocumentNode<'w>, tool: Option<&'w DocumentNode<'w>>, rank: u32) -> Self {
        Self {
            agent: agent.as_text().unwrap_or_default(),
            tool: tool.and_then(DocumentNode::as_text),
            rank,
            agent_span: agent.span,
            tool_span: tool.unwrap_or(agent).span,
        }
    }
}

/// The help for a plan that needs a language model.
pub const NO_MODEL_HELP: &str = "add `[llm]` to the agents file with `provider` (or `base_url`) and `model`";

impl<'a> RouteResolver<'a> {
    pub(super) fn new(agents: &'a AgentsFile, catalog: Option<&'a AgentCatalog>) -> Self {
        Self {
            agents,
            catalog,
            arguments: ArgumentChecker::default(),
            used_agents: BTreeSet::new(),
            tool_names: HashSet::default(),
            unreachable: HashSet::new(),
            uses_host: false,
            open_plans: Vec::new(),
            plan_loader: None,
        }
    }

    /// Returns the resolver with a function that reads plans that run as tasks.
    pub(super) fn with_plans(self, plan_loader: PlanLoader) -> Self {
        Self { plan_loader: Some(plan_loader), ..self }
    }

    /// Reads a plan that runs as a task.
    ///
    /// # Errors
    /// Returns each problem with its position.
    pub(super) fn load_sub_plan(&mut self, path: &Path) -> Result<Plan, Vec<String>> {
        match self.plan_loader {
            Some(load) => load(path, self),
            None => Err(vec!["a plan that a model wrote cannot run other plans".to_owned()]),
        }
    }

    /// Returns the environment variables that plans can use.
    pub(super) fn plan_env(&self) -> &'a IndexMap<String, Option<String>> {
        &self.agents.plan_env
    }

    /// Records that a plan file is being read. Returns false if it is being read already.
    pub(super) fn open_plan(&mut self, path: &Path) -> bool {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_new = !self.open_plans.contains(&path);
        if is_new {
            self.open_plans.push(path);
        }
        is_new
    }

    /// Records that the innermost plan file was read.
    pub(super) fn close_plan(&mut self) {
        self.open_plans.pop();
    }

    /// Returns the policy of each agent that a route uses, in the order of the agents file.
    pub(super) fn policies(self) -> IndexMap<AgentId, AgentPolicy> {
        let named = self.used_agents.iter().filter_map(|&index| self.agents.agents.get_index(index));
        let named = named.map(|(id, agent)| (id.clone(), agent.policy.clone()));
        named.chain(self.uses_host.then(|| (HOST_AGENT.into(), AgentPolicy::of_host()))).collect()
    }

    /// Returns what plans may have the host itself do.
    pub(super) fn host_settings(&self) -> &'a HostSettings {
        &self.agents.host
    }

    /// Returns the route of a task that the host does itself.
    pub(super) fn host_route(&mut self, operation: Operation) -> Route {
        self.uses_host = true;
        Route { agent: HOST_AGENT.into(), tool: self.intern_tool_name(operation.method()), rank: 0 }
    }

    /// Returns the effect that the agents file states for all routes of a call, if it does.
    pub(super) fn configured_effect(&self, routes: &[Route]) -> Option<Effect> {
        let effect = |route: &Route| self.agents.agents.get(&route.agent)?.policy.effect;
        let first = effect(routes.first()?);
        routes.iter().all(|route| effect(route) == first).then_some(first)?
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

    /// Returns the routes of a task that reads a resource, best first.
    pub(super) fn resource_routes(
        &mut self,
        read: CheckedTable<'_, ReadKeys>,
        task: CheckedTable<'_, TaskKeys>,
        sink: &mut DiagnosticSink,
    ) -> Vec<Route> {
        let Some(agent) = read.node(&READ.agent) else { return Vec::new() };
        let mut specs = vec![RouteSpec::new(agent, None, 0)];
        for (rank, fallback) in (1..).zip(task.tables(&TASK.fallback)) {
            fallback.report_useless(&[&FALLBACK.tool], "with `read`", sink);
            specs.extend(fallback.node(&FALLBACK.agent).map(|agent| RouteSpec::new(agent, None, rank)));
        }
        let tool = self.intern_tool_name(Operation::ReadResource.method());
        let mut routes = Vec::with_capacity(specs.len());
        for spec in specs {
            let Some(agent) = self.resolve_agent(&spec, sink) else { continue };
            self.check_resources(&spec, sink);
            let route = Route { agent: agent.id.clone(), tool: Arc::clone(&tool), rank: spec.rank };
            add_route(&mut routes, route, spec.agent_span, sink);
        }
        routes
    }

    /// Returns the route to a resource of the agent, or reports that the agent does not exist.
    pub(super) fn resource_route(&mut self, agent: &str, at: SourceSpan, sink: &mut DiagnosticSink) -> Option<Route> {
        let spec = RouteSpec { agent, tool: None, rank: 0, agent_span: at, tool_span: at };
        let agent = self.resolve_agent(&spec, sink)?.id.clone();
        self.check_resources(&spec, sink);
        Some(Route { agent, tool: self.intern_tool_name(Operation::ReadResource.method()), rank: spec.rank })
    }

    /// Warns that the agent lists neither resources nor templates of them. It may have some nevertheless.
    fn check_resources(&mut self, spec: &RouteSpec<'_>, sink: &mut DiagnosticSink) {
        let Some((id, info)) = self.agent_info(spec, sink) else { return };
        let Some(offers) = &info.offers else { return };
        let is_empty = offers.resources.as_ref().is_some_and(Vec::is_empty)
            && offers.resource_templates.as_ref().is_some_and(Vec::is_empty);
        if is_empty {
            let message = format!("the agent `{id}` lists no resources");
            sink.warning("no_resources", spec.agent_span, message).help("check `kapell agents resources`");
        }
    }

    /// Returns the prompt of an agent that a task uses.
    pub(super) fn resolve_server_prompt(
        &mut self,
        prompt: CheckedTable<'_, UsePromptKeys>,
        sink: &mut DiagnosticSink,
    ) -> Option<ServerPrompt> {
        let name = prompt.node(&USE_PROMPT.name)?;
        let spec = RouteSpec::new(prompt.node(&USE_PROMPT.agent)?, None, 0);
        let agent = self.resolve_agent(&spec, sink)?.id.clone();
        if let Some((_, info)) = self.agent_info(&spec, sink) {
            check_prompt(info, prompt, (&agent, name), sink);
        }
        let name = name.as_text().unwrap_or_default();
        let with = prompt.node(&USE_PROMPT.with);
        let arguments = Template(with.map_or_else(|| JsonObject::new().into(), DocumentNode::to_json));
        Some(ServerPrompt { agent, name: name.to_owned(), arguments })
    }

    /// Returns the routes of a task that calls a tool, best first.
    pub(super) fn routes(&mut self, task: CheckedTable<'_, TaskKeys>, sink: &mut DiagnosticSink) -> Vec<Route> {
        let mut specs = self.primary_routes(task, sink);
        for (rank, fallback) in (1..).zip(task.tables(&TASK.fallback)) {
            let Some(agent) = fallback.node(&FALLBACK.agent) else { continue };
            let tool = fallback.node(&FALLBACK.tool).or_else(|| task.node(&TASK.tool));
            specs.push(RouteSpec::new(agent, tool, rank));
        }
        let mut routes: Vec<Route> = Vec::with_capacity(specs.len());
        for spec in specs {
            let Some(route) = self.resolve_route(&spec, task, sink) else { continue };
            add_route(&mut routes, route, spec.agent_span, sink);
        }
        routes
    }

    /// Returns the routes of rank 0.
    fn primary_routes<'w>(&self, task: CheckedTable<'w, TaskKeys>, sink: &mut DiagnosticSink) -> Vec<RouteSpec<'w>>
    where
        'a: 'w,
    {
        let tool = task.node(&TASK.tool);
        let key = task.key_span(&TASK.id).unwrap_or(task.span());
        match (task.node(&TASK.agent), task.node(&TASK.capability)) {
            (Some(agent), None) => vec![RouteSpec::new(agent, tool, 0)],
            (None, Some(capability)) => self.capability_routes(capability, tool, sink),
            (Some(_), Some(capability)) => {
                let error = sink.error("two_routes", capability.span, "a task has `agent` or `capability`, not both");
                error.help("`agent` names one agent; `capability` allows any agent that has it");
                Vec::new()
            }
            (None, None) => {
                let keys = [&TASK.agent, &TASK.capability, &TASK.read, &TASK.prompt, &TASK.use_prompt];
                if !keys.into_iter().any(|key| task.has(key)) {
                    let message = "the task must have `agent`, `capability`, `shell`, `http`, `read`, `prompt`, `use_prompt`, or \
                                   another step, such as `tasks`, `plan`, `ask`, or `sleep`";
                    sink.error("no_route", key, message).help("set the agent that runs it");
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
        sink: &mut DiagnosticSink,
    ) -> Vec<RouteSpec<'w>>
    where
        'a: 'w,
    {
        let name = capability.as_text().unwrap_or_default();
        let agents = self.agents;
        let specs: Vec<_> = (agents.agents.values())
            .filter_map(|agent| {
                let mapped = agent.capabilities.get(name)?;
                let spec = RouteSpec::new(capability, tool, 0);
                let spec = RouteSpec { agent: agent.id.as_str(), ..spec };
                Some(match mapped {
                    Some(tool) => RouteSpec { tool: Some(tool), tool_span: capability.span, ..spec },
                    None => spec,
                })
            })
            .collect();
        if specs.is_empty() {
            let known = agents.agents.values().flat_map(|agent| agent.capabilities.keys().map(String::as_str));
            let empty = "no agent has capabilities: add `capabilities` to the agents file";
            let help = sink.suggest(name, known, ("available:", empty));
            let message = format!("no agent has the capability `{name}`");
            sink.error("unknown_capability", capability.span, message).help(help);
        }
        specs
    }

    /// Returns the agent of a route, or reports that it does not exist or that its tool is not allowed.
    fn resolve_agent(&mut self, spec: &RouteSpec<'_>, sink: &mut DiagnosticSink) -> Option<&'a AgentSpec> {
        let Some((index, _, agent)) = self.agents.agents.get_full(spec.agent) else {
            self.report_unknown_agent(spec, sink);
            return None;
        };
        self.used_agents.insert(index);
        match spec.tool.filter(|tool| !agent.is_tool_allowed(tool)) {
            None => Some(agent),
            Some(tool) => {
                report_forbidden_tool(agent, tool, spec.tool_span, sink);
                None
            }
        }
    }

    /// Returns the route, or reports that its agent or its tool does not exist or is not allowed.
    fn resolve_route(
        &mut self,
        spec: &RouteSpec<'_>,
        task: CheckedTable<'_, TaskKeys>,
        sink: &mut DiagnosticSink,
    ) -> Option<Route> {
        let agent = &self.resolve_agent(spec, sink)?.id;
        let Some(tool) = spec.tool else {
            sink.error("no_tool", spec.agent_span, format!("no tool of `{agent}` is set")).help("set `tool`");
            return None;
        };
        self.check_tool(spec, tool, Some(task), sink);
        Some(Route { agent: agent.clone(), tool: self.intern_tool_name(tool), rank: spec.rank })
    }

    /// Returns whether any language model is configured.
    pub(super) fn has_model(&self) -> bool {
        !self.agents.models.is_empty()
    }

    /// Returns the model that a prompt refers to, or reports that it is unknown.
    pub(super) fn resolve_model(&self, node: &DocumentNode<'_>, sink: &mut DiagnosticSink) -> Option<String> {
        llm_section::resolve_model(node, self.agents.models.iter().map(|model| model.name.as_str()), sink)
    }

    /// Returns a tool that a prompt allows: `agent.tool`, or `agent` for all of its tools.
    pub(super) fn resolve_prompt_tool(
        &mut self,
        name: &str,
        node: &DocumentNode<'_>,
        sink: &mut DiagnosticSink,
    ) -> Option<PromptTool> {
        let allowed = PromptTool::parse(name);
        let (agent, tool) = (allowed.agent.as_str(), allowed.tool.as_deref());
        let spec = RouteSpec { agent, tool, ..RouteSpec::new(node, None, 0) };
        self.resolve_agent(&spec, sink)?;
        if let Some(tool) = tool {
            self.check_tool(&spec, tool, None, sink);
        }
        Some(allowed)
    }

    fn report_unknown_agent(&self, spec: &RouteSpec<'_>, sink: &mut DiagnosticSink) {
        let id = spec.agent;
        if self.agents.disabled.iter().any(|disabled| disabled.as_str() == id) {
            let error = sink.error("disabled_agent", spec.agent_span, format!("the agent `{id}` is disabled"));
            error.help("set `enabled = true` in its section of the agents file");
            return;
        }
        let known = self.agents.agents.keys().map(AgentId::as_str);
        let help = sink.suggest(id, known, ("the agents file has", "the agents file has no agents"));
        let message = format!("the agent `{id}` is not in the agents file");
        sink.error("unknown_agent", spec.agent_span, message).help(help);
    }

    /// Returns the description of an agent from the catalog, if it contains the agent. Reports once that it is unknown.
    fn agent_info(&mut self, spec: &RouteSpec<'_>, sink: &mut DiagnosticSink) -> Option<(&'a AgentId, &'a AgentInfo)> {
        let (id, offered) = self.catalog?.get_key_value(spec.agent)?;
        let report = |reason: &String| {
            if self.unreachable.insert(id.clone()) {
                let message = format!("the tools of agent `{id}` are unknown: {reason}");
                let warning = sink.warning("unreachable_agent", spec.agent_span, message);
                warning.help("its tools and arguments are not checked");
            }
        };
        offered.as_ref().map_err(report).ok().map(|info| (id, info))
    }

    /// Checks the tool, and the arguments of `task` if it is given, against the catalog, if it contains the agent.
    fn check_tool(
        &mut self,
        spec: &RouteSpec<'_>,
        tool: &str,
        task: Option<CheckedTable<'_, TaskKeys>>,
        sink: &mut DiagnosticSink,
    ) {
        let Some((id, info)) = self.agent_info(spec, sink) else { return };
        if let Some(known) = info.tool(tool) {
            if let (Some(agent), Some(task)) = (self.agents.agents.get(id), task) {
                self.arguments.check(agent, known, task, sink);
            }
        } else if let Some(reason) = info.unusable_tools.get(tool) {
            let message = format!("tool `{tool}` of agent `{id}` is not usable: {reason}");
            let error = sink.error("unknown_tool", spec.tool_span, message);
            error.help("the `tools/list` result of the server is wrong");
        } else {
            let names = info.tools.iter().map(|tool| tool.name.as_str());
            let help = sink.suggest(tool, names, ("it has", "it has no tools"));
            sink.error("unknown_tool", spec.tool_span, format!("the agent `{id}` has no tool `{tool}`")).help(help);
        }
    }
}

/// Checks the name and the arguments of a prompt against those that the agent lists.
fn check_prompt(
    info: &AgentInfo,
    prompt: CheckedTable<'_, UsePromptKeys>,
    (agent, name): (&AgentId, &DocumentNode<'_>),
    sink: &mut DiagnosticSink,
) {
    let Some(prompts) = info.offers.as_ref().and_then(|offers| offers.prompts.as_ref()) else { return };
    let id = name.as_text().unwrap_or_default();
    let Some(known) = prompts.iter().find(|known| known.name == id) else {
        let names = prompts.iter().map(|known| known.name.as_str());
        let help = sink.suggest(id, names, ("it has", "it has no prompts"));
        let message = format!("the agent `{agent}` has no prompt `{id}`");
        sink.error("unknown_prompt", name.span, message).help(help);
        return;
    };
    let given: Vec<&str> = prompt.entries(&USE_PROMPT.with).map(|(argument, _)| argument).collect();
    for argument in known.arguments.iter().filter(|argument| argument.required) {
        if !given.contains(&argument.name.as_str()) {
            let at = prompt.key_span(&USE_PROMPT.with).unwrap_or(name.span);
            let message = format!("`{id}` requires the argument `{}`", argument.name);
            let description = argument.description.as_ref();
            let help = description.map(|text| format!("`{}`: {}", argument.name, arguments::truncate(text)));
            sink.error("missing_argument", at, message).help_if_known(help);
        }
    }
    for (argument, entry) in prompt.entries(&USE_PROMPT.with) {
        if !known.arguments.iter().any(|known| known.name == argument) {
            let names = known.arguments.iter().map(|known| known.name.as_str());
            let help = sink.suggest(argument, names, ("its arguments are", "it has no arguments"));
            let message = format!("`{id}` has no argument `{argument}`");
            sink.error("unknown_argument", entry.key_span, message).help(help);
        }
    }
}

/// Adds a route, or reports that it is a duplicate.
fn add_route(routes: &mut Vec<Route>, route: Route, at: SourceSpan, sink: &mut DiagnosticSink) {
    if routes.iter().any(|other| other.agent == route.agent && other.tool == route.tool) {
        let message = format!("duplicate route: `{}` on `{}`", route.tool, route.agent);
        sink.warning("duplicate_route", at, message).help("remove it");
        return;
    }
    routes.push(route);
}

fn report_forbidden_tool(agent: &AgentSpec, tool: &str, at: SourceSpan, sink: &mut DiagnosticSink) {
    let key = if agent.disabled_tools.iter().any(|name| name == tool) { "disabled_tools" } else { "enabled_tools" };
    let help = match &agent.enabled_tools {
        Some(enabled) if key == "enabled_tools" => sink.did_you_mean(tool, enabled.iter().map(String::as_str)),
        _ => None,
    };
    let help = help.unwrap_or_else(|| format!("change `{key}` in the section `{}`", agent.id));
    let message = format!("the agents file disables the tool `{tool}` of `{}`", agent.id);
    sink.error("tool_not_allowed", at, message).help(help);
}
