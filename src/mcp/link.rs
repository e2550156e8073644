//! Holds what one connection shares between its transport, its handler and its calls, and asks the host on the
//! agent's behalf.
//! Never decides what an answer means.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rmcp::model::{ClientRequest, ErrorCode, ErrorData, RequestId};
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Host, Sampling,
    allowance::{Allowance, REJECTED},
    calls::{Calls, Candidates, InFlight, Waiting, Whom, number},
    codec::{Expected, Requests},
    elicitation, failure, lock, sampling,
    session::Session,
    turns::Turns,
};
use crate::model::{
    AgentId, Answer, AttemptId, ChatPart, ChatReply, ChatRequest, Elicitation, Form, LogMessage, Origin, Progress,
};

/// Log messages of one agent that reach the host within a second: as many as a person can follow, and more.
const LOGS_A_SECOND: u32 = 50;
/// Bytes of the name of a logger that are kept.
const MAX_LOGGER: usize = 256;
/// Bytes of a log message's text, or of its data as JSON, that are kept.
pub(super) const LONGEST_LOG: usize = 8 * 1024;
/// Bytes of a prompt that a person sees before the model does.
const LONGEST_PROMPT: usize = 500;

/// What belongs to one connection.
pub(super) struct Link {
    /// The agent at the other end.
    pub(super) agent: AgentId,
    /// Who answers what the agent asks.
    pub(super) host: Arc<dyn Host>,
    /// The calls in flight.
    pub(super) calls: Calls,
    /// Cancelled when nothing more can come over the connection.
    pub(super) lost: CancellationToken,
    /// The session, if it comes to have one.
    pub(super) session: Session,
    /// The requests of the service that wait for an answer.
    pub(super) requests: OpenRequests,
    common: Arc<Common>,
    /// Tells of resources that have changed, whichever.
    pub(super) resources_changed: watch::Sender<()>,
    /// Set when the agent announced another list of tools.
    pub(super) tools_changed: AtomicBool,
    /// Set when the connection is not good for another call.
    pub(super) stale: AtomicBool,
    /// Set when the probe for the modern era failed for a reason that has nothing to do with eras.
    pub(super) probe_failed: AtomicBool,
    /// Counts log messages; held for a comparison.
    logs: Mutex<LogGate>,
    /// How many questions each call has asked.
    questions: Mutex<HashMap<Option<AttemptId>, u32>>,
}

#[derive(Debug)]
struct LogGate {
    since: Instant,
    passed: u32,
    dropped: u64,
}

/// What all connections to one agent have in common.
#[derive(Debug)]
pub(super) struct Common {
    /// What it is told of sampling.
    pub(super) sampling: Sampling,
    /// What the agent may ask of the model.
    pub(super) allowance: Allowance,
    /// Whose turn it is on which connection, where requests of the agent do not say which call they are for.
    pub(super) turns: Turns,
    /// Set when the host leaves what is under way to a later process.
    pub(super) left: AtomicBool,
}

/// The requests of the service that wait for an answer, by their ids on the wire, and how each answer is read.
#[derive(Debug, Default)]
pub(super) struct OpenRequests(Mutex<HashMap<i64, Expected>>);

impl OpenRequests {
    /// Notes that `request` is about to be sent under `id`.
    pub(super) fn add(&self, id: &RequestId, request: &ClientRequest) -> Expected {
        let expected = match request {
            ClientRequest::InitializeRequest(_) => Expected::Initialize,
            ClientRequest::DiscoverRequest(_) => Expected::Discover,
            ClientRequest::ListToolsRequest(_) => Expected::Text,
            _ => Expected::Other,
        };
        if let Some(id) = number(id) {
            lock(&self.0).insert(id, expected);
        }
        expected
    }

    /// Removes the request, and says whether it was open.
    pub(super) fn take(&self, id: &RequestId) -> bool {
        number(id).is_some_and(|id| lock(&self.0).remove(&id).is_some())
    }
}

impl Requests for Link {
    fn expected(&self, id: i64) -> Option<Expected> {
        if self.calls.is_open(id) { Some(Expected::Call) } else { lock(&self.requests.0).get(&id).copied() }
    }

    fn only(&self) -> Option<i64> {
        let requests = lock(&self.requests.0);
        let open = self.calls.first_open().into_iter().flatten().chain(requests.keys().copied());
        match open.collect::<Vec<_>>().as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }
}

/// On whose behalf an agent asks.
pub(super) struct Asker {
    origin: Origin,
    candidates: Candidates,
    /// Cancelled when the agent takes its request back.
    withdrawn: CancellationToken,
}

impl Link {
    /// A link to an agent, before anything is sent over it.
    pub(super) fn new(session: Session, common: Arc<Common>) -> Arc<Self> {
        Arc::new(Self {
            agent: session.agent.clone(),
            host: session.host.clone(),
            calls: Calls::default(),
            lost: CancellationToken::new(),
            session,
            requests: OpenRequests::default(),
            common,
            resources_changed: watch::Sender::new(()),
            tools_changed: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            probe_failed: AtomicBool::new(false),
            logs: Mutex::new(LogGate { since: Instant::now(), passed: 0, dropped: 0 }),
            questions: Mutex::default(),
        })
    }

    /// A message was larger than what is read. With one call in flight, it was that call's.
    pub(super) fn overflowed(&self) {
        tracing::warn!(agent = %self.agent, "the agent sent a message that is too large");
        if let Some(call) = self.calls.candidates(None).only() {
            call.condemn(failure::too_large(&self.agent));
        }
    }

    /// Takes in progress as it arrives.
    pub(super) fn progressed(&self, token: &RequestId, progress: Progress) {
        // Progress of a call that has ended is nobody's.
        if let Some(call) = self.calls.find(token) {
            call.report(progress);
        }
    }

    /// Takes note of a request of the agent as it arrives, on the stream of `stream` if the transport has streams: the
    /// calls that are in flight now are those that it can be for. It has to be asked before a later message is looked
    /// at, which may be the answer to one of them.
    pub(super) fn asked(&self, stream: Option<&RequestId>) -> Candidates {
        if stream.is_none() {
            self.common.turns.asks_back.noticed();
        }
        self.calls.candidates(stream)
    }

    /// What the agent was told of sampling.
    pub(super) fn sampling(&self) -> Sampling {
        self.common.sampling
    }

    /// Whether nothing more is to be sent, since a later process goes on with what is under way.
    pub(super) fn is_left(&self) -> bool {
        self.common.left.load(Ordering::Relaxed)
    }

    /// Who asks in `request`, which can only be for one of `candidates`. An only one is the one that asks, and of
    /// several none is: the host does not guess.
    pub(super) fn asker(&self, candidates: Candidates, request: &RequestId, withdrawn: CancellationToken) -> Asker {
        let key = self.session.kept().map(|_| request.to_string());
        Asker { origin: self.origin(&candidates, key), candidates, withdrawn }
    }

    fn origin(&self, candidates: &Candidates, key: Option<String>) -> Origin {
        let attempt = candidates.only().map(|call| call.attempt.clone());
        Origin { agent: self.agent.clone(), attempt, key }
    }

    /// Who asks in a request that is `call`'s for certain; `key` is the agent's own name of the request, if it has one
    /// that outlives the connection.
    pub(super) fn asker_of(&self, call: &Arc<InFlight>, key: Option<String>) -> Asker {
        let origin = Origin { agent: self.agent.clone(), attempt: Some(call.attempt.clone()), key };
        let candidates = Candidates { calls: vec![call.clone()], others: false };
        Asker { origin, candidates, withdrawn: CancellationToken::new() }
    }

    /// Answers a request that came as input which a call needs: an object with `method` and `params`.
    ///
    /// # Errors
    /// As [`Link::answer`].
    pub(super) async fn answer_to(&self, asker: &Asker, request: &Value) -> Result<Value, ErrorData> {
        let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
        self.answer(asker, method, request.get("params").unwrap_or(&Value::Null)).await
    }

    /// Answers a request of the agent: JSON in, JSON out.
    ///
    /// # Errors
    /// A JSON-RPC error for the agent.
    pub(super) async fn answer(&self, asker: &Asker, method: &str, params: &Value) -> Result<Value, ErrorData> {
        let json = |value: serde_json::Result<Value>| value.map_err(|e| ErrorData::internal_error(e.to_string(), None));
        match method {
            "elicitation/create" => {
                let question = elicitation::read(params)?;
                self.count_question(asker)?;
                let answer = self.elicit(asker, question).await;
                json(serde_json::to_value(elicitation::write(answer)))
            }
            "sampling/createMessage" => json(serde_json::to_value(sampling::write(self.sample(asker, params).await?)?)),
            "roots/list" => Ok(serde_json::json!({"roots": []})),
            other => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, other.to_owned(), None)),
        }
    }

    /// Counts a question of the call; those outside of any call count together.
    ///
    /// # Errors
    /// A JSON-RPC error for the agent if there were too many.
    fn count_question(&self, asker: &Asker) -> Result<(), ErrorData> {
        let mut questions = lock(&self.questions);
        let count = questions.entry(asker.origin.attempt.clone()).or_default();
        *count = count.saturating_add(1);
        if *count <= elicitation::MAX_QUESTIONS {
            return Ok(());
        }
        let message = format!("too many questions: this host asks at most {} in a call", elicitation::MAX_QUESTIONS);
        Err(ErrorData::invalid_request(message, None))
    }

    /// Asks a person; a question that nobody waits for any more is taken back.
    pub(super) async fn elicit(&self, asker: &Asker, elicitation: Elicitation) -> Answer {
        self.ask_person(asker, asker.origin.clone(), elicitation).await
    }

    async fn ask_person(&self, asker: &Asker, origin: Origin, elicitation: Elicitation) -> Answer {
        let _waiting = asker.waits_for(Whom::Person);
        tokio::select! {
            answer = self.host.elicit(origin, elicitation) => answer,
            () = self.moot(asker) => Answer::Cancel,
        }
    }

    /// Asks the model, as far as the agent's section lets it: within its caps, and after a person where that is said.
    ///
    /// # Errors
    /// A JSON-RPC error for the agent.
    pub(super) async fn sample(&self, asker: &Asker, params: &Value) -> Result<ChatReply, ErrorData> {
        if self.sampling() == Sampling::Off {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "this host has no language model", None));
        }
        let chat = sampling::read(params, self.sampling())?;
        for hint in sampling::ignored(params, &chat) {
            let (level, logger) = ("notice".to_owned(), Some("kapell".to_owned()));
            self.host.logged(asker.origin.clone(), LogMessage { level, logger, data: Value::String(hint) });
        }
        let mut charge = self.common.allowance.charge(&chat)?;
        if self.common.allowance.wants_consent() {
            let question = Elicitation { message: consent_to(&chat), form: Form::Approval };
            // Not the agent's own request, and so not by its name.
            let origin = asker.origin.clone();
            let origin = Origin { key: origin.key.map(|key| format!("consent/{key}")), ..origin };
            if !matches!(self.ask_person(asker, origin, question).await, Answer::Accept { .. }) {
                return Err(ErrorData::new(REJECTED, "nobody allowed the request to the language model", None));
            }
        }
        let _waiting = asker.waits_for(Whom::Host);
        charge.send();
        tokio::select! {
            result = self.host.sample(asker.origin.clone(), chat) => {
                charge.settle(&result);
                result.map_err(sampling::error)
            }
            () = self.moot(asker) => Err(ErrorData::internal_error("nobody waits for the reply any more", None)),
        }
    }

    /// Waits until the answer to `asker` would reach nobody.
    async fn moot(&self, asker: &Asker) {
        let calls_ended = async {
            if asker.candidates.calls.is_empty() {
                std::future::pending::<()>().await;
            }
            for call in &asker.candidates.calls {
                call.ended.cancelled().await;
            }
        };
        let nobody_there = async {
            // A request by a name that outlives the connection can be answered over another one.
            if asker.origin.key.is_some() {
                std::future::pending::<()>().await;
            }
            self.lost.cancelled().await;
        };
        tokio::select! {
            () = asker.withdrawn.cancelled() => {}
            () = nobody_there => {}
            () = calls_ended => {}
        }
    }

    /// Passes a log message on, unless the agent floods; then a count of what was dropped follows.
    pub(super) fn logged(self: &Arc<Self>, mut message: LogMessage) {
        if let Some(logger) = &mut message.logger {
            super::truncate(logger, MAX_LOGGER);
        }
        if matches!(message.data, Value::Object(_) | Value::Array(_)) {
            let json = message.data.to_string();
            if json.len() > LONGEST_LOG {
                message.data = Value::String(json);
            }
        }
        if let Value::String(text) = &mut message.data {
            super::truncate(text, LONGEST_LOG);
        }
        let now = Instant::now();
        let mut gate = lock(&self.logs);
        if now.duration_since(gate.since) >= Duration::from_secs(1) && gate.dropped == 0 {
            (gate.since, gate.passed) = (now, 0);
        }
        if gate.passed < LOGS_A_SECOND {
            gate.passed += 1;
            drop(gate);
            return self.pass_on(message);
        }
        gate.dropped += 1;
        let (first, ends) = (gate.dropped == 1, gate.since + Duration::from_secs(1));
        drop(gate);
        if first {
            let link = self.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep_until(ends) => {}
                    () = link.lost.cancelled() => {}
                }
                link.report_dropped_logs();
            });
        }
    }

    fn report_dropped_logs(&self) {
        let mut gate = lock(&self.logs);
        let dropped = std::mem::take(&mut gate.dropped);
        (gate.since, gate.passed) = (Instant::now(), 0);
        drop(gate);
        self.warn(format!("{dropped} log messages dropped: more than {LOGS_A_SECOND} a second"));
    }

    /// Reports a warning of the host about the agent, beside the agent's own log messages.
    pub(super) fn warn(&self, warning: String) {
        let data = Value::String(warning);
        self.pass_on(LogMessage { level: "warning".to_owned(), logger: Some("kapell".to_owned()), data });
    }

    fn pass_on(&self, message: LogMessage) {
        self.host.logged(self.origin(&self.calls.candidates(None), None), message);
    }

    /// Tells people about the agent, as a line of its log.
    pub(super) fn note_to_people(self: &Arc<Self>, text: &str) {
        let (level, logger) = ("warning".to_owned(), Some("kapell".to_owned()));
        self.logged(LogMessage { level, logger, data: Value::String(text.to_owned()) });
    }

    /// Marks the connection as not good for another call.
    pub(super) fn retire(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }
}

impl Asker {
    /// The same, until `withdrawn` says that the agent has taken its request back.
    pub(super) fn until(self, withdrawn: CancellationToken) -> Self {
        Self { withdrawn, ..self }
    }

    fn waits_for(&self, whom: Whom) -> Vec<Waiting> {
        self.candidates.calls.iter().map(|call| call.waits_for(whom)).collect()
    }
}

/// What a person is asked before a request goes to the model. The prompt is the agent's, so data.
fn consent_to(chat: &ChatRequest) -> String {
    let parts = chat.messages.iter().flat_map(|message| &message.parts).map(|part| match part {
        ChatPart::Text { text } => text.as_str(),
        ChatPart::Image { .. } => "(a picture)",
        ChatPart::Audio { .. } => "(sound)",
        ChatPart::ToolUse { .. } | ChatPart::UnreadableToolUse { .. } => "(a request for a tool)",
        ChatPart::Reasoning { .. } => "(thoughts)",
        ChatPart::ToolResult { text, .. } => text,
    });
    let mut prompt = chat.system.iter().map(String::as_str).chain(parts).collect::<Vec<_>>().join("\n");
    super::truncate(&mut prompt, LONGEST_PROMPT);
    format!("may it ask the language model, for up to {} tokens? Its prompt:\n{prompt}", chat.max_tokens)
}
