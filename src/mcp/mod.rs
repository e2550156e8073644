//! Speaks MCP with the agents, in both protocol eras. The only module that uses rmcp as a client.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on has failed"))]

mod call;
mod failure;
mod message;
mod noop_host;
mod pool;
pub mod process;
mod requests;
#[cfg(test)]
mod samples;
mod scheduler;
mod session;
mod transport;

use std::path::PathBuf;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::model::{
    Answer, AttemptId, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, LogMessage, Origin, Progress,
};

pub use noop_host::NoopHost;
pub use pool::Pool;
pub use session::validation::schema_warnings;

/// The maximum size of a message from an agent, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// The requests and notifications that connections send to the host.
#[async_trait::async_trait]
pub trait Host: Send + Sync {
    /// Asks a person, either for an agent or for the approval of an agent's request. Dropping the future withdraws the
    /// question.
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer;
    /// Requests a reply of the language model for an agent.
    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError>;
    /// Records that a call returned requests for input. Questions that are asked later become durable later.
    async fn on_input_required(&self, attempt: AttemptId, round: u32, request_state: Option<String>, requests: Value);
    /// Stores a checkpoint by which a later process can reattach to a session or a call, and replaces the previous one.
    /// It becomes durable before all later events and questions. The future completes when the checkpoint is durable,
    /// and never if that is impossible; dropping it does not remove the checkpoint.
    fn checkpoint(&self, key: CheckpointKey, note: Value) -> BoxFuture<'static, ()>;
    /// Reports the progress of a call. Never waits.
    fn on_progress(&self, attempt: &AttemptId, progress: Progress);
    /// Reports a log message of an agent. Never waits.
    fn on_log(&self, origin: Origin, message: LogMessage);
}

/// The options of all connections of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory for the standard error of each agent, as `AGENT.log`. Created on demand.
    pub log_dir: PathBuf,
    /// The file that caches the protocol era of each agent. Without it, each run detects the eras again.
    pub era_cache: Option<PathBuf>,
    /// The reaction to an address at which no server listens.
    pub unreachable: UnreachablePolicy,
    /// The sampling capabilities that agents are offered.
    pub sampling: SamplingSupport,
    /// The name of this host in the handshake.
    pub client_name: String,
    /// The version of this host in the handshake.
    pub client_version: String,
}

/// The reaction when no server listens at the address of an agent that the host does not start itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnreachablePolicy {
    /// Retry until the startup timeout is over.
    #[default]
    Retry,
    /// Fail immediately, for interactive use.
    Fail,
}

/// The sampling requests that agents may send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SamplingSupport {
    /// None, without a language model.
    #[default]
    Off,
    /// Messages only.
    Plain,
    /// Messages with tools.
    WithTools,
}
