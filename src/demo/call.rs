//! One tool call as a tool sees it: progress, log messages and questions, the same in both protocol eras.
//! Never knows what a tool does.
//!
//! A legacy connection lets the server send requests of its own in mid call. A modern one (2026-07-28) does not:
//! the call ends with an `InputRequiredResult`, and the client makes it again with the answers and the state that
//! came with the question. A tool is written once, from top to bottom: [`DemoCall::elicit`] and [`DemoCall::sample`] either
//! give the answer or stop it with [`ToolStop::InputRequired`], and [`DemoCall::is_continued`] tells the second time.

#![expect(deprecated, reason = "sampling and logging are deprecated since 2026-07-28 and still in use everywhere")]

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServiceError,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateMessageRequest,
        CreateMessageRequestParams, CreateMessageResult, ElicitRequest, ElicitRequestParams, ElicitResult,
        ElicitationAction, ElicitationSchema, InputRequest, InputRequests, InputRequiredResult, InputResponses,
        JsonObject, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam, Resource,
        SamplingMessage, TASKS_EXTENSION_ID,
    },
    service::RequestContext,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The longest pause that `delay_ms` may ask for: an hour.
const MAX_DELAY: Duration = Duration::from_secs(3_600);

/// Why a tool stops before its end.
#[derive(Debug)]
pub(super) enum ToolStop {
    /// The client must answer first, and then call again.
    InputRequired(Box<InputRequiredResult>),
    /// The client cancelled the call, or went away.
    Canceled,
    /// The arguments or their circumstances are wrong in a way that the caller can mend: a result with `isError`.
    Failed(String),
    /// The request itself is wrong: a JSON-RPC error.
    Refused(ErrorData),
}

/// What a tool returns.
#[derive(Debug)]
pub(super) struct DemoToolResult {
    text: String,
    structured: Value,
    links: Vec<Resource>,
}

impl DemoToolResult {
    /// A text for people and the same as data.
    ///
    /// # Errors
    /// When `structured` cannot be written as JSON.
    pub(super) fn new(text: impl Into<String>, structured: &impl Serialize) -> Result<Self, ToolStop> {
        let structured = serde_json::to_value(structured)
            .map_err(|error| ToolStop::Failed(format!("the result cannot be written as JSON: {error}")))?;
        Ok(Self { text: text.into(), structured, links: Vec::new() })
    }

    /// The same with a link to a resource.
    pub(super) fn with_link(mut self, link: Resource) -> Self {
        self.links.push(link);
        self
    }
}

/// Writes what came of a tool as MCP has it.
///
/// # Errors
/// The JSON-RPC error for requests that are wrong or cancelled.
pub(super) fn into_response(result: Result<DemoToolResult, ToolStop>) -> Result<CallToolResponse, ErrorData> {
    match result {
        Ok(reply) => {
            let mut result = CallToolResult::structured(reply.structured);
            result.content = vec![ContentBlock::text(reply.text)];
            result.content.extend(reply.links.into_iter().map(ContentBlock::resource_link));
            Ok(result.into())
        }
        Err(ToolStop::InputRequired(required)) => Ok((*required).into()),
        Err(ToolStop::Failed(message)) => Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into()),
        Err(ToolStop::Canceled) => Err(ErrorData::internal_error("the call was cancelled", None)),
        Err(ToolStop::Refused(error)) => Err(error),
    }
}

/// What a person said to a question.
#[derive(Debug)]
pub(super) enum ElicitOutcome<T> {
    /// Yes, with these fields.
    Accepted(T),
    /// No.
    Declined,
    /// Nothing: the question was dismissed.
    Dismissed,
    /// The client cannot ask anybody.
    Unsupported,
}

/// What a language model said to a request.
#[derive(Debug)]
pub(super) enum SampleOutcome {
    /// This text.
    Text(String),
    /// Nothing, for this reason.
    Unavailable(String),
}

/// A question that a tool asks in mid call.
pub(super) struct ToolQuestion<'a> {
    /// The key of the answer among those of the call.
    pub(super) key: &'a str,
    /// What the client must send back with the answer. It is the client's word, so it is only ever compared
    /// with what the same arguments give again.
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
    log_level: u8,
}

impl DemoCall {
    /// A call as it came in. `closing` ends it when the transport is about to end; log messages below
    /// `log_level` are left out.
    pub(super) fn new(
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
        closing: CancellationToken,
        log_level: &LogLevel,
    ) -> Self {
        Self {
            context,
            tool: request.name.into_owned(),
            arguments: request.arguments.unwrap_or_default(),
            answers: request.input_responses.unwrap_or_default(),
            state: request.request_state,
            closing,
            log_level: log_level.get(),
        }
    }

    /// The tool's name.
    pub(super) fn tool(&self) -> &str {
        &self.tool
    }

    /// The arguments as they came.
    pub(super) fn raw_arguments(&self) -> &JsonObject {
        &self.arguments
    }

    /// The arguments as the tool wants them.
    ///
    /// # Errors
    /// When they are not of that shape.
    pub(super) fn arguments<T: DeserializeOwned>(&self) -> Result<T, ToolStop> {
        serde_json::from_value(Value::Object(self.arguments.clone()))
            .map_err(|error| ToolStop::Failed(format!("invalid arguments for `{}`: {error}", self.tool)))
    }

    /// The caller's key for this effect, so that its two books can be compared: the entry of `_meta` whose name
    /// ends in `idempotencyKey`, in whichever spelling and under whichever prefix.
    pub(super) fn idempotency_key(&self) -> Option<&Value> {
        self.context.meta.iter().find_map(|(name, value)| {
            let last = name.rsplit('/').next().unwrap_or(name);
            let plain: String = last.chars().filter(char::is_ascii_alphabetic).collect();
            plain.eq_ignore_ascii_case("idempotencykey").then_some(value)
        })
    }

    /// Whether the call was made before and now brings the answers to its questions.
    pub(super) fn is_continued(&self) -> bool {
        self.state.is_some()
    }

    /// Whether the client can follow tasks.
    pub(super) fn supports_tasks(&self) -> bool {
        let extensions = self.context.client_capabilities().and_then(|can| can.extensions);
        self.is_modern() && extensions.is_some_and(|extensions| extensions.contains_key(TASKS_EXTENSION_ID))
    }

    /// Waits, at most an hour.
    ///
    /// # Errors
    /// When the call is cancelled meanwhile.
    pub(super) async fn pause(&self, milliseconds: u64) -> Result<(), ToolStop> {
        self.or_canceled(tokio::time::sleep(Duration::from_millis(milliseconds).min(MAX_DELAY))).await
    }

    /// Tells the client how far the call is, out of 100, if it wants to know.
    pub(super) async fn progress(&self, percent: f64, message: impl Into<String>) {
        let Some(token) = self.context.meta.get_progress_token() else { return };
        let progress = ProgressNotificationParam::new(token, percent).with_total(100.0).with_message(message);
        // A client that has gone away ends the call through its cancellation, not through this.
        let _ = self.context.peer.notify_progress(progress).await;
    }

    /// Sends a log message, if the client wants to have it. A legacy session sets the level once and gets
    /// everything until then; a modern request that names no level wants nothing.
    pub(super) async fn log(&self, level: LoggingLevel, logger: &str, message: impl Into<String>) {
        let least = if self.is_modern() {
            match self.context.meta.log_level() {
                Some(level) => level as u8,
                None => return,
            }
        } else {
            self.log_level
        };
        if (level as u8) < least {
            return;
        }
        let message = LoggingMessageNotificationParam::new(level, Value::String(message.into())).with_logger(logger);
        let _ = self.context.peer.notify_logging_message(message).await;
    }

    /// Asks a person to fill a form.
    ///
    /// # Errors
    /// When the client must call again with the answer, when the call is cancelled, or when the answer that came
    /// belongs to another call.
    pub(super) async fn elicit<T: DeserializeOwned>(
        &self,
        question: ToolQuestion<'_>,
        message: String,
        form: ElicitationSchema,
    ) -> Result<ElicitOutcome<T>, ToolStop> {
        let capabilities = self.context.client_capabilities().unwrap_or_default();
        // A capability without modes means forms (2025-06-18 knew no other).
        if !capabilities.elicitation.is_some_and(|can| can.form.is_some() || can.url.is_none()) {
            return Ok(ElicitOutcome::Unsupported);
        }
        let params = ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema: form };
        let result: ElicitResult = if self.is_modern() {
            match self.answer(&question, || InputRequest::Elicitation(ElicitRequest::new(params)))? {
                Some(answer) => answer,
                None => return Ok(ElicitOutcome::Dismissed),
            }
        } else {
            match self.or_canceled(self.context.peer.create_elicitation(params)).await? {
                Ok(result) => result,
                Err(error) => return refusal_reason(error).map(|_| ElicitOutcome::Unsupported),
            }
        };
        match result.action {
            ElicitationAction::Decline => Ok(ElicitOutcome::Declined),
            ElicitationAction::Accept => serde_json::from_value(result.content.unwrap_or_default())
                .map(ElicitOutcome::Accepted)
                .map_err(|error| {
                    ToolStop::Failed(format!("the answer to `{}` does not fit its form: {error}", question.key))
                }),
            // Cancel, and whatever a later revision adds: only an acceptance is a yes.
            _ => Ok(ElicitOutcome::Dismissed),
        }
    }

    /// Asks the host's language model for at most `max_tokens` tokens.
    ///
    /// # Errors
    /// When the client must call again with the reply, when the call is cancelled, or when the reply that came
    /// belongs to another call.
    pub(super) async fn sample(
        &self,
        question: ToolQuestion<'_>,
        prompt: SamplePrompt,
    ) -> Result<SampleOutcome, ToolStop> {
        if self.context.client_capabilities().and_then(|can| can.sampling).is_none() {
            return Ok(SampleOutcome::Unavailable("the host offers no language model".into()));
        }
        let mut params =
            CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt.text)], prompt.max_tokens);
        params.system_prompt = Some(prompt.system);
        params.temperature = Some(prompt.temperature);
        let result: CreateMessageResult = if self.is_modern() {
            match self.answer(&question, || InputRequest::CreateMessage(CreateMessageRequest::new(params)))? {
                Some(answer) => answer,
                None => return Ok(SampleOutcome::Unavailable("the host sent no reply of its language model".into())),
            }
        } else {
            match self.or_canceled(self.context.peer.create_message(params)).await? {
                Ok(result) => result,
                Err(error) => {
                    let reason = refusal_reason(error)?;
                    return Ok(SampleOutcome::Unavailable(format!(
                        "the host's language model did not answer: {reason}"
                    )));
                }
            }
        };
        let blocks = result.message.content.into_vec();
        let text: Vec<&str> = blocks.iter().filter_map(|block| Some(block.as_text()?.text.as_str())).collect();
        match text.concat().trim() {
            "" => Ok(SampleOutcome::Unavailable("the host's language model answered without text".into())),
            text => Ok(SampleOutcome::Text(text.to_owned())),
        }
    }

    /// The answer that a repeated call brought; none if it brought everything but this.
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
                    let message = format!("`inputResponses.{}` is not what was asked for: {error}", question.key);
                    ToolStop::Refused(ErrorData::invalid_params(message, None))
                }),
            },
        }
    }

    fn is_modern(&self) -> bool {
        self.context.protocol_version().is_some_and(|version| !version.has_initialize())
    }

    /// Only what waits can be cancelled: an effect and its record are never torn apart.
    async fn or_canceled<T>(&self, waiting: impl Future<Output = T>) -> Result<T, ToolStop> {
        tokio::select! {
            done = waiting => Ok(done),
            () = self.context.ct.cancelled() => Err(ToolStop::Canceled),
            () = self.closing.cancelled() => Err(ToolStop::Canceled),
        }
    }
}

/// What to ask a language model.
pub(super) struct SamplePrompt {
    /// How it should answer.
    pub(super) system: String,
    /// What it should answer.
    pub(super) text: String,
    /// The longest answer.
    pub(super) max_tokens: u32,
    /// How freely, from 0 to 1.
    pub(super) temperature: f32,
}

/// The reason of a refusal; anything else that goes wrong with a request means that the client is gone.
fn refusal_reason(error: ServiceError) -> Result<String, ToolStop> {
    match error {
        ServiceError::McpError(error) => Ok(error.message.into_owned()),
        ServiceError::UnexpectedResponse => Ok("its reply was not of the expected kind".into()),
        _ => Err(ToolStop::Canceled),
    }
}

/// The least severe log messages that a legacy session wants: everything until it says otherwise.
#[derive(Debug, Default)]
pub(super) struct LogLevel(AtomicU8);

impl LogLevel {
    pub(super) fn set(&self, level: LoggingLevel) {
        self.0.store(level as u8, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}
