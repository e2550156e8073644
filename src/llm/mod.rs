//! Asks a language model.
//! Never decides who may ask.

mod error;
mod models;
mod openai;
mod probe;
mod rate_limiter;
mod reply_accumulator;
mod request_body;
#[cfg(test)]
mod samples;
mod tool_names;
mod transport;
mod wire;

pub use models::Models;
pub use openai::OpenAi;
pub use probe::{Check, ProbeOutcome, probe_model};
pub use transport::EndpointError;

use crate::model::{ChatError, ChatReply, ChatRequest};

/// Takes the text of a reply, piece by piece, in order. It must not take long: the reply waits meanwhile.
pub type OnDelta<'h> = &'h (dyn Fn(&str) + Send + Sync);

/// A language model. Dropping the future ends the request at the endpoint.
#[async_trait::async_trait]
pub trait Llm: Send + Sync {
    /// Asks for one reply.
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        self.chat_stream(request, &|_| {}).await
    }

    /// Asks for one reply, and hands its text over as it is written, without what the model thought before.
    ///
    /// A request is never repeated once a piece was handed over, so all pieces are of one reply. It may still fail,
    /// and a host that cuts at stop sequences does so only in the reply itself.
    async fn chat_stream(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError>;
}
