//! A task in full.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use serde_json::Value;

use super::request_data::json_response;
use crate::model::TaskId;
use crate::serve::documents::task_json;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{ServeState, Shared, blocking};

/// Returns a task with its calls, exchanges, and output.
pub(super) async fn show(
    State(state): State<Shared>,
    Path((run, task)): Path<(String, String)>,
) -> Result<Response<Body>, PageApiError> {
    let task = blocking(&state, move |state| task_document(state, &run, &task.into()));
    json_response(StatusCode::OK, &task.await?)
}

fn task_document(state: &ServeState, name: &str, task: &TaskId) -> Result<Value, PageApiError> {
    let run = state.find_run(name)?;
    let settings = &state.settings;
    let is_part = |id: &TaskId| {
        let rest = id.as_str().strip_prefix(task.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let record = state.records.open(&run, &*settings.agents)?;
    let record = record.lock();
    let row = record.page.row(task).ok_or_else(|| {
        PageApiError::not_found("serve::unknown_task", format!("the run has no task `{task}`"))
            .with_help("the page of the run lists its tasks")
    })?;
    Ok(task_json(row, &record, &record.agent_output(is_part)))
}
