//! The archive agent: keeps documents and gives them back, as a tool's answer or as a resource.
//! Never changes or removes one.

use std::time::Duration;

use rmcp::{
    ErrorData,
    model::{CallToolResponse, CreateTaskResult, Resource, Tool, ToolAnnotations},
    task_manager::{TaskExit, TaskManager, TaskOptions},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    call::{Call, Reply, Stop, respond},
    documents::{Document, DocumentError, Documents, Format},
    effects::Effects,
    jobs::{Jobs, Order},
};

/// What counting passes by.
const SHELVES: [&str; 4] = ["the lower shelf", "the middle shelf", "the upper shelf", "the table"];
/// How often the host is asked to look after a task.
const POLL_MILLISECONDS: u64 = 100;

/// A document to keep.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StoreArguments {
    /// The document's title, from which its name is made.
    #[schemars(length(min = 1))]
    title: String,
    /// The document itself; at most 1 MiB.
    text: String,
    /// How it is written; Markdown if absent.
    #[serde(default)]
    format: Format,
    /// The pause before it is stored, in milliseconds; none if absent.
    #[serde(default)]
    delay_ms: u64,
}

/// Where it was put.
#[derive(Debug, Serialize, JsonSchema)]
struct Stored {
    /// Its address, for `fetch_document` and `resources/read`.
    uri: String,
    /// Its size.
    bytes: u64,
}

/// A document to give back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FetchArguments {
    /// Its address, as `store_document` returned it.
    uri: String,
    /// The pause before it is read, in milliseconds; none if absent.
    #[serde(default)]
    delay_ms: u64,
}

/// The document.
#[derive(Debug, Serialize, JsonSchema)]
struct Fetched {
    /// Its address.
    uri: String,
    /// How it is written.
    format: Format,
    /// Its size.
    bytes: u64,
    /// The document itself.
    text: String,
}

/// Documents to bind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BindArguments {
    /// The volume's title.
    #[schemars(length(min = 1))]
    title: String,
    /// How long it takes, in milliseconds; 2000 if absent.
    #[serde(default = "default_binding")]
    delay_ms: u64,
    /// Whether the binder is to run out of thread; not if absent.
    #[serde(default)]
    fails: bool,
}

fn default_binding() -> u64 {
    2_000
}

/// What was begun.
#[derive(Debug, Serialize, JsonSchema)]
struct Begun {
    /// Where `resources/read` says how it is: `status` is `working`, `completed` or `failed`.
    uri: String,
}

/// Documents to count.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountArguments {
    /// The pause before each shelf, in milliseconds; 100 if absent.
    #[serde(default = "default_counting")]
    delay_ms: u64,
}

fn default_counting() -> u64 {
    100
}

/// What there is.
#[derive(Debug, Serialize, JsonSchema)]
struct Count {
    /// The documents.
    documents: usize,
    /// Their size, all together.
    bytes: u64,
}

/// What the agent offers.
pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool::new(
            "bind_documents",
            "Has the documents bound in a volume, which takes its time: it returns at once with a link to a resource that \
             says how far it is.",
            rmcp::model::JsonObject::new(),
        )
        .with_title("Bind the documents")
        .with_input_schema::<BindArguments>()
        .with_output_schema::<Begun>()
        .with_annotations(
            ToolAnnotations::with_title("Bind the documents")
                .read_only(false)
                .destructive(false)
                .idempotent(false)
                .open_world(false),
        ),
        Tool::new(
            "count_documents",
            "Counts the documents, shelf by shelf; as a task for hosts that can follow one.",
            rmcp::model::JsonObject::new(),
        )
        .with_title("Count the documents")
        .with_input_schema::<CountArguments>()
        .with_output_schema::<Count>()
        .with_annotations(
            ToolAnnotations::with_title("Count the documents")
                .read_only(false)
                .destructive(false)
                .idempotent(false)
                .open_world(false),
        ),
        Tool::new(
            "store_document",
            "Keeps a document on this machine and returns a link to it. Storing the same document again changes nothing.",
            rmcp::model::JsonObject::new(),
        )
        .with_title("Store a document")
        .with_input_schema::<StoreArguments>()
        .with_output_schema::<Stored>()
        .with_annotations(
            ToolAnnotations::with_title("Store a document")
                .read_only(false)
                .destructive(false)
                .idempotent(true)
                .open_world(false),
        ),
        Tool::new("fetch_document", "Gives back a document that was stored before.", rmcp::model::JsonObject::new())
            .with_title("Fetch a document")
            .with_input_schema::<FetchArguments>()
            .with_output_schema::<Fetched>()
            .with_annotations(
                ToolAnnotations::with_title("Fetch a document").read_only(true).idempotent(true).open_world(false),
            ),
    ]
}

/// A document as MCP describes resources.
pub(super) fn resource(document: &Document) -> Resource {
    Resource::new(document.uri(), document.name.clone())
        .with_mime_type(document.format.media_type())
        .with_size(document.bytes)
}

/// Runs `store_document`.
pub(super) async fn store(call: &Call, documents: &Documents, effects: &Effects) -> Result<Reply, Stop> {
    let arguments: StoreArguments = call.arguments()?;
    let title = arguments.title.trim();
    if title.is_empty() {
        return Err(Stop::Failed("`title` is empty: name the document".into()));
    }
    call.pause(arguments.delay_ms).await?;
    let document = documents.store(title, &arguments.text, arguments.format).await?;
    effects.record("archive", call).await?;
    call.progress(100.0, format!("stored `{}`", document.name)).await;
    let text = format!("Stored `{title}` as {} ({} bytes).", document.uri(), document.bytes);
    let stored = Stored { uri: document.uri(), bytes: document.bytes };
    Ok(Reply::new(text, &stored)?.with_link(resource(&document).with_title(title)))
}

/// Runs `fetch_document`.
pub(super) async fn fetch(call: &Call, documents: &Documents) -> Result<Reply, Stop> {
    let arguments: FetchArguments = call.arguments()?;
    call.pause(arguments.delay_ms).await?;
    let (document, text) = documents.read(&arguments.uri).await?;
    let fetched = Fetched { uri: document.uri(), format: document.format, bytes: document.bytes, text: text.clone() };
    Reply::new(text, &fetched)
}

/// Runs `bind_documents`.
pub(super) async fn bind(call: &Call, jobs: &Jobs, effects: &Effects) -> Result<Reply, Stop> {
    let BindArguments { title, delay_ms, fails } = call.arguments()?;
    let order = Order { title: title.clone(), lasts: Duration::from_millis(delay_ms), fails };
    effects.record("archive", call).await?;
    let uri = jobs.begin(order).await?;
    let link = Resource::new(uri.clone(), title.clone()).with_mime_type("application/json");
    Ok(Reply::new(format!("The binder has begun with `{title}`."), &Begun { uri })?.with_link(link))
}

/// Runs `count_documents` while the caller waits.
pub(super) async fn count(call: &Call, documents: &Documents, effects: &Effects) -> Result<Reply, Stop> {
    let CountArguments { delay_ms } = call.arguments()?;
    effects.record("archive", call).await?;
    for (shelf, done) in SHELVES.into_iter().zip([25.0, 50.0, 75.0, 100.0]) {
        call.pause(delay_ms).await?;
        call.progress(done, shelf).await;
    }
    counted(documents).await
}

/// Runs `count_documents` as a task that outlives the connection of the caller.
///
/// # Errors
/// When the arguments are not what they should be, or the effect cannot be recorded.
pub(super) async fn count_as_task(
    call: &Call,
    documents: &Documents,
    effects: &Effects,
    tasks: &TaskManager,
) -> Result<CallToolResponse, Stop> {
    let CountArguments { delay_ms } = call.arguments()?;
    effects.record("archive", call).await?;
    let documents = documents.clone();
    let options = TaskOptions::new().with_poll_interval_ms(POLL_MILLISECONDS).with_status_message(SHELVES[0]);
    let task = tasks.spawn(options, |task| {
        Box::pin(async move {
            for shelf in SHELVES {
                task.set_status_message(shelf);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
                    () = task.cancelled() => return Err(TaskExit::Cancelled),
                }
            }
            respond(counted(&documents).await).map_err(TaskExit::Error).and_then(|response| match response {
                CallToolResponse::Complete(result) => Ok(result),
                other => Err(TaskExit::Error(ErrorData::internal_error(format!("not a result: {other:?}"), None))),
            })
        })
    });
    Ok(CallToolResponse::Task(CreateTaskResult::new(task)))
}

async fn counted(documents: &Documents) -> Result<Reply, Stop> {
    let documents = documents.list().await?;
    let count = Count { documents: documents.len(), bytes: documents.iter().map(|document| document.bytes).sum() };
    Reply::new(format!("{} documents, {} bytes.", count.documents, count.bytes), &count)
}

impl From<DocumentError> for Stop {
    /// The caller can mend all of them: another size, another address, another directory.
    fn from(error: DocumentError) -> Self {
        Self::Failed(error.to_string())
    }
}
