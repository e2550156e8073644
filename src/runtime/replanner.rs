//! Requests a patch for a run from the planner. The run is charged for it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::RuntimeHost;
use crate::llm::{Llm, OnDelta};
use crate::model::{
    ChatError, ChatReply, ChatRequest, Failure, FailureKind, Input, PlanPatch, ReplanRequest, SamplingOrigin,
};

/// A planner for the pending part of a run.
#[async_trait::async_trait]
pub trait Replanner: Send + Sync {
    /// Returns a valid patch for the run, using `llm`. Dropping the future cancels it.
    ///
    /// # Errors
    /// Returns the reason for people, with a line for each mistake of the last patch.
    async fn replan(&self, request: &ReplanRequest, llm: &dyn Llm) -> Result<PlanPatch, Failure>;
}

/// The planner's access to the run's model. Each request is reserved, recorded, and charged before it is answered.
struct MeteredLlm {
    host: Arc<RuntimeHost>,
    replan_number: u32,
}

#[async_trait::async_trait]
impl Llm for MeteredLlm {
    /// Ignores `on_delta`, since a partial plan is useless.
    async fn chat_stream(&self, request: &ChatRequest, _: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        self.host.request_sampling(SamplingOrigin::Planner { replan: self.replan_number }, request.clone()).await
    }
}

/// Asks the planner, and returns its patch unless `cancel` fires first.
pub(super) async fn replan(
    replanner: Option<Arc<dyn Replanner>>,
    request: ReplanRequest,
    host: Arc<RuntimeHost>,
    cancel: CancellationToken,
) -> Option<Input> {
    let number = request.number;
    let llm = MeteredLlm { host: Arc::clone(&host), replan_number: number };
    let answer = async {
        let Some(replanner) = replanner else {
            return Err(Failure::new(FailureKind::ModelFailed, "this process has no planner"));
        };
        replanner.replan(&request, &llm).await
    };
    let result = tokio::select! {
        result = answer => result.map(Arc::new),
        () = cancel.cancelled() => return None,
    };
    Some(Input::Replanned { number, result })
}
