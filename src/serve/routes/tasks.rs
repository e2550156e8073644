//! A task in full.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::request_data::{json_response, query_value};
use crate::model::{TaskId, ToolOutput};
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

/// Returns the IDs of the tasks whose output contains a text, in any case.
pub(super) async fn search(
    State(state): State<Shared>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Response<Body>, PageApiError> {
    let text = query_value(request.uri(), "output").map(|text| text.to_lowercase()).ok_or_else(|| {
        PageApiError::bad_request("serve::invalid_query", "`output` must be a text", "`?output=TEXT` searches for TEXT")
    })?;
    let found = blocking(&state, move |state| tasks_with_output(state, &run, &text));
    json_response(StatusCode::OK, &json!({"tasks": found.await?}))
}

fn tasks_with_output(state: &ServeState, name: &str, text: &str) -> Result<Vec<TaskId>, PageApiError> {
    let run = state.find_run(name)?;
    let record = state.records.open(&run, &*state.settings.agents)?;
    let record = record.lock();
    let output = |id: &TaskId| record.page.view().task_result(id)?.output.as_ref();
    let rows = record.page.rows().filter(|row| output(&row.id).is_some_and(|output| has_text(output, text)));
    Ok(rows.map(|row| row.id.clone()).collect())
}

fn has_text(output: &ToolOutput, text: &str) -> bool {
    let structured = || output.structured.as_ref().map(ToString::to_string).unwrap_or_default();
    output.text().to_lowercase().contains(text) || structured().to_lowercase().contains(text)
}
