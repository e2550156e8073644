//! Receives what an agent says of its own accord: requests, progress, log messages.
//! Never answers by itself; the host does.
#![expect(deprecated, reason = "sampling and logging are deprecated in 2026-07-28, and existing servers use them")]

use std::sync::{Arc, atomic::Ordering};

use rmcp::{
    ClientHandler, RoleClient,
    model::{
        ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, CustomRequest, CustomResult,
        ElicitRequestParams, ElicitResult, ElicitationCapability, ErrorData, ExtensionCapabilities, Extensions,
        FormElicitationCapability, GetExtensions as _, Implementation, LoggingMessageNotificationParam,
        ProgressNotificationParam, ProtocolVersion, RequestId, ResourceUpdatedNotificationParam, SamplingCapability,
        ServerNotification, ServerRequest, TASKS_EXTENSION_ID, UrlElicitationCapability,
    },
    service::{InboundStreamOrigin, NotificationContext, RequestContext},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Options, Sampling, calls::Candidates, link::Link};
use crate::model::{JsonObject, LogMessage, Progress};

/// The client's side of one connection.
pub(super) struct Handler {
    link: Arc<Link>,
    config: ClientConfig,
}

impl Handler {
    /// A handler that declares what this host can do, and nothing else.
    pub(super) fn new(link: Arc<Link>, options: &Options) -> Self {
        let mut capabilities = ClientCapabilities::default();
        let form = FormElicitationCapability::new();
        let elicitation = ElicitationCapability::new().with_form(form).with_url(UrlElicitationCapability::new());
        capabilities.elicitation = Some(elicitation);
        capabilities.sampling = capability(link.sampling());
        let tasks = ExtensionCapabilities::from([(TASKS_EXTENSION_ID.to_owned(), JsonObject::new())]);
        capabilities.extensions = Some(tasks);
        let client = Implementation::new(&options.client_name, &options.client_version);
        // rmcp's default is a version without the handshake that carries this.
        let config = ClientConfig::new(capabilities, client);
        Self { link, config: config.with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE) }
    }

    async fn answer<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        params: P,
        context: RequestContext<RoleClient>,
    ) -> Result<R, ErrorData> {
        let wrong = |error: serde_json::Error| ErrorData::internal_error(error.to_string(), None);
        let params = serde_json::to_value(params).map_err(wrong)?;
        let candidates = context.extensions.get::<Candidates>().cloned();
        let candidates = candidates.unwrap_or_else(|| self.link.calls.candidates(None));
        let asker = self.link.asker(candidates, &context.id, context.ct);
        let result = self.link.answer(&asker, method, &params).await?;
        serde_json::from_value(result).map_err(wrong)
    }
}

/// Notes on a request of the agent, as it arrives, for which calls it can be.
pub(super) fn note_candidates(link: &Link, request: &mut ServerRequest) {
    let asks = match request {
        ServerRequest::CreateMessageRequest(_) | ServerRequest::ElicitRequest(_) => true,
        // Known requests come as custom ones when their parameters are not what rmcp expects of them.
        ServerRequest::CustomRequest(custom) => {
            matches!(custom.method.as_str(), "sampling/createMessage" | "elicitation/create")
        }
        _ => false,
    };
    if asks {
        let candidates = link.asked(stream(request.extensions()));
        request.extensions_mut().insert(candidates);
    }
}

/// Takes in progress as it arrives: handlers run in tasks of their own, which the response can overtake.
pub(super) fn note_progress(link: &Link, notification: &ServerNotification) {
    let ServerNotification::ProgressNotification(progress) = notification else { return };
    let ProgressNotificationParam { progress_token, progress, total, message, .. } = &progress.params;
    // Progress of a call that has ended is nobody's.
    if let Some(call) = link.calls.find(&progress_token.0) {
        call.report(Progress { progress: *progress, total: *total, message: message.clone() });
    }
}

fn capability(sampling: Sampling) -> Option<SamplingCapability> {
    let mut capability = SamplingCapability::default();
    match sampling {
        Sampling::Off => return None,
        Sampling::Plain => {}
        Sampling::WithTools => capability.tools = Some(JsonObject::new()),
    }
    Some(capability)
}

/// The request on whose response stream a message arrived; only Streamable HTTP tells.
fn stream(extensions: &Extensions) -> Option<&RequestId> {
    match extensions.get::<InboundStreamOrigin>() {
        Some(InboundStreamOrigin::OutboundRequest(id)) => Some(id),
        Some(InboundStreamOrigin::Unassociated) | None => None,
    }
}

impl ClientHandler for Handler {
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

    /// Known requests end here when their parameters are not what rmcp expects of them.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleClient>,
    ) -> Result<CustomResult, ErrorData> {
        self.answer(&request.method, request.params, context).await
    }

    async fn on_logging_message(&self, params: LoggingMessageNotificationParam, _: NotificationContext<RoleClient>) {
        let level = match serde_json::to_value(params.level) {
            Ok(Value::String(level)) => level,
            _ => "info".to_owned(),
        };
        self.link.logged(LogMessage { level, logger: params.logger, data: params.data });
    }

    async fn on_resource_updated(&self, _: ResourceUpdatedNotificationParam, _: NotificationContext<RoleClient>) {
        // Those who wait for another one read in vain, once.
        self.link.resources_changed.send_replace(());
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.link.tools_changed.store(true, Ordering::Relaxed);
    }
}
