//! Defines what a run needs of its agents. [`Pool`](super::Pool) does it over MCP; tests replace it.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::model::{AgentId, AgentInfo, Failure, JsonObject, TaskId, ToolCall, ToolOutput};

/// A call in progress. Boxed, since embedding the large future in another one would move it.
pub type CallFuture<'c> = BoxFuture<'c, Result<Arc<ToolOutput>, Failure>>;

/// What a call needs in addition to what is called.
#[derive(Debug, Clone, Default)]
pub struct CallContext {
    /// Added to the `_meta` of each request of the call.
    pub meta: JsonObject,
    /// Ends the call. The agent is notified, unless it no longer has the call.
    pub cancel: CancellationToken,
    /// The checkpoint of an earlier process. The call is resumed from it, and not sent again.
    pub checkpoint: Option<Value>,
}

/// A resource that a task watches.
#[derive(Debug)]
pub struct ResourceWatch {
    /// The task.
    pub task: TaskId,
    /// The agent that offers the resource.
    pub agent: AgentId,
    /// The URI.
    pub uri: String,
    /// The fingerprint from which a change is recognized. If absent, it is that of the first contents.
    pub baseline: Option<String>,
    /// Receives the fingerprint of the first contents, unless there is a baseline.
    pub observed: oneshot::Sender<String>,
    /// Ends the watch.
    pub cancel: CancellationToken,
}

/// The agents of a run.
#[async_trait::async_trait]
pub trait Agents: Send + Sync {
    /// Connects to the agent if necessary, and returns its description with the tools that the agents file allows.
    /// Concurrent callers share the outcome, and a failure is final for the run.
    ///
    /// # Errors
    /// Returns [`FailureKind::AgentUnavailable`](crate::model::FailureKind::AgentUnavailable), or `Unauthorized` and
    /// `RateLimited` if the server reported that.
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure>;

    /// Calls a tool once, or resumes a call of an earlier process. It acquires a permit, reconnects if necessary, checks
    /// the arguments, answers the agent's requests, and checks the result. The timeouts of the call start when it has
    /// its permit. The call ends soon after its cancellation, even if the agent does not react. Dropping the future does
    /// not notify the agent.
    ///
    /// # Errors
    /// Returns a failure whose kind states whether the request was sent and whether a response arrived. For a call that
    /// the agent no longer has, it is [`FailureKind::Interrupted`](crate::model::FailureKind::Interrupted). Failing to
    /// resume does not mean that the call failed; `engine::retry` takes this into account.
    fn call(&self, call: ToolCall, context: CallContext) -> CallFuture<'_>;

    /// Watches a resource until its contents differ from the baseline, and returns them. Connects if necessary, and holds
    /// no permit. A missing resource has contents of its own, so its creation is a change. The watch ends soon after its
    /// cancellation.
    ///
    /// # Errors
    /// Returns a failure if the agent does not offer resources, or does not answer for as long as a call may be silent.
    fn watch_resource(&self, watch: ResourceWatch) -> CallFuture<'_>;

    /// Closes all connections and child processes concurrently, each within a bounded time. Afterwards, no connection
    /// can be opened.
    async fn close(&self);

    /// Closes all connections without cancelling the calls and sessions that a later process can resume.
    async fn suspend(&self);
}
