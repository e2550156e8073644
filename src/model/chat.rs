//! A request to a language model and its reply, free of any provider's and of MCP's wire format.
//! Never sends anything.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HumanDuration, JsonObject};

/// A chat request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model to ask, by its name in the agents file; where absent, the preferences choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the asker would like of a model, where it names none.
    #[serde(default, skip_serializing_if = "ModelPreferences::is_empty")]
    pub preferences: ModelPreferences,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The conversation, oldest first; never empty. Its messages are shared, since each turn repeats them all.
    pub messages: Vec<Arc<ChatMessage>>,
    /// Most tokens of the reply.
    pub max_tokens: u32,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// How much the model reasons, in its provider's words; the model's own setting where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Texts at which the reply ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Tools that the model may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ChatTool>,
    /// Whether it must ask for one.
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// The form that the reply's text must have; free text where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ReplySchema>,
    /// Limits the silence of the endpoint; the model's own limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// Limits the whole request, its waits included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<HumanDuration>,
    /// Whether the asker itself repeats a request that failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_try: bool,
}

/// MCP's model preferences.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelPreferences {
    /// Names of models, best first; matched by substring, in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// How much a low price matters, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f32>,
    /// How much speed matters, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f32>,
    /// How much ability matters, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intelligence: Option<f32>,
}

impl ModelPreferences {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who said it.
    pub role: ChatRole,
    /// What was said, in order.
    pub parts: Vec<ChatPart>,
}

impl ChatMessage {
    /// A message of text alone.
    pub fn text(role: ChatRole, text: impl Into<String>) -> Self {
        Self { role, parts: vec![ChatPart::Text { text: text.into() }] }
    }

    /// All its text.
    pub fn text_content(&self) -> String {
        join_text(&self.parts)
    }
}

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// The asker; also the results of tools.
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
    /// An image; of the asker only.
    Image {
        /// Such as `image/png`.
        mime_type: String,
        /// Its bytes in base64.
        data: String,
    },
    /// Sound; of the asker only.
    Audio {
        /// Such as `audio/wav`.
        mime_type: String,
        /// Its bytes in base64.
        data: String,
    },
    /// A request for a tool; of the model only.
    ToolUse {
        /// Names the request in its result.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        input: JsonObject,
    },
    /// A request for a tool whose arguments are no JSON object; of the model only. There is nothing to call.
    UnreadableToolUse {
        /// Names the request in its result.
        id: String,
        /// The tool.
        name: String,
        /// What is wrong with the arguments, in words that follow `arguments that`.
        problem: String,
    },
    /// What a model thought before it asked for tools; of the model only. It goes back to that model and is shown to
    /// nobody.
    Reasoning {
        /// Whose it is, by its name in the agents file.
        model: String,
        /// The thoughts.
        text: String,
    },
    /// What a tool gave; of the asker only.
    ToolResult {
        /// The request's id.
        id: String,
        /// The result, as text.
        text: String,
        /// Whether the tool failed.
        is_error: bool,
    },
}

impl ChatPart {
    /// Whether a model asks for a tool with it.
    pub fn is_tool_use(&self) -> bool {
        matches!(self, Self::ToolUse { .. } | Self::UnreadableToolUse { .. })
    }
}

/// A tool that a model may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatTool {
    /// Its name, as the asker knows it; any characters.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    pub input_schema: JsonObject,
}

/// Whether a model must ask for a tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must.
    Required,
    /// It must not.
    None,
}

/// The form of a reply: JSON by a schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplySchema {
    /// A name for the schema: letters, digits, `_` and `-`.
    pub name: String,
    /// The JSON Schema.
    pub schema: Value,
}

impl ReplySchema {
    /// Returns the words that ask a model for the form, as a part of its system prompt.
    pub fn instruction(&self) -> String {
        format!(
            "Answer with one JSON value and nothing else: no explanation and no code fence. It must be valid by this \
             JSON Schema:\n{}",
            self.schema
        )
    }
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The thoughts, the text and the requests for tools, in order; text may be empty.
    pub parts: Vec<ChatPart>,
    /// The model that answered, as the endpoint reported it.
    pub model: String,
    /// MCP's `stopReason`: `endTurn`, `maxTokens`, `stopSequence`, `toolUse`; else `content_filter`, `refusal`, or the
    /// provider's own word. See [`ChatReply::reply_status`].
    pub stop_reason: String,
    /// Tokens used, if the endpoint said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it cost in US dollars, where the agents file has prices and the endpoint told its usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// What is wrong with the endpoint though it replied, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl ChatReply {
    /// All its text.
    pub fn text(&self) -> String {
        join_text(&self.parts)
    }

    /// Returns whether the model said all that it meant to.
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

/// How a reply ended. Only a complete one is an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ReplyStatus {
    /// The model ended it.
    #[default]
    Complete,
    /// The output limit cut it off.
    Truncated,
    /// A content filter of the endpoint cut it off.
    Filtered,
    /// The model refused.
    Refused,
    /// The endpoint gave a reason that is not known here.
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

/// Why a chat request has no reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChatError {
    /// The request asks for what this host or its model cannot do, so no model was asked; JSON-RPC -32602.
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
    /// The endpoint failed in a way that may pass: a limit, an overload, a lost connection; JSON-RPC -32603.
    #[error("{message}")]
    Unavailable {
        /// What it said, without secrets.
        message: String,
        /// The HTTP status, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// How long it asks to wait, if it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<HumanDuration>,
    },
}
