//! Asks a language model.
//! Never decides who may ask.

mod body;
mod checkup;
mod draft;
mod failed;
mod models;
mod names;
mod openai;
#[cfg(test)]
mod samples;
mod transport;
mod wire;

pub use checkup::{Check, Outcome, check_up};
pub use models::Models;
pub use openai::OpenAi;
pub use transport::EndpointError;

use crate::model::{ChatError, ChatReply, ChatRequest};

/// A language model. Dropping the future ends the request at the endpoint.
#[async_trait::async_trait]
pub trait Llm: Send + Sync {
    /// Asks for one reply.
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError>;
}
