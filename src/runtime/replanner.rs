//! Asks the planner for another remainder of a run, at the run's expense.
//! Never judges it.

use std::sync::Arc;

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

/// Asks the planner, and returns its answer unless `cancel` fires first.
pub(super) async fn replan(
    replanner: Option<Arc<dyn Replanner>>,
    request: ReplanRequest,
    hub: Arc<Hub>,
    cancel: CancellationToken,
) -> Option<Input> {
    let number = request.number;
    let llm = Charged { hub: Arc::clone(&hub), replan: number };
    let answer = async {
        let Some(replanner) = replanner else {
            return Err(Failure::new(FailureKind::ModelFailed, "there is no planner here"));
        };
        replanner.replan(&request, &llm).await
    };
    let result = tokio::select! {
        result = answer => result.map(Arc::new),
        () = cancel.cancelled() => return None,
    };
    Some(Input::Replanned { number, result })
}
