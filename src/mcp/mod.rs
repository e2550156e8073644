//! Speaks MCP with the agents, in both protocol eras; the only room that names rmcp as a client.
//! Never decides what a failure means for a task.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on has failed"))]

mod call;
mod call_guard;
mod call_request;
mod call_result;
mod call_timeouts;
mod call_transport;
mod catalog;
mod checkpoint;
mod child;
mod codec;
mod connect;
mod connection_state;
mod elicitation;
mod endpoint;
mod era;
mod failure;
pub mod guard;
mod handler;
mod handshakes;
mod http;
mod http_channel;
mod http_response;
mod input_required;
mod lenient_json;
mod log;
mod mcp_headers;
mod noop_host;
mod open_calls;
mod poll_backoff;
mod pool;
mod process_scheduler;
mod remote_task;
mod resource;
mod resumable_stream;
#[cfg(test)]
mod samples;
mod sampling;
mod sampling_quota;
mod server_info;
mod service_transport;
mod session;
mod sse;
mod stdin_writer;
mod stdio;
mod subscription;
mod tool_listing;
mod validation;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use serde_json::Value;

use crate::model::{
    Answer, AttemptId, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, LogMessage, Origin, Progress,
};

pub use noop_host::NoopHost;
pub use pool::Pool;
pub use validation::schema_warnings;

/// The largest message that is read from an agent, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// What connections ask of the host, and tell it.
#[async_trait::async_trait]
pub trait Host: Send + Sync {
    /// A person is asked, by an agent or whether an agent may do something. Dropping the future withdraws the question.
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer;
    /// An agent asks the language model.
    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError>;
    /// A call came back with requests for input. What is asked after it ends is durable after it.
    async fn on_input_required(&self, attempt: AttemptId, round: u32, request_state: Option<String>, requests: Value);
    /// Keeps a note by which a later process can find a session or a call again, should this one be killed; it
    /// replaces the note before, and is durable before whatever the host is told or asked later. The future ends when
    /// that is so, and never where that cannot be; dropping it does not take the note back.
    fn checkpoint(&self, key: CheckpointKey, note: Value) -> BoxFuture<'static, ()>;
    /// A call reported progress. Never waits.
    fn on_progress(&self, attempt: &AttemptId, progress: Progress);
    /// An agent sent a log message. Never waits.
    fn on_log(&self, origin: Origin, message: LogMessage);
}

/// What holds for every connection of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where each agent's standard error goes, as `AGENT.log`; created when needed.
    pub log_dir: PathBuf,
    /// The file that remembers which protocol era each agent speaks; without one, each run finds out again.
    pub era_cache: Option<PathBuf>,
    /// What follows when no server listens at an address.
    pub unreachable: UnreachablePolicy,
    /// What agents are told of the language model.
    pub sampling: SamplingSupport,
    /// The name by which agents know this host.
    pub client_name: String,
    /// The version that goes with it.
    pub client_version: String,
}

/// What follows when no server listens at the address of an agent that the host does not start itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnreachablePolicy {
    /// It is asked again until the startup timeout is over.
    #[default]
    Retry,
    /// The failure counts at once, for a person who waits for it.
    Fail,
}

/// What agents may ask of the language model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SamplingSupport {
    /// Nothing: there is none.
    #[default]
    Off,
    /// Messages.
    Plain,
    /// Messages that offer it tools.
    WithTools,
}

/// Locks a mutex whose holders never leave it half changed, so that a panic in one does not matter to the next.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cuts `text` to at most `limit` bytes and marks the cut.
fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        let cut = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
}
