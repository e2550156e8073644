//! The session of a page, and what the page needs to know of the server.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::request_data::{json_response, read_json};
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::Shared;

/// The token that a page found in its address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionBody {
    token: String,
}

/// Exchanges the token for the cookie of a session.
pub(super) async fn create(State(state): State<Shared>, request: Request) -> Result<Response<Body>, PageApiError> {
    let SessionBody { token } = read_json(request.into_body()).await?;
    let cookie = state.access.session_cookie(&token).ok_or_else(PageApiError::no_session)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(SET_COOKIE, HeaderValue::from_str(&cookie).map_err(PageApiError::internal)?);
    Ok(response)
}

/// Returns the version, and whether runs can be started.
pub(super) async fn info(State(state): State<Shared>) -> Result<Response<Body>, PageApiError> {
    let plans = state.settings.plans.as_ref();
    json_response(
        StatusCode::OK,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "can_start": plans.is_some(),
            "plans_dir": plans.map(|plans| plans.display().to_string()),
        }),
    )
}
