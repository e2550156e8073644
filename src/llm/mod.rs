//! Asks a language model.
//! Never decides who may ask.

mod body;
mod checkup;
mod draft;
mod failed;
mod gate;
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

/// Takes the text of a reply, piece by piece, in order. It must not take long: the reply waits meanwhile.
pub type Hear<'h> = &'h (dyn Fn(&str) + Send + Sync);

/// A language model. Dropping the future ends the request at the endpoint.
#[async_trait::async_trait]
pub trait Llm: Send + Sync {
    /// Asks for one reply.
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        self.chat_aloud(request, &|_| {}).await
    }

    /// Asks for one reply, and hands its text over as it is written, without what the model thought before.
    ///
    /// A request is never repeated once a piece was handed over, so all pieces are of one reply. It may still fail,
    /// and a host that cuts at stop sequences does so only in the reply itself.
    async fn chat_aloud(&self, request: &ChatRequest, hear: Hear<'_>) -> Result<ChatReply, ChatError>;
}
