//! Provides a tool with its call: progress, log messages, and questions, independent of the protocol era.
//!
//! On a legacy connection, the server can send requests during a call. On a modern one (2026-07-28), the call ends with
//! an `InputRequiredResult`, and the client repeats it with the answers and the `requestState` of the question. A tool
//! is written once, from top to bottom: [`DemoCall::elicit`] and [`DemoCall::sample`] either return the answer or stop
//! the tool with [`ToolStop::InputRequired`]. [`DemoCall::is_continued`] detects the repeated call.

#![expect(deprecated, reason = "sampling and logging are deprecated since 2026-07-28 and still in use everywhere")]

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateMessageRequest,
    CreateMessageRequestParams, CreateMessageResult, ElicitRequest, ElicitRequestParams, ElicitResult,
    ElicitationAction, ElicitationSchema, InputRequest, InputRequests, InputRequiredResult, InputResponses, JsonObject,
    LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam, TASKS_EXTENSION_ID, Tool,
    ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServiceError};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The maximum of `delay_ms`: an hour.
const MAX_DELAY: Duration = Duration::from_secs(3_600);

/// The reason why a tool stops early.
#[derive(Debug)]
pub(super) enum ToolStop {
    /// The client must answer first, and then repeat the call.
    InputRequired(Box<InputRequiredResult>),
    /// The client cancelled the call or disconnected.
    Cancelled,
    /// The caller can correct the problem: a result with `isError`.
    Failed(String),
    /// The request is invalid: a JSON-RPC error.
    Refused(ErrorData),
}

/// Returns a result with a text for people and the same information as JSON.
///
/// # Errors
/// Returns an error if `structured` cannot be serialized as JSON.
pub(super) fn tool_result(text: impl Into<String>, structured: &impl Serialize) -> Result<CallToolResult, ToolStop> {
    let structured = serde_json::to_value(structured)
        .map_err(|error| ToolStop::Failed(format!("the result cannot be written as JSON: {error}")))?;
    let mut result = CallToolResult::structured(structured);
    result.content = vec![ContentBlock::text(text)];
    Ok(result)
}

/// Describes a tool with arguments `A` and a result `R`.
pub(super) fn describe_tool<A: JsonSchema + 'static, R: JsonSchema + 'static>(
    name: &'static str,
    title: &'static str,
    description: &'static str,
    annotations: ToolAnnotations,
) -> Tool {
    let mut annotations = annotations.open_world(false);
    annotations.title = Some(title.to_owned());
    Tool::new(name, description, JsonObject::new())
        .with_title(title)
        .with_input_schema::<A>()
        .with_output_schema::<R>()
        .with_annotations(annotations)
}

/// Converts the result of a tool to the MCP response.
///
/// # Errors
/// Returns the JSON-RPC error of an invalid or cancelled request.
pub(super) fn into_response(result: Result<CallToolResult, ToolStop>) -> Result<CallToolResponse, ErrorData> {
    match result {
        Ok(result) => Ok(result.into()),
        Err(ToolStop::InputRequired(required)) => Ok((*required).into()),
        Err(ToolStop::Failed(message)) => Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into()),
        Err(ToolStop::Cancelled) => Err(ErrorData::internal_error("the call was cancelled", None)),
        Err(ToolStop::Refused(error)) => Err(error),
    }
}

/// A question that a tool asks during a call.
pub(super) struct ToolQuestion<'a> {
    /// The key of the answer among the input responses of the call.
    pub(super) key: &'a str,
    /// The state that the client must return with the answer. It is untrusted, so it is only compared with the state
    /// that the same arguments produce again.
    pub(super) state: &'a str,
}

/// One call of a tool.
pub(super) struct DemoCall {
    context: RequestContext<RoleServer>,
    tool: String,
    arguments: JsonObject,
    answers: InputResponses,
    state: Option<String>,
    closing: CancellationToken,
    /// The minimum level of log messages on a legacy connection.
    log_level: u8,
}

impl DemoCall {
    /// Creates a call from a request. `closing` cancels it when the transport is about to end. Log messages below
    /// `log_level` are dropped.
    pub(super) fn new(
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
        closing: CancellationToken,
        log_level: u8,
    ) -> Self {
        Self {
            context,
            tool: request.name.into_owned(),
            arguments: request.arguments.unwrap_or_default(),
            answers: request.input_responses.unwrap_or_default(),
            state: request.request_state,
            closing,
            log_level,
        }
    }

    /// Returns the name of the tool.
    pub(super) fn tool(&self) -> &str {
        &self.tool
    }

    /// Returns the arguments of the request.
    pub(super) fn raw_arguments(&self) -> &JsonObject {
        &self.arguments
    }

    /// Returns the parsed arguments.
    ///
    /// # Errors
    /// Returns an error if the arguments do not have the expected shape.
    pub(super) fn arguments<T: DeserializeOwned>(&self) -> Result<T, ToolStop> {
        serde_json::from_value(Value::Object(self.arguments.clone()))
            .map_err(|error| ToolStop::Failed(format!("invalid arguments for `{}`: {error}", self.tool)))
    }

    /// Returns the caller's idempotency key, so that effects can be compared with the journal. Accepts any `_meta` key
    /// that ends in `idempotencyKey`, with any prefix and spelling.
    pub(super) fn idempotency_key(&self) -> Option<&Value> {
        self.context.meta.iter().find_map(|(name, value)| {
            let last = name.rsplit('/').next().unwrap_or(name);
            let plain: String = last.chars().filter(char::is_ascii_alphabetic).collect();
            plain.eq_ignore_ascii_case("idempotencykey").then_some(value)
        })
    }

    /// Returns whether the call is repeated with the answers to its questions.
    pub(super) fn is_continued(&self) -> bool {
        self.state.is_some()
    }

    /// Returns whether the client supports tasks.
    pub(super) fn supports_tasks(&self) -> bool {
        let extensions = self.context.client_capabilities().and_then(|can| can.extensions);
        self.is_modern() && extensions.is_some_and(|extensions| extensions.contains_key(TASKS_EXTENSION_ID))
    }

    /// Waits for the given time, for at most an hour.
    ///
    /// # Errors
    /// Returns an error if the call is cancelled meanwhile.
    pub(super) async fn pause(&self, milliseconds: u64) -> Result<(), ToolStop> {
        self.or_cancelled(tokio::time::sleep(Duration::from_millis(milliseconds).min(MAX_DELAY))).await
    }

    /// Reports the progress in percent if the client requested it.
    pub(super) async fn progress(&self, percent: f64, message: impl Into<String>) {
        let Some(token) = self.context.meta.get_progress_token() else { return };
        let progress = ProgressNotificationParam::new(token, percent).with_total(100.0).with_message(message);
        // A disconnected client ends the call through its cancellation.
        let _ = self.context.peer.notify_progress(progress).await;
    }

    /// Sends a log message if the client requests its level. A legacy session receives all messages until it sets a
    /// level. A modern request without a level receives none.
    pub(super) async fn log(&self, level: LoggingLevel, logger: &str, message: impl Into<String>) {
        let min_level = if self.is_modern() {
            match self.context.meta.log_level() {
                Some(level) => level as u8,
                None => return,
            }
        } else {
            self.log_level
        };
        if (level as u8) < min_level {
            return;
        }
        let message = LoggingMessageNotificationParam::new(level, Value::String(message.into())).with_logger(logger);
        let _ = self.context.peer.notify_logging_message(message).await;
    }

    /// Asks a person to fill in a form. Returns the fields, or the reason why there are none.
    ///
    /// # Errors
    /// Returns an error if the client must repeat the call with the answer, if the call is cancelled, or if the answer
    /// belongs to another call.
    pub(super) async fn elicit<T: DeserializeOwned>(
        &self,
        question: ToolQuestion<'_>,
        message: String,
        form: ElicitationSchema,
    ) -> Result<Result<T, &'static str>, ToolStop> {
        const UNSUPPORTED: &str = "the host cannot ask a person to confirm the price";
        const DISMISSED: &str = "the question was dismissed";
        let capabilities = self.context.client_capabilities().unwrap_or_default();
        // A capability without modes supports forms, the only mode of 2025-06-18.
        if !capabilities.elicitation.is_some_and(|can| can.form.is_some() || can.url.is_none()) {
            return Ok(Err(UNSUPPORTED));
        }
        let params = ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema: form };
        let result: ElicitResult = if self.is_modern() {
            match self.answer(&question, || InputRequest::Elicitation(ElicitRequest::new(params)))? {
                Some(answer) => answer,
                None => return Ok(Err(DISMISSED)),
            }
        } else {
            match self.or_cancelled(self.context.peer.create_elicitation(params)).await? {
                Ok(result) => result,
                Err(error) => return refusal_reason(error).map(|_| Err(UNSUPPORTED)),
            }
        };
        match result.action {
            ElicitationAction::Decline => Ok(Err("the question was declined")),
            ElicitationAction::Accept => {
                serde_json::from_value(result.content.unwrap_or_default()).map(Ok).map_err(|error| {
                    ToolStop::Failed(format!("the answer to `{}` does not match its form: {error}", question.key))
                })
            }
            // Cancelled, or an action of a later specification: only `accept` counts as consent.
            _ => Ok(Err(DISMISSED)),
        }
    }

    /// Requests a reply of the host's language model. Returns its text, or the reason why there is none.
    ///
    /// # Errors
    /// Returns an error if the client must repeat the call with the reply, if the call is cancelled, or if the reply
    /// belongs to another call.
    pub(super) async fn sample(
        &self,
        question: ToolQuestion<'_>,
        params: CreateMessageRequestParams,
    ) -> Result<Result<String, String>, ToolStop> {
        if self.context.client_capabilities().and_then(|can| can.sampling).is_none() {
            return Ok(Err("the host has no language model".to_owned()));
        }
        let result: CreateMessageResult = if self.is_modern() {
            match self.answer(&question, || InputRequest::CreateMessage(CreateMessageRequest::new(params)))? {
                Some(answer) => answer,
                None => return Ok(Err("the host did not return a reply of its language model".to_owned())),
            }
        } else {
            match self.or_cancelled(self.context.peer.create_message(params)).await? {
                Ok(result) => result,
                Err(error) => {
                    let reason = refusal_reason(error)?;
                    return Ok(Err(format!("the host's language model did not answer: {reason}")));
                }
            }
        };
        let blocks = result.message.content.into_vec();
        let text: Vec<&str> = blocks.iter().filter_map(|block| Some(block.as_text()?.text.as_str())).collect();
        Ok(match text.concat().trim() {
            "" => Err("the host's language model answered without text".to_owned()),
            text => Ok(text.to_owned()),
        })
    }

    /// Returns the answer that a repeated call contains, or `None` if it is missing. Stops the first call with `request`.
    fn answer<T: DeserializeOwned>(
        &self,
        question: &ToolQuestion<'_>,
        request: impl FnOnce() -> InputRequest,
    ) -> Result<Option<T>, ToolStop> {
        match &self.state {
            None => {
                let requests = InputRequests::from([(question.key.to_owned(), request())]);
                let required = InputRequiredResult::new(Some(requests), Some(question.state.to_owned()));
                Err(ToolStop::InputRequired(Box::new(required)))
            }
            Some(state) if state != question.state => {
                let message = format!("`requestState` `{state}` does not belong to these arguments of `{}`", self.tool);
                Err(ToolStop::Refused(ErrorData::invalid_params(message, None)))
            }
            Some(_) => match self.answers.get(question.key) {
                None => Ok(None),
                Some(answer) => serde_json::from_value(answer.clone()).map(Some).map_err(|error| {
                    let message = format!("`inputResponses.{}` does not match the request: {error}", question.key);
                    ToolStop::Refused(ErrorData::invalid_params(message, None))
                }),
            },
        }
    }

    fn is_modern(&self) -> bool {
        self.context.protocol_version().is_some_and(|version| !version.has_initialize())
    }

    /// Waits for a future unless the call is cancelled. Only waiting is cancellable, so that an effect is always
    /// recorded.
    async fn or_cancelled<T>(&self, waiting: impl Future<Output = T>) -> Result<T, ToolStop> {
        tokio::select! {
            done = waiting => Ok(done),
            () = self.context.ct.cancelled() => Err(ToolStop::Cancelled),
            () = self.closing.cancelled() => Err(ToolStop::Cancelled),
        }
    }
}

/// Returns the reason of a rejected request. All other errors mean that the client has disconnected.
fn refusal_reason(error: ServiceError) -> Result<String, ToolStop> {
    match error {
        ServiceError::McpError(error) => Ok(error.message.into_owned()),
        ServiceError::UnexpectedResponse => Ok("its reply was not of the expected kind".into()),
        _ => Err(ToolStop::Cancelled),
    }
}
