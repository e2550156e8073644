//! The plans that can be started.

use std::fs;
use std::path::{Path as FilePath, PathBuf};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::request_data::json_response;
use crate::config;
use crate::model::Plan;
use crate::serve::documents::plan_json;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{ServeState, Shared, blocking};
use crate::view::text::{printable, printable_text};

/// The maximum number of plans that are listed.
const MAX_PLANS: usize = 500;

/// Returns the plans of the directory.
pub(super) async fn list(State(state): State<Shared>) -> Result<Response<Body>, PageApiError> {
    let plans = blocking(&state, |state| {
        let Some(directory) = &state.settings.plans else { return Ok(Vec::new()) };
        Ok(files(directory)?.iter().map(|file| entry_json(state, directory, file)).collect())
    });
    json_response(StatusCode::OK, &json!({"plans": plans.await?}))
}

/// Returns a plan with the form of its inputs and its graph.
pub(super) async fn show(
    State(state): State<Shared>,
    Path(file): Path<String>,
) -> Result<Response<Body>, PageApiError> {
    let plan = blocking(&state, move |state| {
        let path = plan_path(state, &file)?;
        Ok(plan_json(&file, &load(state, &path)?))
    });
    json_response(StatusCode::OK, &plan.await?)
}

/// Returns the directory with the plans.
pub(super) fn plans_directory(state: &ServeState) -> Result<&FilePath, PageApiError> {
    state.settings.plans.as_deref().ok_or_else(|| {
        PageApiError::new(StatusCode::CONFLICT, "serve::no_plans", "this server starts no plans")
            .with_help("`kapell serve --plans DIR` names the directory with the plans")
    })
}

/// Returns the path of a plan. Only the files of the list have one, so that no other file can be named.
pub(super) fn plan_path(state: &ServeState, file: &str) -> Result<PathBuf, PageApiError> {
    let directory = plans_directory(state)?;
    match files(directory)?.iter().any(|known| known == file) {
        true => Ok(directory.join(file)),
        false => Err(PageApiError::not_found("serve::unknown_plan", format!("unknown plan `{}`", printable(file)))),
    }
}

/// Reads a plan.
pub(super) fn load(state: &ServeState, path: &FilePath) -> Result<Plan, PageApiError> {
    read(state, path).map_err(|problem| {
        PageApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "serve::invalid_plan", printable_text(&problem))
    })
}

fn read(state: &ServeState, path: &FilePath) -> Result<Plan, String> {
    let shown = path.display().to_string();
    let text = config::read_text(path).map_err(|diagnostics| diagnostics.to_string())?;
    let loaded = match state.settings.agents.of_plan(path)? {
        Some(agents) => config::load_plan(&shown, &text, &agents, None),
        None => config::load_plan_without_agents(&shown, &text),
    };
    let validated = loaded.map_err(|diagnostics| {
        let lines = diagnostics.list().iter().map(|diagnostic| diagnostic.message.clone());
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(validated.plan)
}

/// Returns the names of the plan files of a directory, sorted.
fn files(directory: &FilePath) -> Result<Vec<String>, PageApiError> {
    let entries = fs::read_dir(directory).map_err(|error| {
        PageApiError::internal(format_args!("cannot read the directory of plans `{}`: {error}", directory.display()))
    })?;
    let names = entries
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut plans: Vec<String> =
        names.filter(|name| !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"))).collect();
    plans.sort_unstable();
    plans.truncate(MAX_PLANS);
    Ok(plans)
}

fn entry_json(state: &ServeState, directory: &FilePath, file: &str) -> Value {
    match read(state, &directory.join(file)) {
        Ok(plan) => {
            let mut object = json!({"file": file, "name": printable(&plan.name)});
            if let Some(description) = &plan.description {
                object["description"] = printable_text(description).into();
            }
            if let Some(schedule) = &plan.schedule {
                object["schedule"] = json!(schedule);
            }
            object
        }
        Err(problem) => json!({"file": file, "name": file, "error": printable_text(&problem)}),
    }
}
