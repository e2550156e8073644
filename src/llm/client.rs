//! The interface of every language model.

use crate::model::{ChatError, ChatReply, ChatRequest};

/// A callback that receives the text of a reply, piece by piece and in order. It must be fast, because it blocks the
/// reply.
pub type OnDelta<'h> = &'h (dyn Fn(&str) + Send + Sync);

/// A language model. Dropping the future cancels the request at the endpoint.
#[async_trait::async_trait]
pub trait Llm: Send + Sync {
    /// Requests one reply.
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        self.chat_stream(request, &|_| {}).await
    }

    /// Requests one reply and streams its text to `on_delta`, without the reasoning.
    ///
    /// A request is never retried after a piece was passed on, so all pieces belong to one reply. The request may still
    /// fail. If the host itself truncates at stop sequences, it truncates only the returned reply.
    async fn chat_stream(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError>;
}
