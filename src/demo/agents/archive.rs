//! The archive agent: stores documents, and returns them as tool results, resources, or parts of a prompt.

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, CompletionInfo, ContentBlock, GetPromptRequestParams, GetPromptResult, Prompt, PromptArgument,
    PromptMessage, Resource, ResourceTemplate, Role, Tool, ToolAnnotations,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::{Document, DocumentError, DocumentFormat, Documents, SCHEME};
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

/// Returns the template of the resources of all documents.
pub(crate) fn resource_template() -> ResourceTemplate {
    ResourceTemplate::new(format!("{SCHEME}{{name}}"), "document")
        .with_title("A document")
        .with_description("A stored document, by its file name.")
}

/// The prompt of the agent.
const SUMMARIZE: &str = "summarize_document";

/// Returns the prompts of the agent.
pub(crate) fn prompts() -> Vec<Prompt> {
    let name = PromptArgument::new("name").with_description("The file name of the document").with_required(true);
    let sentences = PromptArgument::new("sentences").with_description("The length of the summary. Defaults to 3.");
    let description = "Asks for a summary of a stored document.";
    vec![Prompt::new(SUMMARIZE, Some(description), Some(vec![name, sentences])).with_title("Summarize a document")]
}

/// Returns the messages of a prompt.
pub(crate) async fn prompt(
    request: &GetPromptRequestParams,
    documents: &Documents,
) -> Result<GetPromptResult, ErrorData> {
    if request.name != SUMMARIZE {
        return Err(ErrorData::invalid_params(format!("unknown prompt `{}`", request.name), None));
    }
    let argument = |key: &str| request.arguments.as_ref().and_then(|arguments| arguments.get(key)?.as_str());
    let Some(name) = argument("name") else {
        return Err(ErrorData::invalid_params(format!("`{SUMMARIZE}` requires the argument `name`"), None));
    };
    let (document, text) = documents.read(&format!("{SCHEME}{name}")).await.map_err(DocumentError::into_rpc_error)?;
    let question = format!("Summarize this document in {} sentences.", argument("sentences").unwrap_or("3"));
    let attachment = ContentBlock::embedded_text(document.uri(), text);
    Ok(GetPromptResult::new(vec![
        PromptMessage::new_text(Role::User, question),
        PromptMessage::new(Role::User, attachment),
    ]))
}

/// Returns the names of documents that begin with `prefix`, as values of the argument `name`.
pub(crate) async fn complete(argument: &str, prefix: &str, documents: &Documents) -> Result<CompletionInfo, ErrorData> {
    if argument != "name" {
        return Ok(CompletionInfo::default());
    }
    let documents = documents.list().await.map_err(DocumentError::into_rpc_error)?;
    let names = documents.into_iter().map(|document| document.name).filter(|name| name.starts_with(prefix));
    let mut names: Vec<String> = names.collect();
    let total = u32::try_from(names.len()).ok();
    let has_more = names.len() > CompletionInfo::MAX_VALUES;
    names.truncate(CompletionInfo::MAX_VALUES);
    CompletionInfo::with_pagination(names, total, has_more).map_err(|error| ErrorData::internal_error(error, None))
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
    effects.record(call).await?;
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

impl DocumentError {
    /// Converts to a JSON-RPC error, for requests that are not tool calls.
    pub(crate) fn into_rpc_error(self) -> ErrorData {
        let message = self.to_string();
        match self {
            Self::Unknown { .. } | Self::Address { .. } => ErrorData::resource_not_found(message, None),
            Self::TooLarge { .. } | Self::Directory { .. } => ErrorData::internal_error(message, None),
        }
    }
}

impl From<DocumentError> for ToolStop {
    /// Converts to a tool error, since the caller can correct the size, the address, or the directory.
    fn from(error: DocumentError) -> Self {
        Self::Failed(error.to_string())
    }
}
