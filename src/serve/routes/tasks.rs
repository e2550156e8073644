//! A task in full.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use serde_json::Value;

use super::request_data::json_response;
use crate::engine::{self, Run};
use crate::model::{AgentId, Record, RunId, TaskId, Timestamp};
use crate::runtime::{self, ContentStore};
use crate::serve::api_error::ApiError;
use crate::serve::documents::{TaskSources, task_json};
use crate::serve::state::{ServeState, Shared, blocking};
use crate::view::page::RunPage;

/// Returns a task with its calls, exchanges, and output.
pub(super) async fn show(
    State(state): State<Shared>,
    Path((run, task)): Path<(String, String)>,
) -> Result<Response<Body>, ApiError> {
    let task = blocking(&state, move |state| task_document(state, &run, &task.into()));
    json_response(StatusCode::OK, &task.await?)
}

fn task_document(state: &ServeState, name: &str, task: &TaskId) -> Result<Value, ApiError> {
    let run = state.find_run(name)?;
    let sources = read_sources(state, &run, task)?;
    // A page of its own: the shared one does not have the large contents of results.
    let mut page = RunPage::new(&run);
    sources.records.iter().for_each(|record| page.apply(record));
    let row = page.row(task).ok_or_else(|| {
        ApiError::not_found("serve::unknown_task", format!("the run has no task `{task}`"))
            .with_help("the page of the run lists its tasks")
    })?;
    Ok(task_json(&page, row, &sources))
}

fn read_sources(state: &ServeState, run: &RunId, task: &TaskId) -> Result<TaskSources, ApiError> {
    let reader = state.settings.store.open_reader()?;
    let mut records: Vec<Record> = reader.records(run, 0).collect::<Result<_, _>>()?;
    let contents = ContentStore::new(&state.settings.content_root, run, None);
    for record in &mut records {
        if let Err(error) = contents.restore_results(record) {
            tracing::warn!(%error, "a result is shown without its contents");
        }
    }
    let calls = engine::sent_calls(&records).map_err(ApiError::internal)?;
    let secrets = match Run::fold(&records) {
        Ok(folded) => state.settings.agents.of_run(&folded).secrets,
        Err(error) => return Err(ApiError::internal(error)),
    };
    let own = |id: &TaskId| {
        id.as_str().strip_prefix(task.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let start = records.first().map_or(Timestamp::default(), |record| record.at);
    let mut stderr: HashMap<AgentId, Vec<(Timestamp, String)>> = HashMap::new();
    for call in calls.iter().filter(|call| own(&call.attempt.task)) {
        if !stderr.contains_key(&call.agent) {
            stderr.insert(call.agent.clone(), runtime::agent_stderr(&call.agent, start).unwrap_or_default());
        }
    }
    Ok(TaskSources { records, calls, secrets, stderr })
}
