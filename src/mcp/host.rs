//! Defines what connections request of the host, and provides the host of connections that make no calls.

use futures::future::BoxFuture;
use serde_json::Value;

use crate::model::{
    AgentId, Answer, AttemptId, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, LogMessage, Origin,
    Progress,
};

/// The requests and notifications that connections send to the host.
#[async_trait::async_trait]
pub trait ClientHost: Send + Sync {
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
    fn checkpoint(&self, key: CheckpointKey, value: Value) -> BoxFuture<'static, ()>;
    /// Reports the progress of a call. Never waits.
    fn on_progress(&self, attempt: &AttemptId, progress: Progress);
    /// Reports that `agent` has seen the end of what a person did on the page of its elicitation `id`. Never waits.
    fn on_page_completed(&self, agent: &AgentId, id: &str);
    /// Reports a log message of an agent. Never waits.
    fn on_log(&self, origin: Origin, message: LogMessage);
}

/// A host that cancels questions, rejects sampling, and ignores notifications. Connections without calls should send
/// none.
#[derive(Debug)]
pub struct NoopHost;

#[async_trait::async_trait]
impl ClientHost for NoopHost {
    async fn elicit(&self, _: Origin, _: Elicitation) -> Answer {
        Answer::Cancel
    }

    async fn sample(&self, _: Origin, _: ChatRequest) -> Result<ChatReply, ChatError> {
        Err(ChatError::Unsupported { message: "no call is in progress".into() })
    }

    async fn on_input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

    fn checkpoint(&self, _: CheckpointKey, _: Value) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn on_progress(&self, _: &AttemptId, _: Progress) {}

    fn on_page_completed(&self, _: &AgentId, _: &str) {}

    fn on_log(&self, _: Origin, _: LogMessage) {}
}

/// The host of connections without calls that passes the log messages on. Otherwise, it is a [`NoopHost`].
pub struct ReportingHost<F>(pub F);

#[async_trait::async_trait]
impl<F: Fn(&Origin, &LogMessage) + Send + Sync> ClientHost for ReportingHost<F> {
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer {
        NoopHost.elicit(origin, elicitation).await
    }

    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        NoopHost.sample(origin, chat).await
    }

    async fn on_input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

    fn checkpoint(&self, key: CheckpointKey, value: Value) -> BoxFuture<'static, ()> {
        NoopHost.checkpoint(key, value)
    }

    fn on_progress(&self, _: &AttemptId, _: Progress) {}

    fn on_page_completed(&self, _: &AgentId, _: &str) {}

    fn on_log(&self, origin: Origin, message: LogMessage) {
        (self.0)(&origin, &message);
    }
}
