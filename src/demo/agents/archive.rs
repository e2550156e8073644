//! The archive agent: stores documents, and returns them as tool results or resources.

use rmcp::model::{CallToolResult, ContentBlock, Resource, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::{Document, DocumentError, DocumentFormat, Documents};
use crate::demo::call::{DemoCall, ToolStop, describe_tool, tool_result};
use crate::demo::effects::EffectLog;

/// The document to store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StoreArguments {
    /// The title of the document, from which its file name is derived.
    #[schemars(length(min = 1))]
    title: String,
    /// The text of the document, at most 1 MiB.
    text: String,
    /// The format of the document. Defaults to Markdown.
    #[serde(default)]
    format: DocumentFormat,
    /// The delay before the document is stored, in milliseconds. Defaults to 0.
    #[serde(default)]
    delay_ms: u64,
}

/// The stored document.
#[derive(Debug, Serialize, JsonSchema)]
struct StoredDocument {
    /// The URI of the document, for `fetch_document` and `resources/read`.
    uri: String,
    /// The size of the document in bytes.
    bytes: u64,
}

/// The document to fetch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FetchArguments {
    /// The URI of the document, as returned by `store_document`.
    uri: String,
    /// The delay before the document is read, in milliseconds. Defaults to 0.
    #[serde(default)]
    delay_ms: u64,
}

/// The fetched document.
#[derive(Debug, Serialize, JsonSchema)]
struct FetchedDocument {
    /// The URI of the document.
    uri: String,
    /// The format of the document.
    format: DocumentFormat,
    /// The size of the document in bytes.
    bytes: u64,
    /// The text of the document.
    text: String,
}

/// Returns the tools of the agent.
pub(crate) fn tools() -> Vec<Tool> {
    vec![
        describe_tool::<StoreArguments, StoredDocument>(
            "store_document",
            "Store a document",
            "Stores a document on this machine and returns a link to it. Storing the same document again has no \
             effect.",
            ToolAnnotations::new().read_only(false).destructive(false).idempotent(true),
        ),
        describe_tool::<FetchArguments, FetchedDocument>(
            "fetch_document",
            "Fetch a document",
            "Returns a stored document.",
            ToolAnnotations::new().read_only(true).idempotent(true),
        ),
    ]
}

/// Returns the MCP resource of a document.
pub(crate) fn resource(document: &Document) -> Resource {
    Resource::new(document.uri(), document.name.clone())
        .with_mime_type(document.format.media_type())
        .with_size(document.bytes)
}

/// Executes `store_document`.
pub(crate) async fn store(
    call: &DemoCall,
    documents: &Documents,
    effects: &EffectLog,
) -> Result<CallToolResult, ToolStop> {
    let arguments: StoreArguments = call.arguments()?;
    let title = arguments.title.trim();
    if title.is_empty() {
        return Err(ToolStop::Failed("`title` is empty: expected a title".into()));
    }
    call.pause(arguments.delay_ms).await?;
    let document = documents.store(title, &arguments.text, arguments.format).await?;
    effects.record("archive", call).await?;
    call.progress(100.0, format!("stored `{}`", document.name)).await;
    let text = format!("Stored `{title}` as {} ({} bytes).", document.uri(), document.bytes);
    let stored = StoredDocument { uri: document.uri(), bytes: document.bytes };
    let mut result = tool_result(text, &stored)?;
    result.content.push(ContentBlock::resource_link(resource(&document).with_title(title)));
    Ok(result)
}

/// Executes `fetch_document`.
pub(crate) async fn fetch(call: &DemoCall, documents: &Documents) -> Result<CallToolResult, ToolStop> {
    let arguments: FetchArguments = call.arguments()?;
    call.pause(arguments.delay_ms).await?;
    let (document, text) = documents.read(&arguments.uri).await?;
    let fetched =
        FetchedDocument { uri: document.uri(), format: document.format, bytes: document.bytes, text: text.clone() };
    tool_result(text, &fetched)
}

impl From<DocumentError> for ToolStop {
    /// Converts to a tool error, since the caller can correct the size, the address, or the directory.
    fn from(error: DocumentError) -> Self {
        Self::Failed(error.to_string())
    }
}
