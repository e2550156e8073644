//! Holds the state that a connection shares between its transport, its handler, and its calls. Forwards requests of the
//! agent to the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, ErrorData, JsonRpcMessage, RequestId,
    ServerJsonRpcMessage,
};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::open_calls::{AnswerSource, CallState, CandidateCalls, OpenCalls, WaitGuard};
use super::sampling_quota::{SamplingQuota, USER_REJECTED};
use super::session_state::Session;
use super::{elicitation, sampling};
use crate::mcp::checkpoint::CallCheckpoint;
use crate::mcp::host::ClientHost;
use crate::mcp::message::codec::{ExpectedResult, PendingRequests};
use crate::mcp::message::failure;
use crate::mcp::message::limits::MAX_LOG_BYTES;
use crate::mcp::message::request_id::id_number;
use crate::mcp::message::service_request::has_text_result;
use crate::mcp::options::SamplingSupport;
use crate::mcp::scheduler::ProcessScheduler;
use crate::model::text::truncate_bytes;
use crate::model::{
    AgentId, AgentRoot, Answer, AttemptId, ChatPart, ChatReply, ChatRequest, CheckpointKey, Elicitation, Form,
    LogLevel, LogMessage, Origin, Progress, TraceContext,
};

/// The number of log messages of one agent that reach the host within a second, more than a person can follow.
const MAX_LOGS_PER_SECOND: u32 = 50;
/// The maximum length of a logger name in bytes.
const MAX_LOGGER_BYTES: usize = 256;
/// The maximum length of a prompt in a consent question, in bytes.
const MAX_CONSENT_PROMPT_BYTES: usize = 500;

/// The shared state of one connection.
pub(crate) struct ConnectionState {
    /// The agent at the other end.
    pub(crate) agent: AgentId,
    /// The host that answers the requests of the agent.
    pub(crate) host: Arc<dyn ClientHost>,
    /// The calls in flight.
    pub(crate) calls: OpenCalls,
    /// Cancelled when nothing more can arrive over the connection.
    pub(crate) lost: CancellationToken,
    /// The session, if the server creates one.
    pub(crate) session: Session,
    /// The requests of rmcp's service that wait for a response.
    pub(crate) requests: OpenRequests,
    shared: Arc<AgentShared>,
    /// The notification channel for changes of any resource.
    pub(crate) resources_changed: watch::Sender<()>,
    /// Set when the agent announces a change of its tool list.
    pub(crate) tools_changed: AtomicBool,
    /// Set when no other call can use the connection.
    pub(crate) is_stale: AtomicBool,
    /// Set when the probe for the modern era failed for a reason unrelated to eras.
    pub(crate) probe_failed: AtomicBool,
    /// The rate limiter of log messages; locked only for a comparison.
    logs: Mutex<LogLimiter>,
    /// The number of questions of each call; the key `None` is for requests outside of any call.
    questions: Mutex<HashMap<Option<AttemptId>, u32>>,
}

#[derive(Debug)]
struct LogLimiter {
    window_start: Instant,
    passed: u32,
    dropped: u64,
}

/// The state that all connections to one agent share.
#[derive(Debug)]
pub(crate) struct AgentShared {
    /// The maximum size of a message from the agent, in bytes.
    pub(crate) max_message_bytes: usize,
    /// The least severe log messages that the agent is asked to send.
    pub(crate) log_level: LogLevel,
    /// The trace that requests outside of calls belong to.
    pub(crate) trace: Option<TraceContext>,
    /// The sampling support that is declared to the agent.
    pub(crate) sampling: SamplingSupport,
    /// The sampling quota of the agent.
    pub(crate) sampling_quota: SamplingQuota,
    /// The roots that the agent can list.
    pub(crate) roots: Vec<AgentRoot>,
    /// The scheduler of process permits, for agents whose requests do not identify their call.
    pub(crate) scheduler: ProcessScheduler,
    /// Set when the host leaves the calls in progress to a later process.
    pub(crate) is_suspended: AtomicBool,
}

/// The requests of rmcp's service that wait for a response, by their IDs on the wire, and how to parse each response.
#[derive(Debug, Default)]
pub(crate) struct OpenRequests(Mutex<HashMap<i64, ExpectedResult>>);

impl OpenRequests {
    /// Registers `request` before it is sent under `id`.
    pub(crate) fn add(&self, id: &RequestId, request: &ClientRequest) -> ExpectedResult {
        let expected = match request {
            ClientRequest::InitializeRequest(_) => ExpectedResult::Initialize,
            ClientRequest::DiscoverRequest(_) => ExpectedResult::Discover,
            request if has_text_result(request) => ExpectedResult::Text,
            _ => ExpectedResult::Other,
        };
        if let Some(id) = id_number(id) {
            self.0.lock().insert(id, expected);
        }
        expected
    }

    /// Registers the request that `message` is, or removes the one that it cancels, before it is sent.
    pub(crate) fn record(&self, message: &ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(request) => {
                self.add(&request.id, &request.request);
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.remove(id);
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
    }

    /// Returns whether the request waits for a response.
    pub(crate) fn is_open(&self, id: &RequestId) -> bool {
        id_number(id).is_some_and(|id| self.0.lock().contains_key(&id))
    }

    /// Removes the request, and returns whether it was open.
    pub(crate) fn remove(&self, id: &RequestId) -> bool {
        id_number(id).is_some_and(|id| self.0.lock().remove(&id).is_some())
    }

    /// Removes the request that a message answers.
    pub(crate) fn remove_answered(&self, message: &ServerJsonRpcMessage) {
        let id = match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        if let Some(id) = id {
            self.remove(id);
        }
    }
}

impl PendingRequests for ConnectionState {
    fn expected_result(&self, id: i64) -> Option<ExpectedResult> {
        if self.calls.is_open(id) { Some(ExpectedResult::Call) } else { self.requests.0.lock().get(&id).copied() }
    }

    fn single_open(&self) -> Option<i64> {
        let requests = self.requests.0.lock();
        let open = self.calls.first_open().into_iter().flatten().chain(requests.keys().copied());
        match open.collect::<Vec<_>>().as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }
}

/// The origin of a request of the agent, and the calls that it may be for.
pub(crate) struct RequestScope {
    origin: Origin,
    candidates: CandidateCalls,
    /// Cancelled when the agent withdraws its request.
    withdrawn: CancellationToken,
}

impl ConnectionState {
    /// Creates the state of a connection before anything is sent over it.
    pub(crate) fn new(session: Session, shared: Arc<AgentShared>) -> Arc<Self> {
        Arc::new(Self {
            agent: session.agent.clone(),
            host: session.host.clone(),
            calls: OpenCalls::default(),
            lost: CancellationToken::new(),
            session,
            requests: OpenRequests::default(),
            shared,
            resources_changed: watch::Sender::new(()),
            tools_changed: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
            probe_failed: AtomicBool::new(false),
            logs: Mutex::new(LogLimiter { window_start: Instant::now(), passed: 0, dropped: 0 }),
            questions: Mutex::default(),
        })
    }

    /// Handles a message that exceeds the size limit. If only one call is in flight, that call fails.
    pub(crate) fn handle_overflow(&self) {
        tracing::warn!(agent = %self.agent, "the agent sent a message that is too large");
        if let Some(call) = self.calls.candidates(None).only() {
            call.fail(failure::message_too_large(&self.agent, self.max_message_bytes()));
        }
    }

    /// Records progress as it arrives.
    pub(crate) fn report_progress(&self, token: &RequestId, progress: Progress) {
        // Progress of a call that has ended is dropped.
        if let Some(call) = self.calls.find(token) {
            call.report(progress);
        }
    }

    /// Returns the calls that a request of the agent can be for, as the request arrives.
    ///
    /// If the transport has streams, `stream` is the request whose response stream it came on. Call this before
    /// processing any later message, since that may be the response of one of the calls.
    pub(crate) fn candidates_for(&self, stream: Option<&RequestId>) -> CandidateCalls {
        if stream.is_none() {
            self.shared.scheduler.is_interactive.cancel();
        }
        self.calls.candidates(stream)
    }

    /// Returns the sampling support that is declared to the agent.
    pub(crate) fn sampling(&self) -> SamplingSupport {
        self.shared.sampling
    }

    /// Returns the roots that the agent can list.
    pub(crate) fn roots(&self) -> &[AgentRoot] {
        &self.shared.roots
    }

    /// Returns the maximum size of a message from the agent, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.shared.max_message_bytes
    }

    /// Returns the least severe log messages that the agent is asked to send.
    pub(crate) fn log_level(&self) -> LogLevel {
        self.shared.log_level
    }

    /// Returns the trace that requests outside of calls belong to.
    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.shared.trace.as_ref()
    }

    /// Returns whether nothing more may be sent, since a later process will resume what is in progress.
    pub(crate) fn is_suspended(&self) -> bool {
        self.shared.is_suspended.load(Ordering::Relaxed)
    }

    /// Returns the scope of `request`, which belongs to one of `candidates`. A single candidate is its origin; of
    /// several, the host picks none.
    pub(crate) fn request_scope(
        &self,
        candidates: CandidateCalls,
        request: &RequestId,
        withdrawn: CancellationToken,
    ) -> RequestScope {
        let key = self.session.resumable_id().map(|_| request.to_string());
        RequestScope { origin: self.origin(&candidates, key), candidates, withdrawn }
    }

    fn origin(&self, candidates: &CandidateCalls, key: Option<String>) -> Origin {
        let attempt = candidates.only().map(|call| call.attempt.clone());
        Origin { agent: self.agent.clone(), attempt, key }
    }

    /// Returns the scope of a request that certainly belongs to `call`. `key` is the agent's own ID of the request, if
    /// that outlives the connection.
    pub(crate) fn scope_of_call(
        &self,
        call: &Arc<CallState>,
        key: Option<String>,
        withdrawn: CancellationToken,
    ) -> RequestScope {
        let candidates = CandidateCalls { calls: vec![call.clone()], includes_abandoned: false };
        RequestScope { origin: self.origin(&candidates, key), candidates, withdrawn }
    }

    /// Stores a checkpoint of a call. The future completes when it is durable.
    pub(crate) fn save_call(&self, attempt: &AttemptId, checkpoint: &CallCheckpoint) -> BoxFuture<'static, ()> {
        self.host.checkpoint(CheckpointKey::Call(attempt.clone()), checkpoint.to_value())
    }

    /// Answers an input request of a call: an object with `method` and `params`.
    ///
    /// # Errors
    /// Returns the same errors as [`ConnectionState::answer`].
    pub(crate) async fn answer_input_request(&self, scope: &RequestScope, request: &Value) -> Result<Value, ErrorData> {
        let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
        self.answer(scope, method, request.get("params").unwrap_or(&Value::Null)).await
    }

    /// Answers a request of the agent. Its parameters and its result are JSON.
    ///
    /// # Errors
    /// Returns a JSON-RPC error for the agent.
    pub(crate) async fn answer(&self, scope: &RequestScope, method: &str, params: &Value) -> Result<Value, ErrorData> {
        let json = |value: serde_json::Result<Value>| value.map_err(|e| ErrorData::internal_error(e.to_string(), None));
        match method {
            "elicitation/create" => {
                let question = elicitation::read(params)?;
                self.count_question(scope)?;
                let answer = self.elicit(scope, question).await;
                json(serde_json::to_value(elicitation::write(answer)))
            }
            "sampling/createMessage" => json(serde_json::to_value(sampling::write(self.sample(scope, params).await?)?)),
            "roots/list" => Ok(serde_json::json!({"roots": self.roots()})),
            other => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, other.to_owned(), None)),
        }
    }

    /// Counts a question of the call. Questions outside of any call share one counter.
    ///
    /// # Errors
    /// Returns a JSON-RPC error for the agent if there were too many.
    fn count_question(&self, scope: &RequestScope) -> Result<(), ErrorData> {
        let mut questions = self.questions.lock();
        let count = questions.entry(scope.origin.attempt.clone()).or_default();
        *count = count.saturating_add(1);
        if *count <= elicitation::MAX_QUESTIONS {
            return Ok(());
        }
        let message = format!("too many questions: at most {} per call are allowed", elicitation::MAX_QUESTIONS);
        Err(ErrorData::invalid_request(message, None))
    }

    /// Asks a person. The question is withdrawn when its answer is no longer needed.
    pub(crate) async fn elicit(&self, scope: &RequestScope, elicitation: Elicitation) -> Answer {
        self.ask_person(scope, scope.origin.clone(), elicitation).await
    }

    async fn ask_person(&self, scope: &RequestScope, origin: Origin, elicitation: Elicitation) -> Answer {
        let _waiting = scope.begin_wait(AnswerSource::Person);
        tokio::select! {
            answer = self.host.elicit(origin, elicitation) => answer,
            () = self.wait_until_moot(scope) => Answer::Cancel,
        }
    }

    /// Requests a reply of the model within the sampling quota of the agent, after a person's consent if required.
    ///
    /// # Errors
    /// Returns a JSON-RPC error for the agent.
    pub(crate) async fn sample(&self, scope: &RequestScope, params: &Value) -> Result<ChatReply, ErrorData> {
        if self.sampling() == SamplingSupport::Off {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "this host has no language model", None));
        }
        let chat = sampling::read(params, self.sampling())?;
        for hint in sampling::ignored_hints(params, &chat) {
            self.host.on_log(scope.origin.clone(), LogMessage::from_host("notice", hint));
        }
        let mut reservation = self.shared.sampling_quota.reserve(&chat)?;
        if self.shared.sampling_quota.requires_consent() {
            let question = Elicitation { message: consent_message(&chat), form: Form::Approval };
            // The consent question is the host's own, so its key differs from that of the agent's request.
            let origin = scope.origin.clone();
            let origin = Origin { key: origin.key.map(|key| format!("consent/{key}")), ..origin };
            if !matches!(self.ask_person(scope, origin, question).await, Answer::Accept { .. }) {
                return Err(ErrorData::new(USER_REJECTED, "the request to the language model was not approved", None));
            }
        }
        let _waiting = scope.begin_wait(AnswerSource::Host);
        reservation.mark_sent();
        tokio::select! {
            result = self.host.sample(scope.origin.clone(), chat) => {
                reservation.settle(&result);
                result.map_err(sampling::reply_error)
            }
            () = self.wait_until_moot(scope) => Err(ErrorData::internal_error("the call that requested the reply has \
                                                                               ended", None)),
        }
    }

    /// Waits until the answer for `scope` is no longer needed.
    async fn wait_until_moot(&self, scope: &RequestScope) {
        let calls_ended = async {
            if scope.candidates.calls.is_empty() {
                std::future::pending::<()>().await;
            }
            for call in &scope.candidates.calls {
                call.ended.cancelled().await;
            }
        };
        let connection_lost = async {
            // A request whose key outlives the connection can be answered over another one.
            if scope.origin.key.is_some() {
                std::future::pending::<()>().await;
            }
            self.lost.cancelled().await;
        };
        tokio::select! {
            () = scope.withdrawn.cancelled() => {}
            () = connection_lost => {}
            () = calls_ended => {}
        }
    }

    /// Forwards a log message within the rate limit. Reports the number of dropped messages at the end of the second.
    pub(crate) fn log(self: &Arc<Self>, mut message: LogMessage) {
        if let Some(logger) = &mut message.logger {
            truncate_bytes(logger, MAX_LOGGER_BYTES);
        }
        if matches!(message.data, Value::Object(_) | Value::Array(_)) {
            let json = message.data.to_string();
            if json.len() > MAX_LOG_BYTES {
                message.data = Value::String(json);
            }
        }
        if let Value::String(text) = &mut message.data {
            truncate_bytes(text, MAX_LOG_BYTES);
        }
        let now = Instant::now();
        let mut limiter = self.logs.lock();
        if now.duration_since(limiter.window_start) >= Duration::from_secs(1) && limiter.dropped == 0 {
            (limiter.window_start, limiter.passed) = (now, 0);
        }
        if limiter.passed < MAX_LOGS_PER_SECOND {
            limiter.passed += 1;
            drop(limiter);
            return self.forward_log(message);
        }
        limiter.dropped += 1;
        let (is_first, window_end) = (limiter.dropped == 1, limiter.window_start + Duration::from_secs(1));
        drop(limiter);
        if is_first {
            let state = self.clone();
            tokio::spawn(async move {
                state.lost.run_until_cancelled(tokio::time::sleep_until(window_end)).await;
                state.report_dropped_logs();
            });
        }
    }

    fn report_dropped_logs(&self) {
        let mut limiter = self.logs.lock();
        let dropped = std::mem::take(&mut limiter.dropped);
        (limiter.window_start, limiter.passed) = (Instant::now(), 0);
        drop(limiter);
        self.warn(format!("{dropped} log messages dropped: more than {MAX_LOGS_PER_SECOND} a second"));
    }

    /// Reports a warning of the host about the agent, in addition to the agent's own log messages.
    pub(crate) fn warn(&self, warning: String) {
        self.forward_log(LogMessage::from_host("warning", warning));
    }

    /// Reports what the host observes about the agent, as a message for people.
    pub(crate) fn inform(&self, text: String) {
        self.forward_log(LogMessage::from_host("notice", text));
    }

    fn forward_log(&self, message: LogMessage) {
        self.host.on_log(self.origin(&self.calls.candidates(None), None), message);
    }

    /// Reports a warning about the agent, within the rate limit of its log messages.
    pub(crate) fn warn_rate_limited(self: &Arc<Self>, text: &str) {
        self.log(LogMessage::from_host("warning", text.to_owned()));
    }

    /// Marks the connection as unusable for other calls.
    pub(crate) fn mark_stale(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }
}

impl RequestScope {
    fn begin_wait(&self, source: AnswerSource) -> Vec<WaitGuard> {
        self.candidates.calls.iter().map(|call| call.begin_wait(source)).collect()
    }
}

/// Returns a log message of this host about the agent.
/// Returns the consent question for a request to the model. The prompt comes from the agent, so it is untrusted data.
fn consent_message(chat: &ChatRequest) -> String {
    let parts = chat.messages.iter().flat_map(|message| &message.parts).map(|part| match part {
        ChatPart::Text { text } => text.as_str(),
        ChatPart::Image { .. } => "(an image)",
        ChatPart::Audio { .. } => "(sound)",
        ChatPart::ToolUse { .. } | ChatPart::UnreadableToolUse { .. } => "(a tool call)",
        ChatPart::Reasoning { .. } => "(thoughts)",
        ChatPart::ToolResult { text, .. } => text,
    });
    let mut prompt = chat.system.iter().map(String::as_str).chain(parts).collect::<Vec<_>>().join("\n");
    truncate_bytes(&mut prompt, MAX_CONSENT_PROMPT_BYTES);
    format!("allow a request to the language model for up to {} tokens? Prompt:\n{prompt}", chat.max_tokens)
}
