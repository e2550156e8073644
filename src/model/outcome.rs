//! The outcomes of attempts and tasks.

use std::borrow::Cow;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{HumanDuration, SavedFile, SavedOutput, TaskId};

/// The member of a serialized block that refers to the file with its text.
const TEXT_FILE: &str = "text_file";

/// The result of a tool, as MCP JSON.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct ToolOutput {
    /// The content blocks of the `tools/call` result.
    #[serde(default)]
    pub content: Vec<ContentBlock>,
    /// The `structuredContent`.
    #[serde(default)]
    pub structured: Option<Value>,
    /// The file that also has the `structuredContent`. It is serialized in its place.
    #[serde(default)]
    pub structured_file: Option<Box<SavedFile>>,
    /// The violation of the tool's output schema, if the agents file accepts such results.
    #[serde(default)]
    pub warning: Option<Box<str>>,
    /// The disagreements between a synthesized answer and the results, if there are any.
    #[serde(default)]
    pub unverified: Option<Box<[String]>>,
    /// True if it is the result of an earlier call, from the cache.
    #[serde(default)]
    pub cached: bool,
    /// True if the call began before the run, while its plan was written.
    #[serde(default)]
    pub early: bool,
    /// The file of the run that has the output, if the task saves it.
    #[serde(default)]
    pub saved: Option<Box<SavedOutput>>,
}

impl Serialize for ToolOutput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut output = serializer.serialize_map(None)?;
        if !self.content.is_empty() {
            output.serialize_entry("content", &self.content)?;
        }
        match (&self.structured_file, &self.structured) {
            (Some(file), _) => output.serialize_entry("structured_file", &file.reference())?,
            (None, Some(structured)) => output.serialize_entry("structured", structured)?,
            (None, None) => {}
        }
        if let Some(warning) = &self.warning {
            output.serialize_entry("warning", warning)?;
        }
        if let Some(unverified) = &self.unverified {
            output.serialize_entry("unverified", unverified)?;
        }
        if self.cached {
            output.serialize_entry("cached", &self.cached)?;
        }
        if self.early {
            output.serialize_entry("early", &self.early)?;
        }
        if let Some(saved) = &self.saved {
            output.serialize_entry("saved", saved)?;
        }
        output.end()
    }
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
    /// A block whose text is also in a file.
    Saved(Box<SavedText>),
}

/// A content block, and the file with its text. It is serialized with a reference to the file in place of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedText {
    /// The block with its text, as MCP JSON.
    block: Value,
    file: SavedFile,
}

impl ContentBlock {
    /// Returns the text, if this is a text block.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) | Self::Saved(_) => {
                let block = self.as_non_text()?;
                if block.get("type")? == "text" { block.get("text")?.as_str() } else { None }
            }
        }
    }

    /// Returns the block as MCP JSON.
    pub fn to_json(&self) -> Cow<'_, Value> {
        match self {
            Self::Text(text) => Cow::Owned(serde_json::json!({"type": "text", "text": text})),
            Self::Other(block) => Cow::Borrowed(block),
            Self::Saved(saved) => Cow::Borrowed(&saved.block),
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
            Self::Saved(saved) => Some(&saved.block),
        }
    }
}

impl ContentBlock {
    /// Returns the data of an image, of audio, or of an embedded resource, in Base64 or as a reference.
    pub fn data(&self) -> Option<&str> {
        let block = self.as_non_text()?;
        let data = match block.get("resource") {
            Some(resource) => resource.get("blob"),
            None => block.get("data"),
        };
        data?.as_str()
    }

    /// Replaces the data that [`ContentBlock::data`] returns.
    pub fn set_data(&mut self, data: String) {
        let Self::Other(block) = self else { return };
        let member = match block.get_mut("resource") {
            Some(resource) => resource.get_mut("blob"),
            None => block.get_mut("data"),
        };
        if let Some(member) = member {
            *member = data.into();
        }
    }

    /// Returns the MIME type of the data, if the agent states it. A text is plain text otherwise.
    pub fn mime_type(&self) -> Option<&str> {
        let stated =
            self.as_non_text().and_then(|block| block.get("resource").unwrap_or(block).get("mimeType")?.as_str());
        stated.or_else(|| self.text_for_file().map(|_| "text/plain"))
    }

    /// Returns the file that holds the data or the text.
    pub fn saved_file(&self) -> Option<SavedFile> {
        match self {
            Self::Saved(saved) => Some(saved.file.clone()),
            Self::Text(_) | Self::Other(_) => SavedFile::parse(self.data()?),
        }
    }

    /// Returns the text that can be in a file: that of an embedded resource, or of any other block.
    pub fn text_for_file(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) | Self::Saved(_) => text_owner(self.as_non_text()?).get("text")?.as_str(),
        }
    }

    /// Returns a text block whose text is only in `file`: the reference stands for it.
    pub fn text_in_file(file: SavedFile, mime_type: Option<&str>) -> Self {
        let mut block = serde_json::json!({"type": "text", "text": file.reference()});
        if let Some(mime_type) = mime_type {
            block["mimeType"] = mime_type.into();
        }
        Self::Saved(Box::new(SavedText { block, file }))
    }

    /// Returns the file of a text that is only there.
    pub fn file_of_text(&self) -> Option<&SavedFile> {
        match self {
            Self::Saved(saved) => Some(&saved.file).filter(|file| file.is_text),
            Self::Text(_) | Self::Other(_) => None,
        }
    }

    /// Makes a reference that an agent sent an ordinary text.
    pub fn disown_file(&mut self) {
        if let Self::Saved(saved) = self {
            *self = saved.block.take().into();
        }
    }

    /// Records that the text of the block is in `file`. The block keeps its text, and refers to the file where it is
    /// serialized.
    pub fn set_text_file(&mut self, file: SavedFile) {
        let block = self.to_json().into_owned();
        *self = Self::Saved(Box::new(SavedText { block, file }));
    }

    /// Returns the file with the text of a block that was serialized with a reference to it.
    pub fn missing_text_file(&self) -> Option<SavedFile> {
        let Self::Other(block) = self else { return None };
        SavedFile::parse(text_owner(block).get(TEXT_FILE)?.as_str()?)
    }

    /// Restores the text of a block that refers to `file`.
    pub fn restore_text(&mut self, file: SavedFile, text: String) {
        self.remove_text_file();
        let Self::Other(block) = self else { return };
        if let Some(members) = text_owner_mut(block).as_object_mut() {
            members.insert("text".to_owned(), text.into());
        }
        *self = Self::Saved(Box::new(SavedText { block: block.take(), file }));
    }

    /// Removes a reference to a file with the text, which an agent must not send.
    pub fn remove_text_file(&mut self) {
        let Self::Other(block) = self else { return };
        if let Some(members) = text_owner_mut(block).as_object_mut()
            && members.remove(TEXT_FILE).is_some()
        {
            // The rest may be plain text, which has a variant of its own.
            *self = block.take().into();
        }
    }
}

/// Returns whether the text of a block is that of its embedded resource.
fn is_resource(block: &Value) -> bool {
    block.get("type").is_some_and(|kind| kind == "resource") && block.get("resource").is_some_and(Value::is_object)
}

/// Returns the object with the text of a block: the embedded resource, or the block itself.
fn text_owner(block: &Value) -> &Value {
    if is_resource(block) { &block["resource"] } else { block }
}

fn text_owner_mut(block: &mut Value) -> &mut Value {
    if is_resource(block) { &mut block["resource"] } else { block }
}

/// Returns the block with a reference in place of its text.
fn with_text_file(block: &Value, reference: &str) -> Value {
    let referring = with_member_replaced(text_owner(block), "text", (TEXT_FILE, reference.into()));
    if is_resource(block) { with_member_replaced(block, "resource", ("resource", referring)) } else { referring }
}

/// Returns a copy of an object with another member in place of `name`, which is not copied.
fn with_member_replaced(object: &Value, name: &str, (replacement, value): (&str, Value)) -> Value {
    let members = object.as_object().into_iter().flatten().filter(|(key, _)| *key != name);
    let members = members.map(|(key, value)| (key.clone(), value.clone()));
    members.chain([(replacement.to_owned(), value)]).collect()
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
        if !is_resource(&block)
            && let Some(file) = block.get(TEXT_FILE).and_then(SavedFile::parse_text)
            && let Some(members) = block.as_object_mut()
        {
            members.shift_remove(TEXT_FILE);
            members.insert("text".to_owned(), file.reference().into());
            return Self::Saved(Box::new(SavedText { block, file }));
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
            Self::Saved(saved) => with_text_file(&saved.block, &saved.file.reference()).serialize(serializer),
        }
    }
}

impl ToolOutput {
    /// Returns an output of content blocks, which may be MCP JSON. Excess capacity is released.
    pub fn new<B: Into<ContentBlock>>(content: impl IntoIterator<Item = B>, structured: Option<Value>) -> Self {
        let mut content: Vec<ContentBlock> = content.into_iter().map(Into::into).collect();
        content.shrink_to_fit();
        Self { content, structured, ..Self::default() }
    }

    /// Returns the first file with contents that are missing here, as in an event that was just read.
    pub fn missing_file(&self) -> Option<SavedFile> {
        let structured = self.structured_file.as_deref().filter(|_| self.structured.is_none());
        structured.cloned().or_else(|| self.content.iter().find_map(ContentBlock::missing_text_file))
    }

    /// Returns the first file with a text that is only there, and that a reference stands for.
    pub fn file_of_text(&self) -> Option<&SavedFile> {
        self.content.iter().find_map(ContentBlock::file_of_text)
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
    /// It is a hook, and what it waits for did not happen.
    NotTriggered,
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConditionFalse { condition } => write!(f, "its condition `{condition}` is false"),
            Self::NeedFailed { task } => write!(f, "it needs `{task}`, which failed"),
            Self::NeedSkipped { task } => write!(f, "it needs `{task}`, which was skipped"),
            Self::Replanned => f.write_str("a replan dropped it"),
            Self::NotTriggered => f.write_str("what it waits for did not happen"),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file() -> SavedFile {
        SavedFile { name: "shot-1.png".to_owned(), bytes: 1_032, sha256: "0a".repeat(32), is_text: false }
    }

    #[test]
    fn data_of_each_kind_of_block_is_replaced() {
        for (block, mime_type, member) in [
            (json!({"type": "image", "mimeType": "image/png", "data": "AA=="}), Some("image/png"), "/data"),
            (json!({"type": "audio", "data": "AA=="}), None, "/data"),
            (
                json!({"type": "resource", "resource": {"uri": "u", "mimeType": "a/b", "blob": "AA=="}}),
                Some("a/b"),
                "/resource/blob",
            ),
        ] {
            let mut block = ContentBlock::from(block);
            assert_eq!((block.data(), block.mime_type(), block.saved_file()), (Some("AA=="), mime_type, None));
            block.set_data(file().reference());
            assert_eq!(block.saved_file(), Some(file()));
            assert_eq!(block.to_json().pointer(member), Some(&json!(file().reference())));
        }
        for block in [
            json!({"type": "text", "text": "data"}),
            json!({"type": "resource", "resource": {"uri": "u", "text": "t"}}),
            json!({"type": "resource_link", "uri": "u"}),
        ] {
            assert_eq!(ContentBlock::from(block).data(), None);
        }
    }

    #[test]
    fn texts_of_files_are_serialized_as_references_and_restored() {
        let reference = file().reference();
        for (block, serialized, mime_type) in [
            (json!({"type": "text", "text": "long"}), json!({"type": "text", "text_file": reference}), "text/plain"),
            (
                json!({"type": "text", "text": "long", "annotations": {"priority": 1}}),
                json!({"type": "text", "text_file": reference, "annotations": {"priority": 1}}),
                "text/plain",
            ),
            (
                json!({"type": "resource", "resource": {"uri": "u", "mimeType": "text/css", "text": "long"}}),
                json!({"type": "resource", "resource": {"uri": "u", "mimeType": "text/css", "text_file": reference}}),
                "text/css",
            ),
            // Only the text of the block itself is in the file.
            (
                json!({"type": "text", "text": "long", "resource": {"text": "short"}}),
                json!({"type": "text", "text_file": reference, "resource": {"text": "short"}}),
                "text/plain",
            ),
        ] {
            let mut saved = ContentBlock::from(block.clone());
            saved.set_text_file(file());
            assert_eq!(
                (&*saved.to_json(), saved.saved_file(), saved.mime_type()),
                (&block, Some(file()), Some(mime_type))
            );
            assert_eq!((saved.text(), saved.missing_text_file()), (ContentBlock::from(block.clone()).text(), None));
            assert_eq!(serde_json::to_value(&saved).unwrap(), serialized);

            let mut read: ContentBlock = serde_json::from_value(serialized).unwrap();
            assert_eq!((read.text(), read.missing_text_file()), (None, Some(file())));
            read.restore_text(file(), "long".to_owned());
            assert_eq!(read, saved);
        }
        let mut forged = ContentBlock::from(json!({"type": "text", "text": "t", "text_file": reference}));
        forged.remove_text_file();
        assert_eq!(forged, ContentBlock::Text("t".to_owned()));
    }

    #[test]
    fn texts_that_are_only_in_files_stay_references() {
        let file = SavedFile { is_text: true, ..file() };
        let block = ContentBlock::text_in_file(file.clone(), Some("text/html"));
        let serialized = serde_json::to_value(&block).unwrap();
        assert_eq!(serialized, json!({"type": "text", "text_file": file.reference(), "mimeType": "text/html"}));
        let mut read: ContentBlock = serde_json::from_value(serialized).unwrap();
        assert_eq!((read.text(), read.missing_text_file()), (Some(&*file.reference()), None));
        assert_eq!((read.saved_file(), read.mime_type(), &read), (Some(file.clone()), Some("text/html"), &block));
        let output = ToolOutput::new([read.clone()], None);
        assert_eq!((output.text().into_owned(), output.file_of_text()), (file.reference(), Some(&file)));
        read.disown_file();
        assert_eq!((read.text(), read.saved_file()), (Some(&*file.reference()), None));
    }

    #[test]
    fn structured_results_of_files_are_serialized_as_references() {
        let output = ToolOutput {
            structured_file: Some(Box::new(file())),
            warning: Some("w".into()),
            ..ToolOutput::new([json!({"type": "text", "text": "t"})], Some(json!({"n": 1})))
        };
        let content = json!([{"type": "text", "text": "t"}]);
        let serialized = json!({"content": content, "structured_file": file().reference(), "warning": "w"});
        assert_eq!(serde_json::to_value(&output).unwrap(), serialized);
        let read: ToolOutput = serde_json::from_value(serialized).unwrap();
        assert_eq!((read.missing_file(), output.missing_file()), (Some(file()), None));
        assert_eq!(read, ToolOutput { structured: None, ..output });
        assert_eq!(serde_json::to_value(ToolOutput::default()).unwrap(), json!({}));
    }
}
