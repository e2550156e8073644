//! How attempts and tasks end.
//! Never decides what follows from it; that is `engine::retry`.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use super::{HumanDuration, TaskId};

/// What a tool returned, in MCP's own JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolOutput {
    /// The content blocks of the `tools/call` result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<ContentBlock>,
    /// Its `structuredContent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured: Option<Value>,
    /// How it breaks the tool's output schema, where the agents file has it taken all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Box<str>>,
}

/// A content block. Nearly every result is one plain text, and a run keeps all results, so a plain text is kept as
/// nothing else.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub enum ContentBlock {
    /// A text block with nothing beside its text: always this, never [`ContentBlock::Other`].
    Text(String),
    /// Any other block, in MCP's own JSON.
    Other(Box<Value>),
}

impl ContentBlock {
    /// The text, if it is a text block.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(block) if block.get("type")? == "text" => block.get("text")?.as_str(),
            Self::Other(_) => None,
        }
    }

    /// The block in MCP's own JSON.
    pub fn to_json(&self) -> Cow<'_, Value> {
        match self {
            Self::Text(text) => Cow::Owned(serde_json::json!({"type": "text", "text": text})),
            Self::Other(block) => Cow::Borrowed(block),
        }
    }

    /// The block in MCP's own JSON, if it is no plain text.
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
    /// An output of content blocks, which may be given in MCP's own JSON. It takes no more room than they need.
    pub fn new<B: Into<ContentBlock>>(content: impl IntoIterator<Item = B>, structured: Option<Value>) -> Self {
        let mut content: Vec<ContentBlock> = content.into_iter().map(Into::into).collect();
        content.shrink_to_fit();
        Self { content, structured, warning: None }
    }

    /// The text blocks, one after the other with a line break between.
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

    /// What `tasks.X.output` means: the structured content if there is any, else the text.
    pub fn value(&self) -> Cow<'_, Value> {
        match &self.structured {
            Some(value) => Cow::Borrowed(value),
            None => Cow::Owned(Value::String(self.text().into_owned())),
        }
    }

    /// The resource links and embedded resources among the content blocks.
    pub fn resources(&self) -> impl Iterator<Item = &ContentBlock> {
        let is_resource = |kind: &Value| kind == "resource_link" || kind == "resource";
        self.content
            .iter()
            .filter(move |block| block.as_non_text().and_then(|block| block.get("type")).is_some_and(is_resource))
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With an output; a `foreach` task has its items' outputs instead, and an empty one of its own.
    Succeeded(Arc<ToolOutput>),
    /// Without one.
    Failed(Failure),
    /// It never started.
    Skipped(SkipReason),
    /// The run was cancelled before it ended.
    Cancelled,
}

/// Why a task never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its `if` was false.
    ConditionFalse {
        /// The expression.
        condition: String,
    },
    /// A task that it needs failed.
    NeedFailed {
        /// That task.
        task: TaskId,
    },
    /// A task that it needs was itself skipped.
    NeedSkipped {
        /// That task.
        task: TaskId,
    },
    /// What was left of the plan was planned anew, without it.
    Replanned,
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConditionFalse { condition } => write!(f, "its condition `{condition}` is false"),
            Self::NeedFailed { task } => write!(f, "it needs `{task}`, which failed"),
            Self::NeedSkipped { task } => write!(f, "it needs `{task}`, which was skipped"),
            Self::Replanned => f.write_str("the rest of the plan was planned anew, without it"),
        }
    }
}

/// Why an attempt or a task failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure, which decides what may follow.
    pub kind: FailureKind,
    /// What happened, for people: lowercase, no full stop.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// How long the server asked to wait before the next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<HumanDuration>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, retry_after: None }
    }

    /// The same failure with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same failure with further advice.
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

/// The kinds of failure, by what is known of the request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    // The request never left.
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
    // The agent refused it without running it.
    /// HTTP 401 or 403.
    Unauthorized,
    /// HTTP 429.
    RateLimited,
    /// The agent no longer knows the session (HTTP 404 or 400).
    SessionLost,
    /// JSON-RPC -32600, -32601, -32602 or -32700, or HTTP 4xx.
    Refused,
    // The agent answered.
    /// A result with `isError`.
    ToolError,
    /// Any other JSON-RPC error.
    ServerError,
    /// The structured content breaks the tool's `outputSchema`, or the result is not one.
    InvalidResult,
    /// The result is larger than the host takes.
    ResultTooLarge,
    // The request left and no answer came.
    /// The host's process ended while the call was under way, and the call cannot be taken up again.
    Interrupted,
    /// The connection was lost.
    ConnectionLost,
    /// The agent was silent for longer than `timeout`.
    IdleTimeout,
    /// The call took longer than `deadline`.
    DeadlineExceeded,
    // People.
    /// A person said no.
    Denied,
    /// The run was cancelled.
    Cancelled,
    /// Items of a `foreach` task failed.
    ItemsFailed,
    /// The task's budget is spent.
    BudgetSpent,
    /// The language model failed, or gave no answer that can be used.
    ModelFailed,
}
