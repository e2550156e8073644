//! Speaks MCP with the agents, in both protocol eras; the only room that names rmcp as a client.
//! Never decides what a failure means for a task.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on has failed"))]

mod allowance;
mod call;
mod calls;
mod catalog;
mod child;
mod codec;
mod connect;
mod elicitation;
mod endpoint;
mod era;
mod failure;
mod follow;
pub mod guard;
mod handler;
mod handshakes;
mod http;
mod http_calls;
mod lenient;
mod link;
mod listing;
mod log;
mod nobody;
mod note;
mod patience;
mod pool;
mod remote_task;
mod repeat;
mod request;
mod resource;
mod response;
mod result;
mod rounds;
#[cfg(test)]
mod samples;
mod sampling;
mod server_info;
mod session;
mod sse;
mod standard;
mod stdio;
mod subscription;
mod turns;
mod validation;
mod vigil;
mod watched;
mod wire;
mod writer;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use serde_json::Value;

use crate::model::{
    Answer, AttemptId, ChatError, ChatReply, ChatRequest, Elicitation, LogMessage, NoteKey, Origin, Progress,
};

pub use nobody::Nobody;
pub use pool::Pool;
pub use validation::schema_warnings;

/// The largest message that is read from an agent, in bytes.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// What connections ask of the host, and tell it.
#[async_trait::async_trait]
pub trait Host: Send + Sync {
    /// A person is asked, by an agent or whether an agent may do something. Dropping the future withdraws the question.
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer;
    /// An agent asks the language model.
    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError>;
    /// A call came back with requests for input. What is asked after it ends is durable after it.
    async fn input_required(&self, attempt: AttemptId, round: u32, request_state: Option<String>, requests: Value);
    /// Keeps a note by which a later process can find a session or a call again, should this one be killed; it
    /// replaces the note before, and is durable before whatever the host is told or asked later. The future ends when
    /// that is so, and never where that cannot be; dropping it does not take the note back.
    fn note(&self, key: NoteKey, note: Value) -> BoxFuture<'static, ()>;
    /// A call reported progress. Never waits.
    fn progressed(&self, attempt: &AttemptId, progress: Progress);
    /// An agent sent a log message. Never waits.
    fn logged(&self, origin: Origin, message: LogMessage);
}

/// What holds for every connection of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where each agent's standard error goes, as `AGENT.log`; created when needed.
    pub log_dir: PathBuf,
    /// The file that remembers which protocol era each agent speaks; without one, each run finds out again.
    pub era_cache: Option<PathBuf>,
    /// What follows when no server listens at an address.
    pub unreachable: Unreachable,
    /// What agents are told of the language model.
    pub sampling: Sampling,
    /// The name by which agents know this host.
    pub client_name: String,
    /// The version that goes with it.
    pub client_version: String,
}

/// What follows when no server listens at the address of an agent that the host does not start itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unreachable {
    /// It is asked again until the startup timeout is over.
    #[default]
    Retry,
    /// The failure counts at once, for a person who waits for it.
    Fail,
}

/// What agents may ask of the language model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sampling {
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
