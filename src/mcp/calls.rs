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

use super::{lock, note::RemoteTaskNote, result::Answered};
use crate::model::{AttemptId, Failure, Progress};

/// Bytes of a progress message that are kept: it is for one line of a screen.
const LONGEST_MESSAGE: usize = 1_000;

/// How many answers an agent waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asking {
    /// From people.
    pub(super) people: usize,
    /// From the host itself: a model's reply, a durable record.
    pub(super) host: usize,
}

/// Whose answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    Person,
    Host,
}

/// One call. Shared by the call itself, the transport that writes it and the handler of the agent's messages.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The attempt that it serves.
    pub(super) attempt: AttemptId,
    /// Set when the transport begins to write the latest request.
    sent: AtomicBool,
    /// Written on the agent's behalf, read by the call; held for a move.
    mailbox: Mutex<Mailbox>,
    /// Wakes the call for the mailbox and for a verdict.
    stirred: Notify,
    /// What the transport knows better than the error that reaches the call.
    verdict: OnceLock<Failure>,
    /// The task as which the agent carries it out, if it does.
    pub(super) remote_task: OnceLock<RemoteTaskNote>,
    /// Cancelled when the call has ended: whatever was asked on its behalf is moot.
    pub(super) ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Mailbox {
    progress: Option<Progress>,
    arrived: bool,
    asking: Asking,
}

impl InFlight {
    /// A call that has not been sent.
    pub(super) fn new(attempt: AttemptId) -> Arc<Self> {
        Arc::new(Self {
            attempt,
            sent: AtomicBool::new(false),
            mailbox: Mutex::default(),
            stirred: Notify::new(),
            verdict: OnceLock::new(),
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
    pub(super) fn leaves(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// The agent reported progress. Messages overtake each other, so that the furthest counts.
    pub(super) fn report(&self, mut progress: Progress) {
        if let Some(message) = &mut progress.message {
            super::truncate(message, LONGEST_MESSAGE);
        }
        let mut mailbox = lock(&self.mailbox);
        mailbox.arrived = true;
        if mailbox.progress.as_ref().is_none_or(|kept| kept.progress <= progress.progress) {
            mailbox.progress = Some(progress);
        }
        drop(mailbox);
        self.stirred.notify_one();
    }

    /// The agent said what it is doing, without a number: that is a step further.
    pub(super) fn say(&self, message: &str) {
        let end = message.char_indices().nth(LONGEST_MESSAGE).map_or(message.len(), |(end, _)| end);
        let kept = lock(&self.mailbox).progress.clone();
        let (progress, total) = match kept {
            Some(Progress { progress, total: Some(total), .. }) => (progress, Some(total)),
            Some(Progress { progress, total: None, .. }) => (progress + 1.0, None),
            None => (1.0, None),
        };
        self.report(Progress { progress, total, message: Some(message[..end].to_owned()) });
    }

    /// The furthest progress, if any arrived since the last time.
    pub(super) fn news(&self) -> Option<Progress> {
        let mut mailbox = lock(&self.mailbox);
        if std::mem::take(&mut mailbox.arrived) { mailbox.progress.clone() } else { None }
    }

    /// The call fails for a reason that only the transport knows.
    pub(super) fn condemn(&self, failure: Failure) {
        let _ = self.verdict.set(failure);
        self.stirred.notify_one();
    }

    /// That reason.
    pub(super) fn verdict(&self) -> Option<&Failure> {
        self.verdict.get()
    }

    /// Whom the agent waits for.
    pub(super) fn asking(&self) -> Asking {
        lock(&self.mailbox).asking
    }

    /// Waits for progress, a question, an answer or a verdict.
    pub(super) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Has the call look after itself.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// The agent waits for somebody until the result is dropped.
    pub(super) fn waits_for(self: &Arc<Self>, whom: Whom) -> Waiting {
        self.count(whom, |n| n + 1);
        Waiting { call: self.clone(), whom }
    }

    fn count(&self, whom: Whom, change: impl Fn(usize) -> usize) {
        let mut mailbox = lock(&self.mailbox);
        let count = match whom {
            Whom::Person => &mut mailbox.asking.people,
            Whom::Host => &mut mailbox.asking.host,
        };
        *count = change(*count);
        drop(mailbox);
        self.stirred.notify_one();
    }
}

/// Somebody is being asked on behalf of a call.
#[derive(Debug)]
pub(super) struct Waiting {
    call: Arc<InFlight>,
    whom: Whom,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.call.count(self.whom, |n| n.saturating_sub(1));
    }
}

/// What came of the request of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Result(Answered),
    /// A JSON-RPC error.
    Error(ErrorData),
    /// There is no answer, and the transport knows why.
    None(Failure),
}

/// The requests of calls that wait for an answer, by their ids on the wire, which are their progress tokens too: some
/// servers report progress under the request's id.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Shared by the transport, the handler and the calls; held for a look-up.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<i64, Open>,
    /// Requests that nobody waits for any more, and that the agent may still work on. One for each call that was given
    /// up.
    given_up: HashSet<i64>,
}

#[derive(Debug)]
struct Open {
    call: Arc<InFlight>,
    answer: oneshot::Sender<Answer>,
}

/// The calls on whose behalf an agent may be asking.
#[derive(Debug, Clone)]
pub(super) struct Candidates {
    /// Those in flight.
    pub(super) calls: Vec<Arc<InFlight>>,
    /// Whether it may be a call that was given up as well.
    pub(super) others: bool,
}

impl Candidates {
    /// The only one that it can be.
    pub(super) fn only(&self) -> Option<&Arc<InFlight>> {
        match self.calls.as_slice() {
            [call] if !self.others => Some(call),
            _ => None,
        }
    }
}

impl Calls {
    /// A request of `call` is about to be sent; gives where its answer will be. That ends without one when no more can
    /// come of the request.
    pub(super) fn open(&self, request: i64, call: &Arc<InFlight>) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel();
        lock(&self.table).open.insert(request, Open { call: call.clone(), answer: sender });
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
    pub(super) fn answer(&self, request: i64, answer: Answer) {
        let open = lock(&self.table).open.remove(&request);
        if let Some(open) = open {
            // Whoever waited may be gone by now.
            let _ = open.answer.send(answer);
        }
    }

    /// The call that a progress token or a request id means.
    pub(super) fn find(&self, id: &RequestId) -> Option<Arc<InFlight>> {
        lock(&self.table).open.get(&number(id)?).map(|open| open.call.clone())
    }

    /// No answer to the request can come any more.
    pub(super) fn settle(&self, request: i64) {
        lock(&self.table).open.remove(&request);
    }

    /// Nobody waits for the answer to the request any more, if it has not come.
    pub(super) fn give_up(&self, request: i64) {
        let mut table = lock(&self.table);
        if table.open.remove(&request).is_some() {
            table.given_up.insert(request);
        }
    }

    /// A late answer came: the agent no longer works on the request.
    pub(super) fn answered_late(&self, id: &RequestId) {
        if let Some(request) = number(id) {
            lock(&self.table).given_up.remove(&request);
        }
    }

    /// Whether the agent may still work on a call that was given up.
    pub(super) fn has_given_up(&self) -> bool {
        !lock(&self.table).given_up.is_empty()
    }

    /// The calls on whose behalf the agent may be asking: the one of the request on whose stream it asks, where the
    /// transport tells, else all.
    pub(super) fn candidates(&self, request: Option<&RequestId>) -> Candidates {
        let table = lock(&self.table);
        match request {
            Some(id) => {
                let call = number(id).and_then(|id| table.open.get(&id)).map(|open| open.call.clone());
                Candidates { calls: call.into_iter().collect(), others: false }
            }
            None => {
                let calls = table.open.values().map(|open| open.call.clone()).collect();
                Candidates { calls, others: !table.given_up.is_empty() }
            }
        }
    }
}

/// The number that an id is. Some servers send numbers back as text.
pub(super) fn number(id: &RequestId) -> Option<i64> {
    match id {
        NumberOrString::Number(number) => Some(*number),
        NumberOrString::String(text) => text.parse().ok(),
    }
}

/// The id, as the host would write it.
pub(super) fn normal(id: &RequestId) -> RequestId {
    number(id).map_or_else(|| id.clone(), NumberOrString::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(task: &str) -> Arc<InFlight> {
        InFlight::new(AttemptId { task: task.into(), number: 1 })
    }

    fn progress(progress: f64) -> Progress {
        Progress { progress, total: None, message: None }
    }

    #[test]
    fn keeps_the_furthest_progress_and_tells_it_once() {
        let call = call("a");
        assert_eq!(call.news(), None);
        for n in [1.0, 3.0, 2.0] {
            call.report(progress(n));
        }
        assert_eq!(call.news(), Some(progress(3.0)));
        assert_eq!(call.news(), None);
        call.report(progress(1.0));
        assert_eq!(call.news(), Some(progress(3.0)));
    }

    #[test]
    fn counts_whom_the_agent_waits_for() {
        let call = call("a");
        let person = call.waits_for(Whom::Person);
        let model = call.waits_for(Whom::Host);
        assert_eq!(call.asking(), Asking { people: 1, host: 1 });
        drop(person);
        assert_eq!(call.asking(), Asking { people: 0, host: 1 });
        drop(model);
        assert_eq!(call.asking(), Asking::default());
    }

    #[test]
    fn knows_the_call_behind_a_token_and_behind_a_stream() {
        let calls = Calls::default();
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
    fn a_call_that_was_given_up_may_still_be_the_one_that_asks_until_it_is_answered() {
        let calls = Calls::default();
        let (a, b) = (call("a"), call("b"));
        let _first = calls.open(1, &a);
        calls.give_up(1);
        let mut second = calls.open(2, &b);
        assert!(calls.candidates(None).only().is_none());
        assert!(calls.candidates(Some(&NumberOrString::Number(2))).only().is_some());
        calls.answered_late(&NumberOrString::String("1".into()));
        assert!(calls.candidates(None).only().is_some() && !calls.has_given_up());
        let answer = || Answer::Result(Answered::Other("none".to_owned()));
        calls.answer(2, answer());
        assert_eq!(second.try_recv(), Ok(answer()));
        calls.give_up(2);
        assert!(!calls.has_given_up());
    }
}
