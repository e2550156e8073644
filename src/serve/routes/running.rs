//! A run: its page, and its events.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use serde_json::json;

use super::request_data::{json_response, query_number, query_value};
use crate::serve::documents::snapshot_json;
use crate::serve::event_words::EventSelection;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{Shared, blocking, now};

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

/// Returns events of a run in words and as JSON, and the number of the last event that was looked at for them.
pub(super) async fn events(
    State(state): State<Shared>,
    Path(run): Path<String>,
    request: Request,
) -> Result<Response<Body>, PageApiError> {
    let limit = query_number(request.uri(), "limit")?.unwrap_or(DEFAULT_EVENTS).clamp(1, MAX_EVENTS);
    let selection = EventSelection {
        after: query_number(request.uri(), "after")?,
        limit: usize::try_from(limit).unwrap_or_default(),
        text: query_value(request.uri(), "text").map(|text| text.to_lowercase()),
    };
    let read = blocking(&state, move |state| {
        let run = state.find_run(&run)?;
        let reader = state.settings.store.open_reader()?;
        Ok(state.event_words.events(&*reader, &run, &selection)?)
    });
    let (events, last) = read.await?;
    json_response(StatusCode::OK, &json!({"events": events, "last": last}))
}
