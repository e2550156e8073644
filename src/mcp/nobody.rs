//! The host of connections over which no call is made.
//! Never asks, tells or keeps anything.

use futures::future::BoxFuture;
use serde_json::Value;

use super::Host;
use crate::model::{
    Answer, AttemptId, ChatError, ChatReply, ChatRequest, Elicitation, LogMessage, NoteKey, Origin, Progress,
};

/// A host with nobody in it: no call is made, so nothing should be asked.
#[derive(Debug)]
pub struct Nobody;

#[async_trait::async_trait]
impl Host for Nobody {
    async fn elicit(&self, _: Origin, _: Elicitation) -> Answer {
        Answer::Cancel
    }

    async fn sample(&self, _: Origin, _: ChatRequest) -> Result<ChatReply, ChatError> {
        Err(ChatError::Unsupported { message: "no call is under way".into() })
    }

    async fn input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

    fn note(&self, _: NoteKey, _: Value) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn progressed(&self, _: &AttemptId, _: Progress) {}

    fn logged(&self, _: Origin, _: LogMessage) {}
}
