//! Knows the calls in flight on one connection: which attempt each serves, how far it is and whom it waits for.
//! Never sends or receives.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rmcp::model::{ClientJsonRpcMessage, GetExtensions as _, GetMeta as _, NumberOrString, ProgressToken, RequestId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{lock, note::RemoteTaskNote};
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
    /// Written by the handler, read by the call; held for a move.
    mailbox: Mutex<Mailbox>,
    /// Wakes the call for the mailbox, for questions and for a verdict.
    stirred: Notify,
    asking: watch::Sender<Asking>,
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
}

impl InFlight {
    /// A call that has not been sent.
    pub(super) fn new(attempt: AttemptId) -> Arc<Self> {
        Arc::new(Self {
            attempt,
            sent: AtomicBool::new(false),
            mailbox: Mutex::default(),
            stirred: Notify::new(),
            asking: watch::Sender::new(Asking::default()),
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
        *self.asking.borrow()
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
        self.asking.send_modify(|asking| match whom {
            Whom::Person => asking.people = change(asking.people),
            Whom::Host => asking.host = change(asking.host),
        });
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

/// The calls of a connection by the id of their latest request.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Shared by the transport, the handler and the calls; held for a look-up.
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_request: HashMap<RequestId, Arc<InFlight>>,
    /// Requests that nobody waits for any more, and that the agent may still work on. One for each call that was given
    /// up.
    given_up: HashSet<RequestId>,
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
    /// Takes note of a request that is about to be written. Its progress token becomes its id: rmcp numbers the two
    /// apart, and servers that report progress under the request's id would be taken to mean another call.
    pub(super) fn outgoing(&self, message: &mut ClientJsonRpcMessage) -> Option<Arc<InFlight>> {
        let ClientJsonRpcMessage::Request(outgoing) = message else { return None };
        let call = outgoing.request.extensions().get::<Arc<InFlight>>()?.clone();
        outgoing.request.get_meta_mut().set_progress_token(ProgressToken(outgoing.id.clone()));
        lock(&self.table).by_request.insert(outgoing.id.clone(), call.clone());
        Some(call)
    }

    /// The call that a progress token or a request id means.
    pub(super) fn find(&self, id: &RequestId) -> Option<Arc<InFlight>> {
        lock(&self.table).by_request.get(&normal(id)).cloned()
    }

    /// The call's request was answered.
    pub(super) fn settled(&self, call: &Arc<InFlight>) {
        lock(&self.table).by_request.retain(|_, other| !Arc::ptr_eq(other, call));
    }

    /// Nobody waits for the call's request any more, if it was not answered.
    pub(super) fn give_up(&self, call: &Arc<InFlight>) {
        let mut table = lock(&self.table);
        let Table { by_request, given_up } = &mut *table;
        given_up.extend(by_request.extract_if(|_, other| Arc::ptr_eq(other, call)).map(|(id, _)| id));
    }

    /// An answer came, late or not.
    pub(super) fn answered(&self, id: &RequestId) {
        lock(&self.table).given_up.remove(&normal(id));
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
                Candidates { calls: table.by_request.get(&normal(id)).cloned().into_iter().collect(), others: false }
            }
            None => {
                Candidates { calls: table.by_request.values().cloned().collect(), others: !table.given_up.is_empty() }
            }
        }
    }
}

/// Some servers send numbers back as text.
pub(super) fn normal(id: &RequestId) -> RequestId {
    match id {
        NumberOrString::String(text) => text.parse().map_or_else(|_| id.clone(), NumberOrString::Number),
        NumberOrString::Number(_) => id.clone(),
    }
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

    /// Sends the call's request, and says what went over the wire.
    fn sent(calls: &Calls, id: i64, call: &Arc<InFlight>) -> serde_json::Value {
        let mut request = rmcp::model::CallToolRequest::new(rmcp::model::CallToolRequestParams::new("t"));
        request.extensions.insert(call.clone());
        let mut message = ClientJsonRpcMessage::request(request.into(), NumberOrString::Number(id));
        assert!(calls.outgoing(&mut message).is_some());
        serde_json::to_value(message).unwrap()
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
        for (id, call) in [(4, &a), (5, &b)] {
            assert_eq!(sent(&calls, id, call)["params"]["_meta"]["progressToken"], id);
        }
        let named = |id: RequestId| calls.find(&id).map(|call| call.attempt.task.to_string());
        assert_eq!(named(NumberOrString::Number(4)), Some("a".to_owned()));
        assert_eq!(named(NumberOrString::String("5".into())), Some("b".to_owned()));
        assert_eq!(named(NumberOrString::String("x".into())), None);
        let only = |stream: Option<i64>| {
            let candidates = calls.candidates(stream.map(NumberOrString::Number).as_ref());
            candidates.only().map(|call| call.attempt.task.to_string())
        };
        assert_eq!([only(Some(5)), only(Some(6)), only(None)], [Some("b".to_owned()), None, None]);
        calls.settled(&b);
        assert_eq!(named(NumberOrString::Number(5)), None);
        assert_eq!(only(None), Some("a".to_owned()));
    }

    #[test]
    fn a_call_that_was_given_up_may_still_be_the_one_that_asks_until_it_is_answered() {
        let calls = Calls::default();
        let (a, b) = (call("a"), call("b"));
        sent(&calls, 1, &a);
        calls.give_up(&a);
        sent(&calls, 2, &b);
        assert!(calls.candidates(None).only().is_none());
        assert!(calls.candidates(Some(&NumberOrString::Number(2))).only().is_some());
        calls.answered(&NumberOrString::String("1".into()));
        assert!(calls.candidates(None).only().is_some() && !calls.has_given_up());
        calls.settled(&b);
        calls.give_up(&b);
        assert!(!calls.has_given_up());
    }
}
