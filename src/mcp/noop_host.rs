//! Provides the host of connections that make no calls.

use futures::future::BoxFuture;
use serde_json::Value;

use super::Host;
use crate::model::{
    Answer, AttemptId, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, LogMessage, Origin, Progress,
};

/// A host that cancels questions, rejects sampling, and ignores notifications. Connections without calls should send
/// none.
#[derive(Debug)]
pub struct NoopHost;

#[async_trait::async_trait]
impl Host for NoopHost {
    async fn elicit(&self, _: Origin, _: Elicitation) -> Answer {
        Answer::Cancel
    }

    async fn sample(&self, _: Origin, _: ChatRequest) -> Result<ChatReply, ChatError> {
        Err(ChatError::Unsupported { message: "no call is under way".into() })
    }

    async fn on_input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

    fn checkpoint(&self, _: CheckpointKey, _: Value) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn on_progress(&self, _: &AttemptId, _: Progress) {}

    fn on_log(&self, _: Origin, _: LogMessage) {}
}
