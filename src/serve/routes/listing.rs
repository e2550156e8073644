//! The list of runs.

use std::ops::RangeInclusive;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, Uri};
use serde_json::json;

use super::request_data::{json_response, query_number, query_value, query_values};
use crate::journal::{RunFilter, RunSummary};
use crate::model::RunStatus;
use crate::serve::live::ListEntry;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{ServeState, Shared, blocking};

/// The number of runs of a list, unless the request says otherwise, and the maximum.
const DEFAULT_RUNS: usize = 50;
const MAX_RUNS: usize = 500;
/// The maximum number of runs that are searched.
const MAX_SEARCHED_RUNS: usize = 20_000;

/// A selection of runs, from the query of an address.
struct Selection {
    filter: RunFilter,
    /// A text in the plan, the goal, or the ID, in lowercase.
    text: Option<String>,
    /// The first and the last start, in milliseconds since the Unix epoch.
    started: RangeInclusive<u64>,
    /// The run after which the list begins.
    before: Option<String>,
    limit: usize,
}

impl Selection {
    fn read(uri: &Uri) -> Result<Self, PageApiError> {
        let names =
            query_values(uri, "status").flat_map(|names| names.split(',').map(str::to_owned).collect::<Vec<_>>());
        let statuses = names.filter(|name| !name.is_empty()).map(|name| {
            serde_json::from_value::<RunStatus>(name.clone().into()).map_err(|_| {
                PageApiError::bad_request(
                    "serve::invalid_query",
                    format!("unknown status `{name}`"),
                    "running, paused, interrupted, succeeded, partial, failed, and cancelled are known",
                )
            })
        });
        let limit = query_number(uri, "limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(DEFAULT_RUNS);
        Ok(Self {
            filter: RunFilter { plan: query_value(uri, "plan"), statuses: statuses.collect::<Result<_, _>>()? },
            text: query_value(uri, "text").map(|text| text.to_lowercase()),
            started: query_number(uri, "since")?.unwrap_or(0)..=query_number(uri, "until")?.unwrap_or(u64::MAX),
            before: query_value(uri, "before"),
            limit: limit.clamp(1, MAX_RUNS),
        })
    }

    /// Returns the runs, latest first, and whether there are more.
    fn runs(&self, state: &ServeState) -> Result<(Vec<ListEntry>, bool), PageApiError> {
        let Some(reader) = state.reader()? else { return Ok((Vec::new(), false)) };
        let is_simple = self.text.is_none() && self.before.is_none() && self.started == (0..=u64::MAX);
        let read = if is_simple { self.limit + 1 } else { MAX_SEARCHED_RUNS };
        let summaries = reader.filtered_runs(&self.filter, read)?;
        let start = match &self.before {
            None => 0,
            Some(before) => summaries.iter().position(|run| run.run.as_str() == before).map_or(0, |place| place + 1),
        };
        let mut found = Vec::new();
        for summary in summaries[start..].iter().filter(|run| self.started.contains(&run.started.0)) {
            let Some(entry) = self.entry(summary, state) else { continue };
            if found.len() == self.limit {
                return Ok((found, true));
            }
            found.push(entry);
        }
        Ok((found, false))
    }

    fn entry(&self, summary: &RunSummary, state: &ServeState) -> Option<ListEntry> {
        let Some(text) = &self.text else { return Some(state.entries.entry(summary, &state.pages)) };
        let has_text = |of: &str| of.to_lowercase().contains(text);
        if has_text(&summary.name) || has_text(summary.run.as_str()) {
            return Some(state.entries.entry(summary, &state.pages));
        }
        let entry = state.entries.entry(summary, &state.pages);
        entry.goal.as_deref().is_some_and(has_text).then_some(entry)
    }
}

/// Returns the runs that match, latest first.
pub(super) async fn list(State(state): State<Shared>, request: Request) -> Result<Response<Body>, PageApiError> {
    let selection = Selection::read(request.uri())?;
    let (runs, more) = blocking(&state, move |state| selection.runs(state)).await?;
    json_response(StatusCode::OK, &json!({"runs": runs, "more": more}))
}

/// Returns the latest runs, for a stream of their changes.
pub(super) fn latest(state: &ServeState) -> Result<Vec<ListEntry>, PageApiError> {
    let selection = Selection {
        filter: RunFilter::default(),
        text: None,
        started: 0..=u64::MAX,
        before: None,
        limit: DEFAULT_RUNS,
    };
    Ok(selection.runs(state)?.0)
}

/// Returns all runs of the journal.
pub(super) fn all(state: &ServeState) -> Result<Vec<ListEntry>, PageApiError> {
    let Some(reader) = state.reader()? else { return Ok(Vec::new()) };
    let summaries = reader.runs(MAX_SEARCHED_RUNS)?;
    Ok(summaries.iter().map(|summary| state.entries.entry(summary, &state.pages)).collect())
}
