//! A request to a language model and its reply, independent of providers and of MCP's wire format.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{HumanDuration, JsonObject, is_default};

/// A chat request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The name of the model in the agents file. If absent, the preferences select one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Preferences for a model, used if none is named.
    #[serde(default, skip_serializing_if = "is_default")]
    pub preferences: ModelPreferences,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The conversation, oldest message first; never empty. Messages are shared, since each exchange repeats them all.
    pub messages: Vec<Arc<ChatMessage>>,
    /// The maximum number of tokens of the reply.
    pub max_tokens: u32,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// The reasoning effort, as a value that the provider defines; the model's own setting if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Stop sequences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ChatTool>,
    /// The constraint on tool calls.
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// The required format of the reply; free text if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ReplySchema>,
    /// The idle timeout of the endpoint; the model's own timeout if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// The deadline of the whole request, including waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<HumanDuration>,
    /// True if the caller itself retries failed requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_try: bool,
}

/// MCP's model preferences.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelPreferences {
    /// Names of models, best first; matched as case-insensitive substrings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The importance of a low price, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f32>,
    /// The importance of speed, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f32>,
    /// The importance of ability, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intelligence: Option<f32>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// The role of the author.
    pub role: ChatRole,
    /// The content, in order.
    pub parts: Vec<ChatPart>,
}

impl ChatMessage {
    /// Returns a message that consists of text only.
    pub fn text(role: ChatRole, text: impl Into<String>) -> Self {
        Self { role, parts: vec![ChatPart::Text { text: text.into() }] }
    }

    /// Returns the text of all parts.
    pub fn text_content(&self) -> String {
        join_text(&self.parts)
    }
}

/// The author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// The caller, and the results of tools.
    User,
    /// The model.
    Assistant,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChatPart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// An image; user messages only.
    Image {
        /// The MIME type, such as `image/png`.
        mime_type: String,
        /// The data in base64.
        data: String,
    },
    /// Audio; user messages only.
    Audio {
        /// The MIME type, such as `audio/wav`.
        mime_type: String,
        /// The data in base64.
        data: String,
    },
    /// A tool call; assistant messages only.
    ToolUse {
        /// The ID that the result refers to.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        input: JsonObject,
    },
    /// A tool call whose arguments are not a JSON object; assistant messages only. It cannot be executed.
    UnreadableToolUse {
        /// The ID that the result refers to.
        id: String,
        /// The tool.
        name: String,
        /// The problem with the arguments, as a phrase that follows `arguments that`.
        problem: String,
    },
    /// The reasoning before a tool call; assistant messages only. It is sent back to the same model and never
    /// displayed.
    Reasoning {
        /// The name of the model in the agents file.
        model: String,
        /// The reasoning.
        text: String,
    },
    /// The result of a tool call; user messages only.
    ToolResult {
        /// The ID of the call.
        id: String,
        /// The result, as text.
        text: String,
        /// True if the tool failed.
        is_error: bool,
    },
}

impl ChatPart {
    /// Returns whether this is a tool call.
    pub fn is_tool_use(&self) -> bool {
        matches!(self, Self::ToolUse { .. } | Self::UnreadableToolUse { .. })
    }
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatTool {
    /// Its name as the caller defines it; any characters.
    pub name: String,
    /// The description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    pub input_schema: JsonObject,
}

/// A constraint on a model's tool calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// The model must call a tool.
    Required,
    /// The model must not call a tool.
    None,
}

/// The format of a reply: JSON that matches a schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplySchema {
    /// A name for the schema: letters, digits, `_` and `-`.
    pub name: String,
    /// The JSON Schema.
    pub schema: Value,
    /// True if the prompt describes the format already, so that it need not contain the schema.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_described: bool,
}

impl ReplySchema {
    /// Returns the part of the system prompt that requests this format.
    pub fn instruction(&self) -> String {
        format!(
            "Answer with one JSON value and nothing else: no explanation and no code fence. It must be valid by this \
             JSON Schema:\n{}",
            self.schema
        )
    }
}

/// A model's reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The reasoning, text, and tool calls, in order; the text may be empty.
    pub parts: Vec<ChatPart>,
    /// The model, as reported by the endpoint.
    pub model: String,
    /// MCP's `stopReason`: `endTurn`, `maxTokens`, `stopSequence`, or `toolUse`; otherwise `content_filter`, `refusal`,
    /// or the provider's own value. See [`ChatReply::reply_status`].
    pub stop_reason: String,
    /// The number of tokens used, if reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The cost in US dollars, if the agents file has prices and the endpoint reported its usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// A problem of the endpoint that did not prevent the reply, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl ChatReply {
    /// Returns the text of all parts.
    pub fn text(&self) -> String {
        join_text(&self.parts)
    }

    /// Returns whether the reply is complete, or why not.
    pub fn reply_status(&self) -> ReplyStatus {
        match self.stop_reason.as_str() {
            "endTurn" | "stopSequence" | "toolUse" => ReplyStatus::Complete,
            "maxTokens" => ReplyStatus::Truncated,
            "content_filter" => ReplyStatus::Filtered,
            "refusal" => ReplyStatus::Refused,
            other => ReplyStatus::Unknown(other.to_owned()),
        }
    }
}

/// The completeness of a reply. Only a complete reply is an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyStatus {
    /// The model ended the reply.
    #[default]
    Complete,
    /// The output limit truncated the reply.
    Truncated,
    /// A content filter of the endpoint truncated the reply.
    Filtered,
    /// The model refused.
    Refused,
    /// The endpoint reported an unknown reason.
    Unknown(String),
}

fn join_text(parts: &[ChatPart]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        ChatPart::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Tokens that a request used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the reply.
    pub output_tokens: u64,
}

/// The reason for a missing reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChatError {
    /// The request needs a feature that the host or the model does not support, so no model was asked; JSON-RPC -32602.
    #[error("{message}")]
    Unsupported {
        /// The unsupported feature.
        message: String,
    },
    /// The endpoint failed or could not be reached; JSON-RPC -32603.
    #[error("{message}")]
    Endpoint {
        /// The error message, without secrets.
        message: String,
        /// The HTTP status, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// The endpoint failed temporarily: a rate limit, an overload, or a lost connection; JSON-RPC -32603.
    #[error("{message}")]
    Unavailable {
        /// The error message, without secrets.
        message: String,
        /// The HTTP status, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The delay that the endpoint requests, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<HumanDuration>,
    },
}
