//! Two runs side by side.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};

use super::request_data::json_response;
use crate::journal::JournalReader;
use crate::model::RunId;
use crate::serve::documents::comparison_json;
use crate::serve::live::OpenPage;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{ServeState, Shared, blocking, now};
use crate::ui::history::RunDetails;

/// Compares two runs.
pub(super) async fn diff(
    State(state): State<Shared>,
    Path((first, second)): Path<(String, String)>,
) -> Result<Response<Body>, PageApiError> {
    let compared = blocking(&state, move |state| {
        let runs = [state.find_run(&first)?, state.find_run(&second)?];
        let pages = [open(state, &runs[0])?, open(state, &runs[1])?];
        let details = [details(&pages[0], &runs[0])?, details(&pages[1], &runs[1])?];
        Ok(comparison_json(pages.each_ref(), details.each_ref(), now()))
    });
    json_response(StatusCode::OK, &compared.await?)
}

/// Opens a page of its own, since two shared ones would be locked at once.
fn open(state: &ServeState, run: &RunId) -> Result<OpenPage, PageApiError> {
    let mut page = OpenPage::open(&*state.settings.store, run, &state.settings.content_root)?;
    page.update()?;
    Ok(page)
}

fn details(page: &OpenPage, run: &RunId) -> Result<RunDetails, PageApiError> {
    let reader: &dyn JournalReader = page.reader();
    let mut details = RunDetails::new(run, page.driver());
    for record in reader.records(run, 0) {
        details.apply(&record?);
    }
    Ok(details)
}
