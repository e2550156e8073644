//! Executes the decisions of the engine: one dispatcher drives all calls.

mod clock;
mod control;
mod discover;
mod dispatcher;
mod effects;
mod host;
mod orphans;
mod replanner;
pub mod shutdown;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    mcp,
    model::{AgentId, AgentInfo, AttemptId, Failure, JsonObject, RunId, StartAttempt, ToolOutput},
};

pub use clock::RunClock;
pub use control::{forward_requests, read_inputs};
pub use discover::{AgentProbe, discover};
pub use dispatcher::{RuntimeError, Services, cancel, rerun, resume, run};
pub use host::{HostReceiver, RuntimeHost};
pub use orphans::reap_orphans;
pub use replanner::Replanner;

/// A call in progress. Boxed, since embedding the large future in another one would move it.
pub type CallFuture<'c> = BoxFuture<'c, Result<Arc<ToolOutput>, Failure>>;

/// The interface of the dispatcher to the agents of a run.
#[async_trait::async_trait]
pub trait Agents: Send + Sync {
    /// Connects and reads the catalog. A failure is final for the run.
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure>;
    /// Makes one call. It ends soon after `cancel` fires.
    fn call(&self, call: StartAttempt, meta: JsonObject, cancel: CancellationToken) -> CallFuture<'_>;
    /// Resumes a call of an earlier process by its checkpoint. The call is not sent again. Otherwise the same as
    /// [`Agents::call`].
    ///
    /// # Errors
    /// Returns [`FailureKind::Interrupted`](crate::model::FailureKind::Interrupted) if the agent no longer has the
    /// call.
    async fn take_up(
        &self,
        call: StartAttempt,
        note: Value,
        meta: JsonObject,
        cancel: CancellationToken,
    ) -> Result<Arc<ToolOutput>, Failure>;
    /// Closes all connections and ends all child processes.
    async fn close(&self);
    /// Keeps calls and sessions that outlive this process for a later process to resume, and ends the rest.
    async fn leave(&self);
}

#[async_trait::async_trait]
impl Agents for mcp::Pool {
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        Self::connect(self, agent).await
    }

    fn call(&self, call: StartAttempt, meta: JsonObject, cancel: CancellationToken) -> CallFuture<'_> {
        Box::pin(Self::call(self, call, meta, cancel))
    }

    async fn take_up(
        &self,
        call: StartAttempt,
        note: Value,
        meta: JsonObject,
        cancel: CancellationToken,
    ) -> Result<Arc<ToolOutput>, Failure> {
        Self::reattach(self, call, note, meta, cancel).await
    }

    async fn close(&self) {
        Self::close(self).await;
    }

    async fn leave(&self) {
        Self::suspend(self).await;
    }
}

/// The `_meta` key that identifies a call, so that an agent can distinguish a repetition from a new call.
pub const IDEMPOTENCY_KEY: &str = "kapell/idempotency-key";

/// Returns the `_meta` of a call, with the value `RUN/TASK/ATTEMPT`.
fn call_meta(run: &RunId, attempt: &AttemptId) -> JsonObject {
    let key = [run.as_str(), attempt.task.as_str(), &attempt.number.to_string()].join("/");
    JsonObject::from_iter([(IDEMPOTENCY_KEY.to_owned(), key.into())])
}

#[cfg(test)]
mod tests;
