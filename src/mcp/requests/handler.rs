//! Receives the requests and notifications of an agent, and passes them to the host.
#![expect(
    deprecated,
    reason = "sampling, roots, and logging are deprecated in 2026-07-28, and existing servers use them"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, CustomRequest, CustomResult,
    ElicitRequestParams, ElicitResult, ElicitationCapability, ErrorData, ExtensionCapabilities,
    FormElicitationCapability, GetExtensions as _, Implementation, JsonRpcMessage, ListRootsResult, ProtocolVersion,
    RequestId, Root, RootsCapabilities, SamplingCapability, ServerJsonRpcMessage, ServerNotification, ServerRequest,
    TASKS_EXTENSION_ID, UrlElicitationCapability,
};
use rmcp::service::RequestContext;
use rmcp::{ClientHandler, RoleClient};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection_state::ConnectionState;
use super::open_calls::CandidateCalls;
use crate::mcp::options::SamplingSupport;
use crate::model::JsonObject;

/// The notification that a person has completed a page, which rmcp does not know.
const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";

/// The handler for the requests and notifications of one agent.
pub(crate) struct AgentRequestHandler {
    state: Arc<ConnectionState>,
    config: ClientConfig,
}

impl AgentRequestHandler {
    /// Creates a handler that declares the capabilities of this host, and no others.
    pub(crate) fn new(state: Arc<ConnectionState>) -> Self {
        let mut capabilities = ClientCapabilities::default();
        let form = FormElicitationCapability::new();
        let elicitation = ElicitationCapability::new().with_form(form).with_url(UrlElicitationCapability::new());
        capabilities.elicitation = Some(elicitation);
        if state.sampling() != SamplingSupport::Off {
            let mut sampling = SamplingCapability::default();
            sampling.tools = (state.sampling() == SamplingSupport::WithTools).then(JsonObject::new);
            capabilities.sampling = Some(sampling);
        }
        if !state.roots().is_empty() {
            let mut roots = RootsCapabilities::default();
            roots.list_changed = Some(true);
            capabilities.roots = Some(roots);
        }
        let tasks = ExtensionCapabilities::from([(TASKS_EXTENSION_ID.to_owned(), JsonObject::new())]);
        capabilities.extensions = Some(tasks);
        let client = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        // rmcp's default is a version without the handshake, which carries the capabilities.
        let config = ClientConfig::new(capabilities, client);
        Self { state, config: config.with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE) }
    }

    async fn answer<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        params: P,
        context: RequestContext<RoleClient>,
    ) -> Result<R, ErrorData> {
        let internal = |error: serde_json::Error| ErrorData::internal_error(error.to_string(), None);
        let params = serde_json::to_value(params).map_err(internal)?;
        let candidates = context.extensions.get::<CandidateCalls>().cloned();
        let candidates = candidates.unwrap_or_else(|| self.state.calls.candidates(None));
        let modern = context.peer.peer_info().is_some_and(|info| !info.protocol_version.has_initialize());
        if modern && candidates.calls.is_empty() {
            let message = format!("since 2026-07-28, `{method}` is answered only during a call");
            return Err(ErrorData::invalid_params(message, None));
        }
        let scope = self.state.request_scope(candidates, &context.id, context.ct);
        let result = self.state.answer(&scope, method, &params).await?;
        serde_json::from_value(result).map_err(internal)
    }
}

/// Processes a message as it arrives, on the response stream of request `stream` if given. Handlers run in tasks of
/// their own, so the response to a call can overtake them.
pub(crate) fn handle_incoming(state: &ConnectionState, message: &mut ServerJsonRpcMessage, stream: Option<&RequestId>) {
    match message {
        JsonRpcMessage::Request(request) => attach_candidates(state, &mut request.request, stream),
        JsonRpcMessage::Notification(message) => handle_notification(state, &message.notification),
        JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
    }
}

/// Attaches to a request of the agent the calls that it can be for.
fn attach_candidates(state: &ConnectionState, request: &mut ServerRequest, stream: Option<&RequestId>) {
    let needs_candidates = match request {
        ServerRequest::CreateMessageRequest(_) | ServerRequest::ElicitRequest(_) => true,
        // Known requests arrive as custom ones if their parameters were not parsed.
        ServerRequest::CustomRequest(custom) => {
            matches!(custom.method.as_str(), "sampling/createMessage" | "elicitation/create")
        }
        _ => false,
    };
    if needs_candidates {
        let candidates = state.candidates_for(stream);
        request.extensions_mut().insert(candidates);
    }
}

/// Processes a notification. Progress and log messages never arrive as rmcp's types.
fn handle_notification(state: &ConnectionState, notification: &ServerNotification) {
    match notification {
        // Waiters for other resources read once more than necessary.
        ServerNotification::ResourceUpdatedNotification(_) => state.resources_changed.send_replace(()),
        ServerNotification::ToolListChangedNotification(_) => state.tools_changed.store(true, Ordering::Relaxed),
        ServerNotification::CustomNotification(custom) if custom.method == ELICITATION_COMPLETE => {
            let id = custom.params.as_ref().and_then(|params| params.get("elicitationId")?.as_str());
            id.into_iter().for_each(|id| state.host.on_page_completed(&state.agent, id));
        }
        _ => {}
    }
}

impl ClientHandler for AgentRequestHandler {
    fn get_info(&self) -> ClientConfig {
        self.config.clone()
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.answer("sampling/createMessage", params, context).await
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.answer("elicitation/create", params, context).await
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        let roots = self.state.roots().iter();
        Ok(ListRootsResult::new(roots.map(|root| Root::new(&*root.uri).with_name(&*root.name)).collect()))
    }

    /// Handles known requests whose parameters were not parsed.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<CustomResult, ErrorData> {
        self.answer(&request.method, request.params, context).await
    }
}
