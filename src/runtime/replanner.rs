//! Asks the planner for another remainder of a run, at the run's expense.
//! Never judges it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::RuntimeHost;
use crate::{
    llm::{Llm, OnDelta},
    model::{ChatError, ChatReply, ChatRequest, Failure, FailureKind, Input, PlanPatch, ReplanRequest, SamplingOrigin},
};

/// Plans the remainder of a run anew.
#[async_trait::async_trait]
pub trait Replanner: Send + Sync {
    /// Returns a remainder that fits the run, found with the help of `llm`. Dropping the future ends it.
    ///
    /// # Errors
    /// Why there is none, for people: a line for each mistake of the last one.
    async fn replan(&self, request: &ReplanRequest, llm: &dyn Llm) -> Result<PlanPatch, Failure>;
}

/// The run's model as the planner sees it: each request is reserved, recorded and charged before it is answered.
struct MeteredLlm {
    host: Arc<RuntimeHost>,
    replan_number: u32,
}

#[async_trait::async_trait]
impl Llm for MeteredLlm {
    /// What the model writes is a plan, of which no part is of use before it is whole.
    async fn chat_stream(&self, request: &ChatRequest, _: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        self.host.request_sampling(SamplingOrigin::Planner { replan: self.replan_number }, request.clone()).await
    }
}

/// Asks the planner, and returns its answer unless `cancel` fires first.
pub(super) async fn replan(
    replanner: Option<Arc<dyn Replanner>>,
    request: ReplanRequest,
    hub: Arc<RuntimeHost>,
    cancel: CancellationToken,
) -> Option<Input> {
    let number = request.number;
    let llm = MeteredLlm { host: Arc::clone(&hub), replan_number: number };
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
