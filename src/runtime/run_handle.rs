//! Controls a run from other tasks and threads.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::RuntimeHost;
use crate::model::{Answer, Input, QuestionId};

/// The maximum number of requests of a [`RunHandle`] that wait for the run.
const MAX_QUEUED_REQUESTS: usize = 16;

/// Sends requests to a run from other tasks and threads. Give it to
/// [`HostBuilder::handle`](super::HostBuilder::handle). Requests to a run that has ended are ignored.
#[derive(Debug, Clone)]
pub struct RunHandle {
    sender: mpsc::Sender<Input>,
    /// Taken by the host of the run.
    receiver: Arc<Mutex<Option<mpsc::Receiver<Input>>>>,
}

impl RunHandle {
    /// Returns a handle for one run.
    #[expect(clippy::new_without_default, reason = "each handle is for one run")]
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_REQUESTS);
        Self { sender, receiver: Arc::new(Mutex::new(Some(receiver))) }
    }

    /// Cancels the run on behalf of `by`, who is named in its events. A cancelled run cannot be resumed.
    pub async fn cancel(&self, by: impl Into<String>) {
        self.send(Input::CancelRequested { by: by.into() }).await;
    }

    /// Interrupts the run. An interrupted run can be resumed.
    pub async fn interrupt(&self) {
        self.send(Input::InterruptRequested).await;
    }

    /// Answers an open question on behalf of `by`. The answer must be valid for the form of the question.
    pub async fn answer(&self, question: QuestionId, answer: Answer, by: impl Into<String>) {
        self.send(Input::QuestionAnswered { question, answer, by: by.into() }).await;
    }

    async fn send(&self, input: Input) {
        // Without a receiver, the run has ended.
        let _ = self.sender.send(input).await;
    }

    /// Forwards the requests to the run of `host`. Only the first run of a handle receives any.
    pub(super) async fn forward(self, host: Arc<RuntimeHost>) {
        // Without this sender, the loop ends with the last handle of the caller.
        let Self { sender, receiver } = self;
        drop(sender);
        let receiver = receiver.lock().take();
        let Some(mut receiver) = receiver else { return };
        while let Some(input) = receiver.recv().await {
            host.send(input).await;
        }
    }
}
