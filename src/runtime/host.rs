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
        Answer, AttemptId, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, Input, LogMessage, Origin,
        Progress, RequestId, RunId, SamplingOrigin,
    },
};

/// Inputs that wait for the dispatcher. It takes all of them at every turn, so the number only has to cover what
/// arrives during one decision; a full queue makes callers wait, never lose.
const MAX_QUEUED_INPUTS: usize = 1_024;

/// Where connections, models and people leave what they observed.
pub struct RuntimeHost {
    inputs: mpsc::Sender<Input>,
    /// The latest progress of each call that the dispatcher has not seen: a flood replaces itself. Held only to
    /// insert or to take all.
    latest_progress: Mutex<IndexMap<AttemptId, Progress>>,
    /// The text of syntheses that the dispatcher has not seen, by turn. It takes all at every turn of its loop, and a
    /// reply is bounded by itself. Held only to append or to take all.
    text_deltas: Mutex<IndexMap<AttemptId, String>>,
    /// There is something in `progress` or in `written`.
    notify: Notify,
    /// Agents' requests that wait. Held only to insert or remove.
    pending_requests: Mutex<HashMap<RequestId, PendingRequest>>,
    next_request: AtomicU64,
    run: RunId,
    journal: Arc<dyn Journal>,
    /// Why a note was not kept. One is enough to end the run, so there is room for no more.
    journal_errors: mpsc::Sender<JournalError>,
}

/// The dispatcher's end of a [`RuntimeHost`].
pub struct HostReceiver {
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) journal_errors: mpsc::Receiver<JournalError>,
}

struct PendingRequest {
    response: ResponseSender,
    withdrawn: CancellationToken,
}

enum ResponseSender {
    Elicitation(oneshot::Sender<Answer>),
    Sampling(oneshot::Sender<Result<ChatReply, ChatError>>),
}

impl RuntimeHost {
    /// Returns a hub and its inbox; notes go to `journal` as those of `run`, and agents' requests are numbered from
    /// `first_request` on, which no earlier process may have used.
    pub fn new(run: RunId, journal: Arc<dyn Journal>, first_request: u64) -> (Arc<Self>, HostReceiver) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_INPUTS);
        let (failures, failed) = mpsc::channel(1);
        let hub = Self {
            inputs: sender,
            latest_progress: Mutex::default(),
            text_deltas: Mutex::default(),
            notify: Notify::new(),
            pending_requests: Mutex::default(),
            next_request: AtomicU64::new(first_request),
            run,
            journal,
            journal_errors: failures,
        };
        (Arc::new(hub), HostReceiver { inputs: receiver, journal_errors: failed })
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
    pub(super) async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Takes the latest progress of every call that had some.
    pub(super) fn drain_progress(&self) -> IndexMap<AttemptId, Progress> {
        std::mem::take(&mut *lock(&self.latest_progress))
    }

    /// Leaves a piece of the text that a turn of a synthesis is answered with.
    pub(super) fn push_delta(&self, attempt: &AttemptId, delta: &str) {
        lock(&self.text_deltas).entry(attempt.clone()).or_default().push_str(delta);
        self.notify.notify_one();
    }

    /// Takes what was written since the last time.
    pub(super) fn drain_deltas(&self) -> IndexMap<AttemptId, String> {
        std::mem::take(&mut *lock(&self.text_deltas))
    }

    /// Gives the agent its answer, if it still waits.
    pub(super) fn answer_elicitation(&self, request: &RequestId, answer: Answer) {
        if let Some(PendingRequest { response: ResponseSender::Elicitation(reply), .. }) =
            lock(&self.pending_requests).remove(request)
        {
            let _ = reply.send(answer);
        }
    }

    /// Gives the agent its reply, if it still waits.
    pub(super) fn answer_sampling(&self, request: &RequestId, result: Result<ChatReply, ChatError>) {
        if let Some(PendingRequest { response: ResponseSender::Sampling(reply), .. }) =
            lock(&self.pending_requests).remove(request)
        {
            let _ = reply.send(result);
        }
    }

    /// Fires when the agent no longer waits for `request`; at once if it does not wait now.
    pub(super) fn withdrawal_token(&self, request: &RequestId) -> CancellationToken {
        match lock(&self.pending_requests).get(request) {
            Some(waiting) => waiting.withdrawn.clone(),
            None => {
                let gone = CancellationToken::new();
                gone.cancel();
                gone
            }
        }
    }

    /// Asks the language model for somebody, at the run's expense.
    pub(super) async fn request_sampling(
        &self,
        origin: SamplingOrigin,
        chat: ChatRequest,
    ) -> Result<ChatReply, ChatError> {
        let (sender, receiver) = oneshot::channel();
        let (request, _withdraw) = self.register_request(origin.name(), ResponseSender::Sampling(sender));
        self.send(Input::SamplingRequested { request, origin, chat: Arc::new(chat) }).await;
        receiver.await.unwrap_or_else(|_| {
            Err(ChatError::Endpoint { message: "the run ended before the model replied".into(), status: None })
        })
    }

    /// Registers a request; the guard withdraws it when the asker stops waiting.
    fn register_request(&self, asker: &str, reply: ResponseSender) -> (RequestId, WithdrawGuard<'_>) {
        let number = self.next_request.fetch_add(1, Ordering::Relaxed);
        let request = RequestId::from(format!("{asker}/{number}"));
        let withdrawn = CancellationToken::new();
        lock(&self.pending_requests)
            .insert(request.clone(), PendingRequest { response: reply, withdrawn: withdrawn.clone() });
        (request.clone(), WithdrawGuard { host: self, request, withdrawn })
    }
}

/// Withdraws a request on drop. One that was answered is no longer there.
struct WithdrawGuard<'h> {
    host: &'h RuntimeHost,
    request: RequestId,
    withdrawn: CancellationToken,
}

impl Drop for WithdrawGuard<'_> {
    fn drop(&mut self) {
        lock(&self.host.pending_requests).remove(&self.request);
        self.withdrawn.cancel();
    }
}

#[async_trait::async_trait]
impl Host for RuntimeHost {
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let (request, _withdraw) = self.register_request(origin.agent.as_str(), ResponseSender::Elicitation(sender));
        self.send(Input::ElicitationRequested { request, origin, elicitation }).await;
        receiver.await.unwrap_or(Answer::Cancel)
    }

    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        self.request_sampling(SamplingOrigin::Agent(origin), chat).await
    }

    async fn on_input_required(&self, attempt: AttemptId, round: u32, request_state: Option<String>, requests: Value) {
        self.send(Input::InputRequired { attempt, round, request_state, requests }).await;
    }

    fn checkpoint(&self, key: CheckpointKey, note: Value) -> BoxFuture<'static, ()> {
        let kept = self.journal.save_checkpoint(&self.run, key.clone(), note);
        let (run, failures) = (self.run.clone(), self.journal_errors.clone());
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

    fn on_progress(&self, attempt: &AttemptId, progress: Progress) {
        lock(&self.latest_progress).insert(attempt.clone(), progress);
        self.notify.notify_one();
    }

    fn on_log(&self, origin: Origin, message: LogMessage) {
        if let Err(error) = self.inputs.try_send(Input::AgentLogged { origin, message }) {
            tracing::warn!("a log message of an agent was dropped: {error}");
        }
    }
}

/// Returns the guarded value, also after a panic elsewhere: every holder leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
