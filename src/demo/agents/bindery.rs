//! The bindery agent: works in the background, as a job that the caller polls or as a task.

use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult, Resource, Tool, ToolAnnotations};
use rmcp::task_manager::{TaskExit, TaskManager, TaskOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::Documents;
use super::jobs::{JobRequest, Jobs};
use crate::demo::call::{DemoCall, ToolStop, describe_tool, into_response, tool_result};
use crate::demo::effects::EffectLog;

/// The shelves that counting reports as its progress.
const SHELVES: [&str; 4] = ["the lower shelf", "the middle shelf", "the upper shelf", "the table"];
/// The poll interval of a task that the host is asked to use, in milliseconds.
const POLL_INTERVAL_MS: u64 = 100;

/// The volume to bind.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BindArguments {
    /// The title of the volume.
    #[schemars(length(min = 1))]
    title: String,
    /// The duration of the job in milliseconds. Defaults to 2000.
    #[serde(default = "default_binding")]
    delay_ms: u64,
    /// Whether the job fails because the binder runs out of thread. Defaults to false.
    #[serde(default)]
    fails: bool,
}

fn default_binding() -> u64 {
    2_000
}

/// The started job.
#[derive(Debug, Serialize, JsonSchema)]
struct StartedJob {
    /// The URI of a resource with the progress of the job. Its `status` is `working`, `completed` or `failed`.
    uri: String,
}

/// The way to count the documents.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountArguments {
    /// The delay before each shelf, in milliseconds. Defaults to 100.
    #[serde(default = "default_counting")]
    delay_ms: u64,
}

fn default_counting() -> u64 {
    100
}

/// The number and the size of the documents.
#[derive(Debug, Serialize, JsonSchema)]
struct DocumentCount {
    /// The number of documents.
    documents: usize,
    /// The total size of the documents in bytes.
    bytes: u64,
}

/// Returns the tools of the agent.
pub(crate) fn tools() -> Vec<Tool> {
    let annotations = ToolAnnotations::new().read_only(false).destructive(false).idempotent(false);
    vec![
        describe_tool::<BindArguments, StartedJob>(
            "bind_documents",
            "Bind the documents",
            "Binds the documents into a volume, which takes some time. Returns immediately, with a link to a resource \
             that reports the progress.",
            annotations.clone(),
        ),
        describe_tool::<CountArguments, DocumentCount>(
            "count_documents",
            "Count the documents",
            "Counts the documents, shelf by shelf. Runs as a task if the host supports tasks.",
            annotations,
        ),
    ]
}

/// Executes `bind_documents`.
pub(crate) async fn bind(call: &DemoCall, jobs: &Jobs, effects: &EffectLog) -> Result<CallToolResult, ToolStop> {
    let BindArguments { title, delay_ms, fails } = call.arguments()?;
    let request = JobRequest { title: title.clone(), duration: Duration::from_millis(delay_ms), fails };
    effects.record(call).await?;
    let uri = jobs.start(request).await?;
    let link = Resource::new(uri.clone(), title.clone()).with_mime_type("application/json");
    let mut result = tool_result(format!("Started binding `{title}`."), &StartedJob { uri })?;
    result.content.push(ContentBlock::resource_link(link));
    Ok(result)
}

/// Executes `count_documents` while the caller waits.
pub(crate) async fn count(
    call: &DemoCall,
    documents: &Documents,
    effects: &EffectLog,
) -> Result<CallToolResult, ToolStop> {
    let CountArguments { delay_ms } = call.arguments()?;
    effects.record(call).await?;
    for (shelf, done) in SHELVES.into_iter().zip([25.0, 50.0, 75.0, 100.0]) {
        call.pause(delay_ms).await?;
        call.progress(done, shelf).await;
    }
    count_all(documents).await
}

/// Executes `count_documents` as a task that outlives the caller's connection.
///
/// # Errors
/// Returns an error if the arguments are invalid or the effect cannot be recorded.
pub(crate) async fn count_as_task(
    call: &DemoCall,
    documents: &Documents,
    effects: &EffectLog,
    tasks: &TaskManager,
) -> Result<CallToolResponse, ToolStop> {
    let CountArguments { delay_ms } = call.arguments()?;
    effects.record(call).await?;
    let documents = documents.clone();
    let options = TaskOptions::new().with_poll_interval_ms(POLL_INTERVAL_MS).with_status_message(SHELVES[0]);
    let task = tasks.spawn(options, |task| {
        Box::pin(async move {
            for shelf in SHELVES {
                task.set_status_message(shelf);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
                    () = task.cancelled() => return Err(TaskExit::Cancelled),
                }
            }
            into_response(count_all(&documents).await).map_err(TaskExit::Error).and_then(|response| match response {
                CallToolResponse::Complete(result) => Ok(result),
                other => Err(TaskExit::Error(ErrorData::internal_error(format!("not a result: {other:?}"), None))),
            })
        })
    });
    Ok(CallToolResponse::Task(CreateTaskResult::new(task)))
}

async fn count_all(documents: &Documents) -> Result<CallToolResult, ToolStop> {
    let documents = documents.list().await?;
    let count =
        DocumentCount { documents: documents.len(), bytes: documents.iter().map(|document| document.bytes).sum() };
    tool_result(format!("{} documents, {} bytes.", count.documents, count.bytes), &count)
}
