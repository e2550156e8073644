//! Tracks the calls in flight on one connection: their attempts, their progress, and the answers that they wait for.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rmcp::model::RequestId;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::mcp::checkpoint::RemoteTaskCheckpoint;
use crate::mcp::message::call_response::CallResponse;
use crate::mcp::message::request_id::id_number;
use crate::model::text::truncate_bytes;
use crate::model::{AttemptId, Failure, Progress};

/// The largest size of a stored progress message, in bytes. It is displayed on one line.
const MAX_PROGRESS_MESSAGE_BYTES: usize = 1_000;

/// The number of answers that an agent waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PendingAnswers {
    /// Answers from people.
    pub(crate) people: usize,
    /// Answers from the host: model replies and durable records.
    pub(crate) host: usize,
}

/// The source of an awaited answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerSource {
    Person,
    Host,
}

/// The state of one call, shared by the call, the transport that writes it, and the handler of the agent's messages.
#[derive(Debug)]
pub(crate) struct CallState {
    /// The attempt that made the call.
    pub(crate) attempt: AttemptId,
    /// Set when the transport starts to write the latest request.
    sent: AtomicBool,
    /// Updates from the agent for the call. Locked only to move values.
    mailbox: Mutex<Mailbox>,
    /// Wakes the call after a change of the mailbox or a transport failure.
    notify: Notify,
    /// A failure that is more precise than the error that reaches the call.
    transport_failure: OnceLock<Failure>,
    /// The remote task of the call, if the agent executes it as a task.
    pub(crate) remote_task: OnceLock<RemoteTaskCheckpoint>,
    /// Cancelled when the call has ended, which makes all its questions obsolete.
    pub(crate) ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Mailbox {
    progress: Option<Progress>,
    has_new_progress: bool,
    pending_answers: PendingAnswers,
}

impl CallState {
    /// Creates the state of a call that has not been sent.
    pub(crate) fn new(attempt: AttemptId) -> Arc<Self> {
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

    /// Returns whether the transport started to write the latest request.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Resets the sent flag before the next request of the same call.
    pub(crate) fn prepare(&self) {
        self.sent.store(false, Ordering::Relaxed);
    }

    /// Records that the transport starts to write the request.
    pub(crate) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// Records the progress of the call. Notifications can arrive out of order, so the highest value is kept.
    pub(crate) fn report(&self, mut progress: Progress) {
        if let Some(message) = &mut progress.message {
            truncate_bytes(message, MAX_PROGRESS_MESSAGE_BYTES);
        }
        let mut mailbox = self.mailbox.lock();
        mailbox.has_new_progress = true;
        if mailbox.progress.as_ref().is_none_or(|known| known.progress <= progress.progress) {
            mailbox.progress = Some(progress);
        }
        drop(mailbox);
        self.notify.notify_one();
    }

    /// Records a progress message without a number, as one step.
    pub(crate) fn report_message(&self, message: &str) {
        let known = self.mailbox.lock().progress.clone();
        let (progress, total) = match known {
            Some(Progress { progress, total: Some(total), .. }) => (progress, Some(total)),
            Some(Progress { progress, total: None, .. }) => (progress + 1.0, None),
            None => (1.0, None),
        };
        self.report(Progress { progress, total, message: Some(message.to_owned()) });
    }

    /// Returns the highest progress if any was reported since the last call.
    pub(crate) fn new_progress(&self) -> Option<Progress> {
        let mut mailbox = self.mailbox.lock();
        if std::mem::take(&mut mailbox.has_new_progress) { mailbox.progress.clone() } else { None }
    }

    /// Fails the call for a reason that only the transport knows.
    pub(crate) fn fail(&self, failure: Failure) {
        let _ = self.transport_failure.set(failure);
        self.notify.notify_one();
    }

    /// Returns the failure that the transport recorded.
    pub(crate) fn transport_failure(&self) -> Option<&Failure> {
        self.transport_failure.get()
    }

    /// Returns the number of answers that the agent waits for.
    pub(crate) fn pending_answers(&self) -> PendingAnswers {
        self.mailbox.lock().pending_answers
    }

    /// Waits for progress, a question, an answer, or a transport failure.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Wakes the call to check its state.
    pub(crate) fn notify(&self) {
        self.notify.notify_one();
    }

    /// Marks the agent as waiting for an answer until the guard is dropped.
    pub(crate) fn begin_wait(self: &Arc<Self>, source: AnswerSource) -> WaitGuard {
        self.update_wait_count(source, |n| n + 1);
        WaitGuard { call: self.clone(), source }
    }

    fn update_wait_count(&self, source: AnswerSource, change: impl Fn(usize) -> usize) {
        let mut mailbox = self.mailbox.lock();
        let count = match source {
            AnswerSource::Person => &mut mailbox.pending_answers.people,
            AnswerSource::Host => &mut mailbox.pending_answers.host,
        };
        *count = change(*count);
        drop(mailbox);
        self.notify.notify_one();
    }
}

/// The time during which the agent of a call waits for an answer.
#[derive(Debug)]
pub(crate) struct WaitGuard {
    call: Arc<CallState>,
    source: AnswerSource,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.call.update_wait_count(self.source, |n| n.saturating_sub(1));
    }
}

/// The open requests of calls by their IDs on the wire. The IDs are also the progress tokens, since some servers report
/// progress under the request's ID.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls {
    /// Shared by the transport, the handler, and the calls. Locked only for a lookup.
    table: Mutex<CallTable>,
}

#[derive(Debug, Default)]
struct CallTable {
    open: HashMap<i64, OpenCall>,
    /// Abandoned requests that the agent may still process, one for each abandoned call.
    abandoned: HashSet<i64>,
}

#[derive(Debug)]
struct OpenCall {
    call: Arc<CallState>,
    response: oneshot::Sender<Result<CallResponse, Failure>>,
}

/// The calls to which a request of the agent can belong.
#[derive(Debug, Clone)]
pub(crate) struct CandidateCalls {
    /// The calls in flight.
    pub(crate) calls: Vec<Arc<CallState>>,
    /// Whether the request can also belong to an abandoned call.
    pub(crate) includes_abandoned: bool,
}

impl CandidateCalls {
    /// Returns the call if there is exactly one candidate.
    pub(crate) fn only(&self) -> Option<&Arc<CallState>> {
        match self.calls.as_slice() {
            [call] if !self.includes_abandoned => Some(call),
            _ => None,
        }
    }
}

impl OpenCalls {
    /// Registers a request of `call` before it is sent, and returns the receiver of its response. The channel closes
    /// without a response when none can arrive.
    pub(crate) fn open(&self, request: i64, call: &Arc<CallState>) -> oneshot::Receiver<Result<CallResponse, Failure>> {
        let (sender, answer) = oneshot::channel();
        self.table.lock().open.insert(request, OpenCall { call: call.clone(), response: sender });
        answer
    }

    /// Returns whether the request belongs to a call and waits for its response.
    pub(crate) fn is_open(&self, request: i64) -> bool {
        self.table.lock().open.contains_key(&request)
    }

    /// Returns the IDs of up to two open requests.
    pub(crate) fn first_open(&self) -> [Option<i64>; 2] {
        let table = self.table.lock();
        let mut ids = table.open.keys().copied();
        [ids.next(), ids.next()]
    }

    /// Delivers the response to a call. A response without an open request is dropped.
    pub(crate) fn deliver(&self, request: i64, answer: Result<CallResponse, Failure>) {
        let open = self.table.lock().open.remove(&request);
        if let Some(open) = open {
            // The receiver may have been dropped meanwhile.
            let _ = open.response.send(answer);
        }
    }

    /// Returns the call of a progress token or a request ID.
    pub(crate) fn find(&self, id: &RequestId) -> Option<Arc<CallState>> {
        self.table.lock().open.get(&id_number(id)?).map(|open| open.call.clone())
    }

    /// Closes a request to which no response can arrive.
    pub(crate) fn settle(&self, request: i64) {
        self.table.lock().open.remove(&request);
    }

    /// Marks an open request as abandoned.
    pub(crate) fn abandon(&self, request: i64) {
        let mut table = self.table.lock();
        if table.open.remove(&request).is_some() {
            table.abandoned.insert(request);
        }
    }

    /// Removes an abandoned request after its late response.
    pub(crate) fn settle_abandoned(&self, id: &RequestId) {
        if let Some(request) = id_number(id) {
            self.table.lock().abandoned.remove(&request);
        }
    }

    /// Returns whether the agent may still process an abandoned call.
    pub(crate) fn has_abandoned(&self) -> bool {
        !self.table.lock().abandoned.is_empty()
    }

    /// Returns the calls to which a request of the agent can belong. With `request`, the ID of the stream on which it
    /// arrived, that is at most one call; otherwise all calls.
    pub(crate) fn candidates(&self, request: Option<&RequestId>) -> CandidateCalls {
        let table = self.table.lock();
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

#[cfg(test)]
mod tests {
    use rmcp::model::NumberOrString;

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
        let answer = || Ok(CallResponse::Unrecognized("none".to_owned()));
        calls.deliver(2, answer());
        assert_eq!(second.try_recv(), Ok(answer()));
        calls.abandon(2);
        assert!(!calls.has_abandoned());
    }
}
