//! A run: its page, and its events.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use super::request_data::{json_response, query_number};
use crate::journal::JournalReader;
use crate::model::RunId;
use crate::serve::documents::{event_json, snapshot_json};
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{Shared, blocking, now};
use crate::view::RunView;

/// The number of events of a page, unless the request says otherwise, and the maximum.
const DEFAULT_EVENTS: u64 = 500;
const MAX_EVENTS: u64 = 2_000;

/// Returns the page of a run.
pub(super) async fn show(State(state): State<Shared>, Path(run): Path<String>) -> Result<Response<Body>, PageApiError> {
    let page = blocking(&state, move |state| {
        let (_, page) = state.open(&run)?;
        let page = page.lock();
        Ok(snapshot_json(&page, now()))
    });
    json_response(StatusCode::OK, &page.await?)
}

/// Returns events of a run in words and as JSON.
pub(super) async fn events(
    State(state): State<Shared>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Response<Body>, PageApiError> {
    let after = query_number(request.uri(), "after")?;
    let limit = query_number(request.uri(), "limit")?.unwrap_or(DEFAULT_EVENTS).clamp(1, MAX_EVENTS);
    let events = blocking(&state, move |state| {
        let run = state.find_run(&run)?;
        let reader = state.settings.store.open_reader()?;
        events_json(&*reader, &run, (after, limit))
    });
    json_response(StatusCode::OK, &json!({"events": events.await?}))
}

/// Returns at most `limit` events after the event `after`. The words about an event depend on those before it.
fn events_json(
    reader: &dyn JournalReader,
    run: &RunId,
    (after, limit): (Option<u64>, u64),
) -> Result<Vec<Value>, PageApiError> {
    let mut view = RunView::new(run);
    let mut events = Vec::new();
    for record in reader.records(run, 0) {
        let record = record?;
        if after.is_none_or(|after| record.seq > after) {
            events.push(event_json(&view, &record));
            if events.len() as u64 == limit {
                break;
            }
        }
        view.apply(&record);
    }
    Ok(events)
}
