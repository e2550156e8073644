//! Lists the tools of one agent, and checks arguments and results against their schemas.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    ClientRequest, ErrorCode, ErrorData, ListToolsRequest, PaginatedRequestParams, ServerCapabilities, ServerPeerInfo,
};
use rmcp::{Peer, RoleClient, ServiceError};
use serde_json::Value;
use tokio::time::Instant;

use super::validation::ToolSchema;
use crate::mcp::message::failure;
use crate::mcp::message::service_result::{UNREADABLE, unwrap_text};
use crate::mcp::message::tool_listing::ToolListing;
use crate::mcp::transport::http_response::HttpError;
use crate::mcp::transport::mcp_headers::annotation_error;
use crate::mcp::transport::request_failure::{as_http_error, is_transient};
use crate::model::{AgentId, AgentInfo, AgentSpec, ConnectionTransport, Failure, FailureKind, ServerQuirk, ToolInfo};

/// The longest time for which a tool list counts as fresh, whatever the agent requests.
const MAX_TTL: Duration = Duration::from_secs(60 * 60);

/// The tools of an agent, as last listed.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// The server information and the tools.
    pub(crate) info: Arc<AgentInfo>,
    schemas: HashMap<String, ToolSchemas>,
    /// The tools that can only be called as tasks.
    task_only_tools: HashSet<String>,
    /// The time from which the list may be out of date, by the TTL of a modern agent. None for a legacy agent, which
    /// announces changes.
    stale_from: Option<Instant>,
    /// The error of an agent that refused to list its tools, but has resources or prompts.
    pub(crate) refusal: Option<ErrorData>,
}

/// The schemas of a tool, compiled on first use.
#[derive(Debug)]
struct ToolSchemas {
    input: ToolSchema,
    output: ToolSchema,
}

impl Default for ToolSchemas {
    fn default() -> Self {
        Self { input: ToolSchema::of_arguments(), output: ToolSchema::default() }
    }
}

/// What an agent's self-description does not contain: how the host is connected to it.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) transport: ConnectionTransport,
    pub(crate) quirks: Vec<ServerQuirk>,
}

impl Catalog {
    /// Lists all pages of the agent's tools over the connection `about`. An agent that declares only resources or
    /// prompts is not asked for tools, and a list that it refuses is empty, with a warning.
    ///
    /// # Errors
    /// Returns the error of the service, if the agent declares tools and nothing else.
    pub(crate) async fn list(
        peer: &Peer<RoleClient>,
        spec: &Arc<AgentSpec>,
        about: &ConnectionInfo,
    ) -> Result<Self, ServiceError> {
        let server = peer.peer_info();
        let has_tools = declares(peer, |capabilities| capabilities.tools.is_some());
        let has_others =
            declares(peer, |capabilities| capabilities.resources.is_some() || capabilities.prompts.is_some());
        let listed = Instant::now();
        // Some servers have tools without declaring any capability, so they are asked as well.
        let pages = match has_tools || !has_others {
            true => list_pages(peer, spec).await,
            false => Ok(ToolListing::default()),
        };
        let (mut listing, refusal) = match pages {
            Ok(listing) => (listing, None),
            Err(error) if !has_tools && is_refusal(&error) => (ToolListing::default(), None),
            Err(ServiceError::McpError(error)) if has_others => (ToolListing::default(), Some(error)),
            Err(error) => return Err(error),
        };
        let modern = server.as_ref().is_some_and(|info| !info.protocol_version.has_initialize());
        if modern && about.transport == ConnectionTransport::StreamableHttp {
            listing.reject_tools(|tool| annotation_error(&tool.input_schema));
        }
        let mut warnings = listing.warnings();
        let refused = |error: &ErrorData| format!("the agent refused `tools/list`: {}", error.message.trim());
        warnings.extend(refusal.as_ref().map(|error| failure::agent_message(&refused(error))));
        for warning in &warnings {
            tracing::warn!(agent = %spec.id, warning, "the agent's list of tools has defects");
        }
        let stale_from = modern.then(|| listed + listing.ttl().min(MAX_TTL));
        let ToolListing { tools, task_only_tools: tasks, unusable: unusable_tools, .. } = listing;
        let (transport, quirks) = (Some(about.transport), about.quirks.clone());
        let info = AgentInfo { transport, quirks, warnings, unusable_tools, ..agent_info(server.as_deref(), tools) };
        Ok(Self { task_only_tools: tasks, stale_from, refusal, ..Self::new(info) })
    }

    fn new(info: AgentInfo) -> Self {
        let schemas = info.tools.iter().map(|tool| (tool.name.clone(), ToolSchemas::default())).collect();
        Self { info: Arc::new(info), schemas, task_only_tools: HashSet::new(), stale_from: None, refusal: None }
    }

    /// Returns whether the list may be out of date, so that it must not cause a rejection.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale_from.is_some_and(|moment| Instant::now() >= moment)
    }

    /// Returns whether a tool can only be called as a task.
    pub(crate) fn needs_task(&self, tool: &str) -> bool {
        self.task_only_tools.contains(tool)
    }

    /// Checks `arguments` against the tool's `inputSchema`, and adds its defaults if they are needed. Returns the reason
    /// if they cannot be checked, but only the first time.
    ///
    /// # Errors
    /// Returns [`FailureKind::InvalidArguments`] that names each violation.
    pub(crate) async fn check_arguments(
        &self,
        agent: &AgentId,
        tool: &ToolInfo,
        arguments: &mut Value,
    ) -> Result<Option<String>, Failure> {
        let Some(schemas) = self.schemas.get(&tool.name) else { return Ok(None) };
        let name = &tool.name;
        let unchecked = schemas.input.check_arguments(&tool.input_schema, arguments).await.map_err(|violations| {
            let message = format!("the arguments of `{name}` of agent `{agent}` do not match its schema: {violations}");
            let help = format!(
                "fix the task's `with`; if the server accepts such arguments, set `check_arguments = \"warn\"` in \
                 `[agents.{agent}]`"
            );
            Failure::new(FailureKind::InvalidArguments, message).with_help(help)
        })?;
        Ok(unchecked.map(|reason| format!("the arguments of `{name}` are not checked: {reason}")))
    }

    /// Checks structured content against the tool's `outputSchema`, if it has one. Returns the reason if it cannot be
    /// checked, but only the first time.
    ///
    /// # Errors
    /// Returns [`FailureKind::InvalidResult`] that names each violation or the lack of structured content.
    pub(crate) async fn check_result(
        &self,
        agent: &AgentId,
        tool: &ToolInfo,
        structured: Option<&mut Value>,
    ) -> Result<Option<String>, Failure> {
        let (Some(schema), Some(schemas)) = (&tool.output_schema, self.schemas.get(&tool.name)) else {
            return Ok(None);
        };
        let name = &tool.name;
        let invalid = |what: &str| {
            let message = format!("the result of `{name}` of agent `{agent}` {what}");
            Failure::new(FailureKind::InvalidResult, message)
        };
        let structured =
            structured.ok_or_else(|| invalid("has no structured content, although the tool has an output schema"))?;
        let unchecked = schemas.output.check(schema, structured).await;
        let unchecked =
            unchecked.map_err(|violations| invalid(&format!("does not match its output schema: {violations}")))?;
        Ok(unchecked.map(|reason| format!("the result of `{name}` is not checked: {reason}")))
    }

    /// Returns the failure of a call whose tool is not in the catalog.
    pub(crate) fn unknown_tool(&self, spec: &AgentSpec, tool: &str) -> Failure {
        let agent = &spec.id;
        if !spec.is_tool_allowed(tool) {
            let message = format!("tool `{tool}` of agent `{agent}` is not enabled");
            let help = format!("see `enabled_tools` and `disabled_tools` in `[agents.{agent}]`");
            return Failure::new(FailureKind::UnknownTool, message).with_help(help);
        }
        if let Some(reason) = self.info.unusable_tools.get(tool) {
            let message = format!("tool `{tool}` of agent `{agent}` is not usable: {reason}");
            return Failure::new(FailureKind::UnknownTool, message)
                .with_help("the `tools/list` result of the server is wrong");
        }
        if let Some(error) = &self.refusal {
            let failure = failure::from_rpc(agent, error);
            let message = format!("tool `{tool}` is unknown, because `tools/list` failed: {}", failure.message);
            return Failure { message, ..failure };
        }
        let failure = Failure::new(FailureKind::UnknownTool, format!("agent `{agent}` has no tool `{tool}`"));
        let names = self.info.tools.iter().map(|tool| tool.name.as_str());
        let candidates = names.clone().map(|name| (strsim::normalized_damerau_levenshtein(name, tool), name));
        match candidates.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((likeness, name)) if likeness >= 0.6 => failure.with_help(format!("did you mean `{name}`?")),
            Some(_) => {
                let names: Vec<_> = names.map(|name| format!("`{name}`")).take(20).collect();
                failure.with_help(format!("it has {}", names.join(", ")))
            }
            None => failure.with_help("it has no tools"),
        }
    }
}

/// Returns whether the agent declares capabilities.
pub(super) fn declares(peer: &Peer<RoleClient>, has: impl FnOnce(&ServerCapabilities) -> bool) -> bool {
    peer.peer_info().is_some_and(|server| has(&server.capabilities))
}

/// Returns whether the agent received a request and refused it.
fn is_refusal(error: &ServiceError) -> bool {
    match error {
        ServiceError::McpError(error) => error.code != UNREADABLE,
        ServiceError::TransportSend(error) => matches!(
            as_http_error(error),
            Some(HttpError::Status { status, .. }) if status.is_client_error() && !is_transient(*status)
        ),
        _ => false,
    }
}

/// Lists all pages of the tools. An agent that does not know the method has none.
async fn list_pages(peer: &Peer<RoleClient>, spec: &Arc<AgentSpec>) -> Result<ToolListing, ServiceError> {
    let mut listing = ToolListing::default();
    let (mut cursor, mut seen) = (None, HashSet::new());
    loop {
        let page = PaginatedRequestParams::default().with_cursor(cursor.take());
        let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(page));
        let answer = match peer.send_request(request).await {
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => return Ok(listing),
            other => other?,
        };
        let page = unwrap_text(answer).map_err(|_| ServiceError::UnexpectedResponse)?;
        let (read, next) = listing
            .read(page, spec.clone())
            .await
            .map_err(|reason| ServiceError::McpError(ErrorData::new(UNREADABLE, reason, None)))?;
        listing = read;
        match next {
            Some(next) if listing.has_room() && seen.insert(next.clone()) => cursor = Some(next),
            _ => return Ok(listing),
        }
    }
}

fn agent_info(info: Option<&ServerPeerInfo>, tools: Vec<ToolInfo>) -> AgentInfo {
    let server = info.and_then(|info| info.server_info.as_ref());
    AgentInfo {
        protocol: info.map(|info| info.protocol_version.to_string()).unwrap_or_default(),
        server: server
            .map(|server| failure::agent_message(&format!("{} {}", server.name, server.version)))
            .filter(|server| !server.is_empty()),
        instructions: info.and_then(|info| info.instructions.clone()),
        tools,
        ..AgentInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mcp::message::tool_listing;
    use crate::model::samples::agent_spec;

    fn catalog(tools: &[Value]) -> Catalog {
        Catalog::new(agent_info(None, tool_listing::tests::tools(tools)))
    }

    fn spec() -> AgentSpec {
        AgentSpec { disabled_tools: vec!["drop".to_owned()], ..agent_spec("a") }
    }

    #[tokio::test]
    async fn argument_errors_list_every_violation() {
        let schema = json!({
            "type": "object", "required": ["q"],
            "properties": {"limit": {"type": "integer"}, "q": {"type": "string"}}, "additionalProperties": false,
        });
        let catalog = catalog(&[json!({"name": "t", "inputSchema": schema})]);
        let tool = catalog.info.tool("t").unwrap();
        let agent = AgentId::from("a");
        assert_eq!(catalog.check_arguments(&agent, tool, &mut json!({"q": "x", "limit": 1})).await, Ok(None));
        let failure = catalog.check_arguments(&agent, tool, &mut json!({"limit": "many", "x": 1})).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidArguments);
        for part in ["`/limit`: \"many\" is not of type \"integer\"", "\"q\" is a required property", "'x'"] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn invalid_schemas_are_not_checked() {
        let catalog = catalog(&[json!({"name": "t", "inputSchema": {"type": "nonsense"}})]);
        let tool = catalog.info.tool("t").unwrap();
        let agent = AgentId::from("a");
        let warning = catalog.check_arguments(&agent, tool, &mut json!({"x": 1})).await.unwrap().unwrap();
        assert!(warning.starts_with("the arguments of `t` are not checked: invalid JSON Schema: "), "{warning}");
        assert_eq!(catalog.check_arguments(&agent, tool, &mut json!({"x": 1})).await, Ok(None));
    }

    #[tokio::test]
    async fn results_are_checked_against_the_output_schema() {
        let output = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let tools = [json!({"name": "t", "inputSchema": {"type": "object"}, "outputSchema": output})];
        let catalog = catalog(&tools);
        let tool = catalog.info.tool("t").unwrap();
        for (mut value, expected) in [
            (Some(json!({"n": 1})), Ok(None)),
            (Some(json!({"n": "1"})), Err(FailureKind::InvalidResult)),
            (None, Err(FailureKind::InvalidResult)),
        ] {
            let result = catalog.check_result(&AgentId::from("a"), tool, value.as_mut()).await;
            assert_eq!(result.map_err(|failure| failure.kind), expected);
        }
    }

    #[test]
    fn unknown_tools_get_a_suggestion() {
        let tool = |name| json!({"name": name, "inputSchema": {"type": "object"}});
        let catalog = catalog(&[tool("search"), tool("fetch")]);
        let help = |name| catalog.unknown_tool(&spec(), name).help.unwrap();
        assert_eq!(help("serach"), "did you mean `search`?");
        assert_eq!(help("zzz"), "it has `search`, `fetch`");
        assert_eq!(help("drop"), "see `enabled_tools` and `disabled_tools` in `[agents.a]`");
    }
}
