//! Speaks MCP with the agents, in both protocol eras; the only room that names rmcp as a client.
//! Never decides what a failure means for a task.

use serde_json::Value;

use crate::model::{Answer, AttemptId, ChatError, ChatReply, ChatRequest, Elicitation, LogMessage, Origin, Progress};

/// What connections ask of the host, and tell it.
#[async_trait::async_trait]
pub trait Host: Send + Sync {
    /// An agent asks a person. Dropping the future withdraws the question.
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer;
    /// An agent asks the language model.
    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError>;
    /// A call came back with requests for input; ends when that is durable.
    async fn input_required(&self, attempt: AttemptId, round: u32, request_state: Option<String>, requests: Value);
    /// A call reported progress. Never waits.
    fn progressed(&self, attempt: &AttemptId, progress: Progress);
    /// An agent sent a log message. Never waits.
    fn logged(&self, origin: Origin, message: LogMessage);
}
