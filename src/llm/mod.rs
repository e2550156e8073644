//! Asks a language model.
//! Never decides who may ask.

mod openai;
mod transport;
mod wire;

pub use openai::OpenAi;
pub use transport::EndpointError;

use crate::model::{ChatError, ChatReply, ChatRequest};

/// A language model. Dropping the future ends the request at the endpoint.
#[async_trait::async_trait]
pub trait Llm: Send + Sync {
    /// Asks for one reply.
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError>;
}
