//! Asks the planner for another remainder of a run, at the run's expense.
//! Never judges it.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::Hub;
use crate::{
    llm::{Hear, Llm},
    model::{ChatError, ChatReply, ChatRequest, Failure, FailureKind, Input, Remainder, ReplanRequest, Sampler},
};

/// Plans the remainder of a run anew.
#[async_trait::async_trait]
pub trait Replanner: Send + Sync {
    /// A remainder that fits the run, found with the help of `llm`. Dropping the future ends it.
    ///
    /// # Errors
    /// Why there is none, for people: a line for each mistake of the last one.
    async fn replan(&self, request: &ReplanRequest, llm: &dyn Llm) -> Result<Remainder, Failure>;
}

/// The run's model as the planner sees it: each request is reserved, recorded and charged before it is answered.
struct Charged {
    hub: Arc<Hub>,
    replan: u32,
}

#[async_trait::async_trait]
impl Llm for Charged {
    /// What the model writes is a plan, of which no part is of use before it is whole.
    async fn chat_aloud(&self, request: &ChatRequest, _: Hear<'_>) -> Result<ChatReply, ChatError> {
        self.hub.sampled(Sampler::Planner { replan: self.replan }, request.clone()).await
    }
}

/// Asks the planner, and leaves its answer for the dispatcher unless `cancel` fires first.
pub(super) async fn replan(
    replanner: Option<Arc<dyn Replanner>>,
    request: ReplanRequest,
    hub: Arc<Hub>,
    cancel: CancellationToken,
) {
    let number = request.number;
    let llm = Charged { hub: Arc::clone(&hub), replan: number };
    let answer = async {
        let Some(replanner) = replanner else {
            return Err(Failure::new(FailureKind::ModelFailed, "there is no planner here"));
        };
        // A defect of ours in a replan must not take the run along.
        AssertUnwindSafe(replanner.replan(&request, &llm)).catch_unwind().await.unwrap_or_else(|_| {
            Err(Failure::new(FailureKind::ModelFailed, "the host failed while it planned the rest anew (a defect)"))
        })
    };
    let result = tokio::select! {
        result = answer => result.map(Arc::new),
        () = cancel.cancelled() => return,
    };
    hub.send(Input::Replanned { number, result }).await;
}
