//! Takes what connections ask and tell, and hands back the answers.
//! Never answers by itself.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use indexmap::IndexMap;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    journal::{Journal, JournalError},
    mcp::Host,
    model::{
        Answer, AttemptId, ChatError, ChatReply, ChatRequest, Elicitation, Input, LogMessage, NoteKey, Origin,
        Progress, RequestId, RunId, Sampler,
    },
};

/// Inputs that wait for the dispatcher. It takes all of them at every turn, so the number only has to cover what
/// arrives during one decision; a full queue makes callers wait, never lose.
const INBOX: usize = 1_024;

/// Where connections, models and people leave what they observed.
pub struct Hub {
    inputs: mpsc::Sender<Input>,
    /// The latest progress of each call that the dispatcher has not seen: a flood replaces itself. Held only to
    /// insert or to take all.
    progress: Mutex<IndexMap<AttemptId, Progress>>,
    /// The text of syntheses that the dispatcher has not seen, by turn. It takes all at every turn of its loop, and a
    /// reply is bounded by itself. Held only to append or to take all.
    written: Mutex<IndexMap<AttemptId, String>>,
    /// There is something in `progress` or in `written`.
    grown: Notify,
    /// Agents' requests that wait. Held only to insert or remove.
    waiting: Mutex<HashMap<RequestId, Waiting>>,
    requests: AtomicU64,
    run: RunId,
    journal: Arc<dyn Journal>,
    /// Why a note was not kept. One is enough to end the run, so there is room for no more.
    failures: mpsc::Sender<JournalError>,
}

/// The dispatcher's end of a [`Hub`].
pub struct Inbox {
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) failures: mpsc::Receiver<JournalError>,
}

struct Waiting {
    reply: Reply,
    withdrawn: CancellationToken,
}

enum Reply {
    Elicitation(oneshot::Sender<Answer>),
    Sampling(oneshot::Sender<Result<ChatReply, ChatError>>),
}

impl Hub {
    /// A hub and its inbox; notes go to `journal` as those of `run`, and agents' requests are numbered from
    /// `first_request` on, which no earlier process may have used.
    pub fn new(run: RunId, journal: Arc<dyn Journal>, first_request: u64) -> (Arc<Self>, Inbox) {
        let (sender, receiver) = mpsc::channel(INBOX);
        let (failures, failed) = mpsc::channel(1);
        let hub = Self {
            inputs: sender,
            progress: Mutex::default(),
            written: Mutex::default(),
            grown: Notify::new(),
            waiting: Mutex::default(),
            requests: AtomicU64::new(first_request),
            run,
            journal,
            failures,
        };
        (Arc::new(hub), Inbox { inputs: receiver, failures: failed })
    }

    /// Leaves an input for the dispatcher. After the run has ended it goes nowhere.
    pub async fn send(&self, input: Input) {
        let _ = self.inputs.send(input).await;
    }

    /// Returns whether the run has ended, so that nothing is taken any more.
    pub(super) fn is_closed(&self) -> bool {
        self.inputs.is_closed()
    }

    /// Ends when progress or a text waits to be taken.
    pub(super) async fn growth(&self) {
        self.grown.notified().await;
    }

    /// Takes the latest progress of every call that had some.
    pub(super) fn take_progress(&self) -> IndexMap<AttemptId, Progress> {
        std::mem::take(&mut *lock(&self.progress))
    }

    /// Leaves a piece of the text that a turn of a synthesis is answered with.
    pub(super) fn wrote(&self, turn: &AttemptId, piece: &str) {
        lock(&self.written).entry(turn.clone()).or_default().push_str(piece);
        self.grown.notify_one();
    }

    /// Takes what was written since the last time.
    pub(super) fn take_written(&self) -> IndexMap<AttemptId, String> {
        std::mem::take(&mut *lock(&self.written))
    }

    /// Gives the agent its answer, if it still waits.
    pub(super) fn answer_elicitation(&self, request: &RequestId, answer: Answer) {
        if let Some(Waiting { reply: Reply::Elicitation(reply), .. }) = lock(&self.waiting).remove(request) {
            let _ = reply.send(answer);
        }
    }

    /// Gives the agent its reply, if it still waits.
    pub(super) fn answer_sampling(&self, request: &RequestId, result: Result<ChatReply, ChatError>) {
        if let Some(Waiting { reply: Reply::Sampling(reply), .. }) = lock(&self.waiting).remove(request) {
            let _ = reply.send(result);
        }
    }

    /// Fires when the agent no longer waits for `request`; at once if it does not wait now.
    pub(super) fn withdrawal(&self, request: &RequestId) -> CancellationToken {
        match lock(&self.waiting).get(request) {
            Some(waiting) => waiting.withdrawn.clone(),
            None => {
                let gone = CancellationToken::new();
                gone.cancel();
                gone
            }
        }
    }

    /// Asks the language model for somebody, at the run's expense.
    pub(super) async fn sampled(&self, origin: Sampler, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        let (sender, receiver) = oneshot::channel();
        let (request, _withdraw) = self.register(origin.name(), Reply::Sampling(sender));
        self.send(Input::SamplingRequested { request, origin, chat: Arc::new(chat) }).await;
        receiver.await.unwrap_or_else(|_| {
            Err(ChatError::Endpoint { message: "the run ended before the model replied".into(), status: None })
        })
    }

    /// Registers a request; the guard withdraws it when the asker stops waiting.
    fn register(&self, asker: &str, reply: Reply) -> (RequestId, Withdraw<'_>) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let request = RequestId::from(format!("{asker}/{number}"));
        let withdrawn = CancellationToken::new();
        lock(&self.waiting).insert(request.clone(), Waiting { reply, withdrawn: withdrawn.clone() });
        (request.clone(), Withdraw { hub: self, request, withdrawn })
    }
}

/// Withdraws a request on drop. One that was answered is no longer there.
struct Withdraw<'h> {
    hub: &'h Hub,
    request: RequestId,
    withdrawn: CancellationToken,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        lock(&self.hub.waiting).remove(&self.request);
        self.withdrawn.cancel();
    }
}

#[async_trait::async_trait]
impl Host for Hub {
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let (request, _withdraw) = self.register(origin.agent.as_str(), Reply::Elicitation(sender));
        self.send(Input::ElicitationRequested { request, origin, elicitation }).await;
        receiver.await.unwrap_or(Answer::Cancel)
    }

    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        self.sampled(Sampler::Agent(origin), chat).await
    }

    async fn input_required(&self, attempt: AttemptId, round: u32, request_state: Option<String>, requests: Value) {
        self.send(Input::InputRequired { attempt, round, request_state, requests }).await;
    }

    fn note(&self, key: NoteKey, note: Value) -> BoxFuture<'static, ()> {
        let kept = self.journal.note(&self.run, key.clone(), note);
        let (run, failures) = (self.run.clone(), self.failures.clone());
        async move {
            if let Err(error) = kept.await {
                tracing::error!(%run, %key, %error, "a note was not kept");
                let _ = failures.try_send(error);
                // Nothing that rests on the note may happen. The run ends, and whoever waits here ends with it.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }

    fn progressed(&self, attempt: &AttemptId, progress: Progress) {
        lock(&self.progress).insert(attempt.clone(), progress);
        self.grown.notify_one();
    }

    fn logged(&self, origin: Origin, message: LogMessage) {
        if let Err(error) = self.inputs.try_send(Input::AgentLogged { origin, message }) {
            tracing::warn!("a log message of an agent was dropped: {error}");
        }
    }
}

/// The guarded value, also after a panic elsewhere: every holder leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
