//! The outcomes of attempts and tasks.

use std::borrow::Cow;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{HumanDuration, TaskId};

/// The result of a tool, as MCP JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolOutput {
    /// The content blocks of the `tools/call` result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<ContentBlock>,
    /// The `structuredContent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
    /// The violation of the tool's output schema, if the agents file accepts such results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Box<str>>,
}

/// A content block. Nearly every result is one plain text and a run keeps all results, so plain text has a compact
/// variant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Value")]
#[non_exhaustive]
pub enum ContentBlock {
    /// A text block without other fields. It is never stored as [`ContentBlock::Other`].
    Text(String),
    /// Any other block, as MCP JSON.
    Other(Box<Value>),
}

impl ContentBlock {
    /// Returns the text, if this is a text block.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(block) if block.get("type")? == "text" => block.get("text")?.as_str(),
            Self::Other(_) => None,
        }
    }

    /// Returns the block as MCP JSON.
    pub fn to_json(&self) -> Cow<'_, Value> {
        match self {
            Self::Text(text) => Cow::Owned(serde_json::json!({"type": "text", "text": text})),
            Self::Other(block) => Cow::Borrowed(block),
        }
    }

    /// Returns the text of an embedded resource.
    pub fn resource_text(&self) -> Option<&str> {
        self.as_non_text()?.get("resource")?.get("text")?.as_str()
    }

    /// Returns one line about a block that is not text: the URI of a resource, or the kind of data.
    pub fn summary(&self) -> Option<String> {
        let block = self.as_non_text()?;
        let word = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
        let kind = word(block, "type")?;
        match kind.as_str() {
            "text" => None,
            "resource_link" => Some(match (word(block, "name"), word(block, "uri")?) {
                (Some(name), uri) => format!("{name}: {uri}"),
                (None, uri) => uri,
            }),
            "resource" => word(block.get("resource")?, "uri"),
            _ => Some(match word(block, "mimeType") {
                Some(media) => format!("({kind}, {media})"),
                None => format!("({kind})"),
            }),
        }
    }

    /// Returns the block as MCP JSON, unless it is plain text.
    pub fn as_non_text(&self) -> Option<&Value> {
        match self {
            Self::Text(_) => None,
            Self::Other(block) => Some(block),
        }
    }
}

impl From<Value> for ContentBlock {
    fn from(mut block: Value) -> Self {
        if let Some(fields) = block.as_object_mut()
            && fields.len() == 2
            && fields.get("type").is_some_and(|kind| kind == "text")
            && let Some(Value::String(text)) = fields.get_mut("text")
        {
            return Self::Text(std::mem::take(text));
        }
        Self::Other(Box::new(block))
    }
}

impl Serialize for ContentBlock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => {
                let mut block = serializer.serialize_map(Some(2))?;
                block.serialize_entry("type", "text")?;
                block.serialize_entry("text", text)?;
                block.end()
            }
            Self::Other(block) => block.serialize(serializer),
        }
    }
}

impl ToolOutput {
    /// Returns an output of content blocks, which may be MCP JSON. Excess capacity is released.
    pub fn new<B: Into<ContentBlock>>(content: impl IntoIterator<Item = B>, structured: Option<Value>) -> Self {
        let mut content: Vec<ContentBlock> = content.into_iter().map(Into::into).collect();
        content.shrink_to_fit();
        Self { content, structured, warning: None }
    }

    /// Returns the text blocks, joined by line breaks.
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.content.iter().filter_map(ContentBlock::text);
        let Some(first) = texts.next() else { return Cow::Borrowed("") };
        let Some(second) = texts.next() else { return Cow::Borrowed(first) };
        let mut all = format!("{first}\n{second}");
        for text in texts {
            all.push('\n');
            all.push_str(text);
        }
        Cow::Owned(all)
    }

    /// Returns the value of `tasks.X.output`: the structured content if any, otherwise the text.
    pub fn value(&self) -> Cow<'_, Value> {
        match &self.structured {
            Some(value) => Cow::Borrowed(value),
            None => Cow::Owned(Value::String(self.text().into_owned())),
        }
    }

    /// Returns the resource links and embedded resources among the content blocks.
    pub fn resources(&self) -> impl Iterator<Item = &ContentBlock> {
        let is_resource = |kind: &Value| kind == "resource_link" || kind == "resource";
        self.content
            .iter()
            .filter(move |block| block.as_non_text().and_then(|block| block.get("type")).is_some_and(is_resource))
    }
}

/// The outcome of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It succeeded. The output of a `foreach` task is empty; its items have their own outputs.
    Succeeded(Arc<ToolOutput>),
    /// It failed.
    Failed(Failure),
    /// It never started.
    Skipped(SkipReason),
    /// The run was cancelled before it ended.
    Cancelled,
}

/// The reason why a task never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// Its `if` was false.
    ConditionFalse {
        /// The expression.
        condition: String,
    },
    /// A dependency failed.
    NeedFailed {
        /// The dependency.
        task: TaskId,
    },
    /// A dependency was skipped.
    NeedSkipped {
        /// The dependency.
        task: TaskId,
    },
    /// A replan removed it.
    Replanned,
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConditionFalse { condition } => write!(f, "its condition `{condition}` is false"),
            Self::NeedFailed { task } => write!(f, "it needs `{task}`, which failed"),
            Self::NeedSkipped { task } => write!(f, "it needs `{task}`, which was skipped"),
            Self::Replanned => f.write_str("a replan dropped it"),
        }
    }
}

/// The failure of an attempt or a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The kind of failure, which determines the consequences.
    pub kind: FailureKind,
    /// The message, for people: lowercase, no final period.
    pub message: String,
    /// A suggested fix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The delay that the server requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<HumanDuration>,
}

impl Failure {
    /// Returns a failure without a suggested fix.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, retry_after: None }
    }

    /// Returns the same failure with a suggested fix.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Returns the same failure with an additional suggested fix.
    #[must_use]
    pub fn with_additional_help(self, additional_help: impl std::fmt::Display) -> Self {
        let help = match &self.help {
            Some(help) => format!("{help}; {additional_help}"),
            None => additional_help.to_string(),
        };
        self.with_help(help)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// The kinds of failure, by what is known about the request and its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    // The request was never sent.
    /// No connection to the agent could be made.
    AgentUnavailable,
    /// The connection was lost before the request was written.
    NotSent,
    /// The agent does not have the tool, or the agents file does not allow it.
    UnknownTool,
    /// The arguments break the tool's `inputSchema`.
    InvalidArguments,
    /// An expression of the task could not be evaluated.
    Expression,
    // The agent refused the request without executing it.
    /// HTTP 401 or 403.
    Unauthorized,
    /// HTTP 429.
    RateLimited,
    /// The agent does not know the session (HTTP 404 or 400).
    SessionLost,
    /// JSON-RPC -32600, -32601, -32602 or -32700, or HTTP 4xx.
    Refused,
    // The agent responded.
    /// A result with `isError`.
    ToolError,
    /// Any other JSON-RPC error.
    ServerError,
    /// The tool failed because its library refuses elicitation or sampling in the era of the connection. The next
    /// attempt uses the other era.
    EraRefused,
    /// The structured content breaks the tool's `outputSchema`, or the response is not a valid result.
    InvalidResult,
    /// The result exceeds the host's size limit.
    ResultTooLarge,
    // The request was sent and no response arrived.
    /// The host's process ended during the call, and the call cannot be reattached.
    Interrupted,
    /// The connection was lost.
    ConnectionLost,
    /// The agent was silent for longer than `timeout`.
    IdleTimeout,
    /// The call took longer than `deadline`.
    DeadlineExceeded,
    // Other causes.
    /// A person declined.
    Denied,
    /// The run was cancelled.
    Cancelled,
    /// Items of a `foreach` task failed.
    ItemsFailed,
    /// The budget of the task is exhausted.
    BudgetSpent,
    /// The language model failed or returned no usable answer.
    ModelFailed,
}
