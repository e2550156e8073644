//! Receives requests and observations of connections, and returns the answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::journal::{JournalError, JournalWriter};
use crate::mcp::ClientHost;
use crate::model::{
    AgentId, Answer, AttemptId, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, Input, LogMessage,
    Origin, Progress, RequestId, RunId, SamplingOrigin,
};

/// The maximum number of inputs that wait for the dispatcher. It drains the queue in every iteration, so the queue only
/// has to hold the inputs during one decision. A full queue blocks senders and never drops inputs.
const MAX_QUEUED_INPUTS: usize = 1_024;

/// The receiver of all observations of connections, models, and people.
pub struct RuntimeHost {
    inputs: mpsc::Sender<Input>,
    /// The latest progress of each call that the dispatcher has not seen; newer progress replaces older. Locked only to
    /// insert or to drain.
    latest_progress: Mutex<IndexMap<AttemptId, Progress>>,
    /// The unreported text of syntheses by exchange. The dispatcher drains it in every iteration, and the reply limit
    /// bounds it. Locked only to append or to drain.
    text_deltas: Mutex<IndexMap<AttemptId, String>>,
    /// Notified when `latest_progress` or `text_deltas` has content.
    notify: Notify,
    /// Pending requests of agents. Locked only to insert or remove.
    pending_requests: Mutex<HashMap<RequestId, PendingRequest>>,
    next_request: AtomicU64,
    run: RunId,
    journal: Arc<dyn JournalWriter>,
    /// Errors of failed checkpoints. The first one ends the run, so the capacity is one.
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
    /// Returns a host and its receiver. Checkpoints go to `journal` under `run`. Requests of agents are numbered from
    /// `first_request`, which no earlier process may have used.
    pub fn new(run: RunId, journal: Arc<dyn JournalWriter>, first_request: u64) -> (Arc<Self>, HostReceiver) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_INPUTS);
        let (journal_errors, received_errors) = mpsc::channel(1);
        let host = Self {
            inputs: sender,
            latest_progress: Mutex::default(),
            text_deltas: Mutex::default(),
            notify: Notify::new(),
            pending_requests: Mutex::default(),
            next_request: AtomicU64::new(first_request),
            run,
            journal,
            journal_errors,
        };
        (Arc::new(host), HostReceiver { inputs: receiver, journal_errors: received_errors })
    }

    /// Sends an input to the dispatcher. After the run has ended it is dropped.
    pub async fn send(&self, input: Input) {
        let _ = self.inputs.send(input).await;
    }

    /// Returns whether the run has ended and no longer accepts inputs.
    pub(super) fn is_closed(&self) -> bool {
        self.inputs.is_closed()
    }

    /// Waits until there is progress or text to drain.
    pub(super) async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Drains the latest progress of all calls.
    pub(super) fn drain_progress(&self) -> IndexMap<AttemptId, Progress> {
        std::mem::take(&mut *self.latest_progress.lock())
    }

    /// Adds a piece of a synthesis's text.
    pub(super) fn push_delta(&self, attempt: &AttemptId, delta: &str) {
        self.text_deltas.lock().entry(attempt.clone()).or_default().push_str(delta);
        self.notify.notify_one();
    }

    /// Drains the text since the last call.
    pub(super) fn drain_deltas(&self) -> IndexMap<AttemptId, String> {
        std::mem::take(&mut *self.text_deltas.lock())
    }

    /// Sends the agent its answer, if it still waits.
    pub(super) fn answer_elicitation(&self, request: &RequestId, answer: Answer) {
        if let Some(PendingRequest { response: ResponseSender::Elicitation(reply), .. }) =
            self.pending_requests.lock().remove(request)
        {
            let _ = reply.send(answer);
        }
    }

    /// Sends the agent its reply, if it still waits.
    pub(super) fn answer_sampling(&self, request: &RequestId, result: Result<ChatReply, ChatError>) {
        if let Some(PendingRequest { response: ResponseSender::Sampling(reply), .. }) =
            self.pending_requests.lock().remove(request)
        {
            let _ = reply.send(result);
        }
    }

    /// Returns a token that is cancelled when the agent no longer waits for `request`; already cancelled if it does not
    /// wait now.
    pub(super) fn withdrawal_token(&self, request: &RequestId) -> CancellationToken {
        match self.pending_requests.lock().get(request) {
            Some(waiting) => waiting.withdrawn.clone(),
            None => {
                let cancelled = CancellationToken::new();
                cancelled.cancel();
                cancelled
            }
        }
    }

    /// Sends a request to the language model on behalf of `origin`; the run is charged for it.
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

    /// Registers a request. The guard withdraws it when the caller stops waiting.
    fn register_request(&self, asker: &str, reply: ResponseSender) -> (RequestId, WithdrawGuard<'_>) {
        let number = self.next_request.fetch_add(1, Ordering::Relaxed);
        let request = RequestId::from(format!("{asker}/{number}"));
        let withdrawn = CancellationToken::new();
        self.pending_requests
            .lock()
            .insert(request.clone(), PendingRequest { response: reply, withdrawn: withdrawn.clone() });
        (request.clone(), WithdrawGuard { host: self, request, withdrawn })
    }
}

/// Withdraws a request on drop. Answered requests are already removed.
struct WithdrawGuard<'h> {
    host: &'h RuntimeHost,
    request: RequestId,
    withdrawn: CancellationToken,
}

impl Drop for WithdrawGuard<'_> {
    fn drop(&mut self) {
        self.host.pending_requests.lock().remove(&self.request);
        self.withdrawn.cancel();
    }
}

#[async_trait::async_trait]
impl ClientHost for RuntimeHost {
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

    fn checkpoint(&self, key: CheckpointKey, value: Value) -> BoxFuture<'static, ()> {
        let saved = self.journal.save_checkpoint(&self.run, key.clone(), value);
        let (run, journal_errors) = (self.run.clone(), self.journal_errors.clone());
        async move {
            if let Err(error) = saved.await {
                tracing::error!(%run, %key, %error, "a checkpoint was not saved");
                let _ = journal_errors.try_send(error);
                // Nothing may happen that depends on the checkpoint. The run ends, and this caller is dropped with it.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }

    fn on_progress(&self, attempt: &AttemptId, progress: Progress) {
        self.latest_progress.lock().insert(attempt.clone(), progress);
        self.notify.notify_one();
    }

    fn on_page_completed(&self, agent: &AgentId, id: &str) {
        let input = Input::PageCompleted { agent: agent.clone(), id: id.to_owned() };
        if let Err(error) = self.inputs.try_send(input) {
            tracing::warn!("the report of a completed page was dropped: {error}");
        }
    }

    fn on_log(&self, origin: Origin, message: LogMessage) {
        if let Err(error) = self.inputs.try_send(Input::AgentLogged { origin, message }) {
            tracing::warn!("a log message of an agent was dropped: {error}");
        }
    }
}
