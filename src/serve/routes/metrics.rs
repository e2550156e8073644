//! The metrics of the runs in the journal.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};

use super::listing;
use crate::serve::documents::metrics_text;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{Shared, blocking};

/// Returns the metrics in the text format of Prometheus.
pub(super) async fn metrics(State(state): State<Shared>) -> Result<Response<Body>, PageApiError> {
    let text = blocking(&state, |state| Ok(metrics_text(&listing::all(state)?))).await?;
    let mut response = Response::new(Body::from(text));
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media);
    Ok(response)
}
