//! Carries out what the engine decides: one dispatcher, which drives all calls itself.
//! Never decides.

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
pub use dispatcher::{Resumption, RunStart, RuntimeError, Services, cancel, rerun, resume, run};
pub use host::{HostReceiver, RuntimeHost};
pub use orphans::reap_orphans;
pub use replanner::Replanner;

/// A call that is being made. It is large, so its future is not put into another one, which would move it.
pub type CallFuture<'c> = BoxFuture<'c, Result<Arc<ToolOutput>, Failure>>;

/// The agents of a run, as the dispatcher sees them.
#[async_trait::async_trait]
pub trait Agents: Send + Sync {
    /// Connects and reads the catalogue; the failure is final for the run.
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure>;
    /// Makes one call; ends soon after `cancel` fires.
    fn call(&self, call: StartAttempt, meta: JsonObject, cancel: CancellationToken) -> CallFuture<'_>;
    /// Takes up a call that an earlier process left behind, by the note that it kept: the agent is not asked to do
    /// anything again. Otherwise as [`Agents::call`].
    ///
    /// # Errors
    /// [`FailureKind::Interrupted`](crate::model::FailureKind::Interrupted) when the agent no longer has it.
    async fn take_up(
        &self,
        call: StartAttempt,
        note: Value,
        meta: JsonObject,
        cancel: CancellationToken,
    ) -> Result<Arc<ToolOutput>, Failure>;
    /// Ends every connection and every child process.
    async fn close(&self);
    /// Leaves calls and sessions that outlive this process as they are, for a later one to take up; ends the rest.
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

/// The `_meta` entry that names the call, so that an agent can tell a repetition from a new call.
pub const IDEMPOTENCY_KEY: &str = "kapell/idempotency-key";

/// What travels in `_meta` of every call: `RUN/TASK/ATTEMPT`.
fn call_meta(run: &RunId, attempt: &AttemptId) -> JsonObject {
    let key = [run.as_str(), attempt.task.as_str(), &attempt.number.to_string()].join("/");
    JsonObject::from_iter([(IDEMPOTENCY_KEY.to_owned(), key.into())])
}

#[cfg(test)]
mod tests;
