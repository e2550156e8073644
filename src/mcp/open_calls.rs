//! Knows the calls in flight on one connection: which attempt each serves, how far it is and whom it waits for.
//! Never sends or receives.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rmcp::model::{ErrorData, NumberOrString, RequestId};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{call_result::CallResult, checkpoint::RemoteTaskCheckpoint, lock};
use crate::model::{AttemptId, Failure, Progress};

/// Bytes of a progress message that are kept: it is for one line of a screen.
const MAX_PROGRESS_MESSAGE_BYTES: usize = 1_000;

/// How many answers an agent waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PendingAnswers {
    /// From people.
    pub(super) people: usize,
    /// From the host itself: a model's reply, a durable record.
    pub(super) host: usize,
}

/// Whose answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerSource {
    Person,
    Host,
}

/// One call. Shared by the call itself, the transport that writes it and the handler of the agent's messages.
#[derive(Debug)]
pub(super) struct CallState {
    /// The attempt that it serves.
    pub(super) attempt: AttemptId,
    /// Set when the transport begins to write the latest request.
    sent: AtomicBool,
    /// Written on the agent's behalf, read by the call; held for a move.
    mailbox: Mutex<Mailbox>,
    /// Wakes the call for the mailbox and for a verdict.
    notify: Notify,
    /// What the transport knows better than the error that reaches the call.
    transport_failure: OnceLock<Failure>,
    /// The task as which the agent carries it out, if it does.
    pub(super) remote_task: OnceLock<RemoteTaskCheckpoint>,
    /// Cancelled when the call has ended: whatever was asked on its behalf is moot.
    pub(super) ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Mailbox {
    progress: Option<Progress>,
    has_new_progress: bool,
    pending_answers: PendingAnswers,
}

impl CallState {
    /// A call that has not been sent.
    pub(super) fn new(attempt: AttemptId) -> Arc<Self> {
        Arc::new(Self {
            attempt,
            sent: AtomicBool::new(false),
            mailbox: Mutex::default(),
            notify: Notify::new(),
            transport_failure: OnceLock::new(),
            remote_task: OnceLock::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Whether the transport began to write the latest request.
    pub(super) fn was_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// A new request of the same call is about to be sent.
    pub(super) fn prepare(&self) {
        self.sent.store(false, Ordering::Relaxed);
    }

    /// The transport begins to write.
    pub(super) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// The agent reported progress. Messages overtake each other, so that the furthest counts.
    pub(super) fn report(&self, mut progress: Progress) {
        if let Some(message) = &mut progress.message {
            super::truncate(message, MAX_PROGRESS_MESSAGE_BYTES);
        }
        let mut mailbox = lock(&self.mailbox);
        mailbox.has_new_progress = true;
        if mailbox.progress.as_ref().is_none_or(|kept| kept.progress <= progress.progress) {
            mailbox.progress = Some(progress);
        }
        drop(mailbox);
        self.notify.notify_one();
    }

    /// The agent said what it is doing, without a number: that is a step further.
    pub(super) fn report_message(&self, message: &str) {
        let end = message.char_indices().nth(MAX_PROGRESS_MESSAGE_BYTES).map_or(message.len(), |(end, _)| end);
        let kept = lock(&self.mailbox).progress.clone();
        let (progress, total) = match kept {
            Some(Progress { progress, total: Some(total), .. }) => (progress, Some(total)),
            Some(Progress { progress, total: None, .. }) => (progress + 1.0, None),
            None => (1.0, None),
        };
        self.report(Progress { progress, total, message: Some(message[..end].to_owned()) });
    }

    /// The furthest progress, if any arrived since the last time.
    pub(super) fn new_progress(&self) -> Option<Progress> {
        let mut mailbox = lock(&self.mailbox);
        if std::mem::take(&mut mailbox.has_new_progress) { mailbox.progress.clone() } else { None }
    }

    /// The call fails for a reason that only the transport knows.
    pub(super) fn fail(&self, failure: Failure) {
        let _ = self.transport_failure.set(failure);
        self.notify.notify_one();
    }

    /// That reason.
    pub(super) fn transport_failure(&self) -> Option<&Failure> {
        self.transport_failure.get()
    }

    /// Whom the agent waits for.
    pub(super) fn pending_answers(&self) -> PendingAnswers {
        lock(&self.mailbox).pending_answers
    }

    /// Waits for progress, a question, an answer or a verdict.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Has the call look after itself.
    pub(super) fn notify(&self) {
        self.notify.notify_one();
    }

    /// The agent waits for somebody until the result is dropped.
    pub(super) fn begin_wait(self: &Arc<Self>, source: AnswerSource) -> WaitGuard {
        self.update_wait_count(source, |n| n + 1);
        WaitGuard { call: self.clone(), source }
    }

    fn update_wait_count(&self, source: AnswerSource, change: impl Fn(usize) -> usize) {
        let mut mailbox = lock(&self.mailbox);
        let count = match source {
            AnswerSource::Person => &mut mailbox.pending_answers.people,
            AnswerSource::Host => &mut mailbox.pending_answers.host,
        };
        *count = change(*count);
        drop(mailbox);
        self.notify.notify_one();
    }
}

/// Somebody is being asked on behalf of a call.
#[derive(Debug)]
pub(super) struct WaitGuard {
    call: Arc<CallState>,
    source: AnswerSource,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.call.update_wait_count(self.source, |n| n.saturating_sub(1));
    }
}

/// What came of the request of a call.
#[derive(Debug, PartialEq)]
pub(super) enum CallResponse {
    Result(CallResult),
    /// A JSON-RPC error.
    RpcError(ErrorData),
    /// There is no answer, and the transport knows why.
    Failed(Failure),
}

/// The requests of calls that wait for an answer, by their ids on the wire, which are their progress tokens too: some
/// servers report progress under the request's id.
#[derive(Debug, Default)]
pub(super) struct OpenCalls {
    /// Shared by the transport, the handler and the calls; held for a look-up.
    table: Mutex<CallTable>,
}

#[derive(Debug, Default)]
struct CallTable {
    open: HashMap<i64, OpenCall>,
    /// Requests that nobody waits for any more, and that the agent may still work on. One for each call that was given
    /// up.
    abandoned: HashSet<i64>,
}

#[derive(Debug)]
struct OpenCall {
    call: Arc<CallState>,
    response: oneshot::Sender<CallResponse>,
}

/// The calls on whose behalf an agent may be asking.
#[derive(Debug, Clone)]
pub(super) struct CandidateCalls {
    /// Those in flight.
    pub(super) calls: Vec<Arc<CallState>>,
    /// Whether it may be a call that was given up as well.
    pub(super) includes_abandoned: bool,
}

impl CandidateCalls {
    /// The only one that it can be.
    pub(super) fn only(&self) -> Option<&Arc<CallState>> {
        match self.calls.as_slice() {
            [call] if !self.includes_abandoned => Some(call),
            _ => None,
        }
    }
}

impl OpenCalls {
    /// A request of `call` is about to be sent; gives where its answer will be. That ends without one when no more can
    /// come of the request.
    pub(super) fn open(&self, request: i64, call: &Arc<CallState>) -> oneshot::Receiver<CallResponse> {
        let (sender, answer) = oneshot::channel();
        lock(&self.table).open.insert(request, OpenCall { call: call.clone(), response: sender });
        answer
    }

    /// Whether the request is that of a call, and waits for its answer.
    pub(super) fn is_open(&self, request: i64) -> bool {
        lock(&self.table).open.contains_key(&request)
    }

    /// The ids of up to two requests that wait for their answers.
    pub(super) fn first_open(&self) -> [Option<i64>; 2] {
        let table = lock(&self.table);
        let mut ids = table.open.keys().copied();
        [ids.next(), ids.next()]
    }

    /// The answer to the request of a call came; one that nobody waits for is dropped.
    pub(super) fn deliver(&self, request: i64, answer: CallResponse) {
        let open = lock(&self.table).open.remove(&request);
        if let Some(open) = open {
            // Whoever waited may be gone by now.
            let _ = open.response.send(answer);
        }
    }

    /// The call that a progress token or a request id means.
    pub(super) fn find(&self, id: &RequestId) -> Option<Arc<CallState>> {
        lock(&self.table).open.get(&id_number(id)?).map(|open| open.call.clone())
    }

    /// No answer to the request can come any more.
    pub(super) fn settle(&self, request: i64) {
        lock(&self.table).open.remove(&request);
    }

    /// Nobody waits for the answer to the request any more, if it has not come.
    pub(super) fn abandon(&self, request: i64) {
        let mut table = lock(&self.table);
        if table.open.remove(&request).is_some() {
            table.abandoned.insert(request);
        }
    }

    /// A late answer came: the agent no longer works on the request.
    pub(super) fn settle_abandoned(&self, id: &RequestId) {
        if let Some(request) = id_number(id) {
            lock(&self.table).abandoned.remove(&request);
        }
    }

    /// Whether the agent may still work on a call that was given up.
    pub(super) fn has_abandoned(&self) -> bool {
        !lock(&self.table).abandoned.is_empty()
    }

    /// The calls on whose behalf the agent may be asking: the one of the request on whose stream it asks, where the
    /// transport tells, else all.
    pub(super) fn candidates(&self, request: Option<&RequestId>) -> CandidateCalls {
        let table = lock(&self.table);
        match request {
            Some(id) => {
                let call = id_number(id).and_then(|id| table.open.get(&id)).map(|open| open.call.clone());
                CandidateCalls { calls: call.into_iter().collect(), includes_abandoned: false }
            }
            None => {
                let calls = table.open.values().map(|open| open.call.clone()).collect();
                CandidateCalls { calls, includes_abandoned: !table.abandoned.is_empty() }
            }
        }
    }
}

/// The number that an id is. Some servers send numbers back as text.
pub(super) fn id_number(id: &RequestId) -> Option<i64> {
    match id {
        NumberOrString::Number(number) => Some(*number),
        NumberOrString::String(text) => text.parse().ok(),
    }
}

/// The id, as the host would write it.
pub(super) fn normalized_id(id: &RequestId) -> RequestId {
    id_number(id).map_or_else(|| id.clone(), NumberOrString::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(task: &str) -> Arc<CallState> {
        CallState::new(AttemptId { task: task.into(), number: 1 })
    }

    fn progress(progress: f64) -> Progress {
        Progress { progress, total: None, message: None }
    }

    #[test]
    fn furthest_progress_is_returned_once() {
        let call = call("a");
        assert_eq!(call.new_progress(), None);
        for n in [1.0, 3.0, 2.0] {
            call.report(progress(n));
        }
        assert_eq!(call.new_progress(), Some(progress(3.0)));
        assert_eq!(call.new_progress(), None);
        call.report(progress(1.0));
        assert_eq!(call.new_progress(), Some(progress(3.0)));
    }

    #[test]
    fn pending_answers_are_counted_by_source() {
        let call = call("a");
        let person = call.begin_wait(AnswerSource::Person);
        let model = call.begin_wait(AnswerSource::Host);
        assert_eq!(call.pending_answers(), PendingAnswers { people: 1, host: 1 });
        drop(person);
        assert_eq!(call.pending_answers(), PendingAnswers { people: 0, host: 1 });
        drop(model);
        assert_eq!(call.pending_answers(), PendingAnswers::default());
    }

    #[test]
    fn calls_are_found_by_token_and_by_stream() {
        let calls = OpenCalls::default();
        let (a, b) = (call("a"), call("b"));
        let _answers = [(4, &a), (5, &b)].map(|(id, call)| calls.open(id, call));
        let named = |id: RequestId| calls.find(&id).map(|call| call.attempt.task.to_string());
        assert_eq!(named(NumberOrString::Number(4)), Some("a".to_owned()));
        assert_eq!(named(NumberOrString::String("5".into())), Some("b".to_owned()));
        assert_eq!(named(NumberOrString::String("x".into())), None);
        let only = |stream: Option<i64>| {
            let candidates = calls.candidates(stream.map(NumberOrString::Number).as_ref());
            candidates.only().map(|call| call.attempt.task.to_string())
        };
        assert_eq!([only(Some(5)), only(Some(6)), only(None)], [Some("b".to_owned()), None, None]);
        calls.settle(5);
        assert_eq!(named(NumberOrString::Number(5)), None);
        assert_eq!(only(None), Some("a".to_owned()));
    }

    #[test]
    fn abandoned_calls_stay_candidates_until_answered() {
        let calls = OpenCalls::default();
        let (a, b) = (call("a"), call("b"));
        let _first = calls.open(1, &a);
        calls.abandon(1);
        let mut second = calls.open(2, &b);
        assert!(calls.candidates(None).only().is_none());
        assert!(calls.candidates(Some(&NumberOrString::Number(2))).only().is_some());
        calls.settle_abandoned(&NumberOrString::String("1".into()));
        assert!(calls.candidates(None).only().is_some() && !calls.has_abandoned());
        let answer = || CallResponse::Result(CallResult::Unrecognized("none".to_owned()));
        calls.deliver(2, answer());
        assert_eq!(second.try_recv(), Ok(answer()));
        calls.abandon(2);
        assert!(!calls.has_abandoned());
    }
}
