//! A request to a language model and its reply, free of any provider's and of MCP's wire format.
//! Never sends anything.

use serde::{Deserialize, Serialize};

/// A chat request. Text only: what a sampling request holds beyond that is refused where it is mapped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The conversation, oldest first; never empty.
    pub messages: Vec<ChatMessage>,
    /// Most tokens of the reply.
    pub max_tokens: u32,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Texts at which the reply ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Names of models that the asker would like, best first; matched by substring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model_hints: Vec<String>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who said it.
    pub role: ChatRole,
    /// What was said.
    pub text: String,
}

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// The asker.
    User,
    /// The model.
    Assistant,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The text; may be empty.
    pub text: String,
    /// The model that answered, as the endpoint reported it.
    pub model: String,
    /// MCP's `stopReason`: `endTurn`, `maxTokens`, `stopSequence`, or the provider's own word.
    pub stop_reason: String,
    /// Tokens used, if the endpoint said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Tokens that a request used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the reply.
    pub output_tokens: u64,
}

/// Why a chat request has no reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChatError {
    /// The request asks for what this host or its model cannot do; JSON-RPC -32602.
    #[error("{message}")]
    Unsupported {
        /// What is not supported.
        message: String,
    },
    /// The endpoint failed or could not be reached; JSON-RPC -32603.
    #[error("{message}")]
    Endpoint {
        /// What it said, without secrets.
        message: String,
        /// The HTTP status, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
}
