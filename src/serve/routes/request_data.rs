//! Reads the query and the body of a request, within limits.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use crate::serve::page_api_error::PageApiError;

/// The maximum size of the body of a request.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Returns the values of a name in the query of an address.
pub(super) fn query_values<'u>(uri: &'u Uri, name: &'u str) -> impl Iterator<Item = String> + 'u {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.filter(move |(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Returns the first value of a name in the query of an address, unless it is empty.
pub(super) fn query_value(uri: &Uri, name: &str) -> Option<String> {
    query_values(uri, name).next().filter(|value| !value.is_empty())
}

/// Returns a number in the query of an address.
///
/// # Errors
/// Fails if the value is not one.
pub(super) fn query_number(uri: &Uri, name: &str) -> Result<Option<u64>, PageApiError> {
    let Some(text) = query_value(uri, name) else { return Ok(None) };
    let number = text.parse().map_err(|_| {
        PageApiError::bad_request(
            "serve::invalid_query",
            format!("`{name}` must be a whole number"),
            "correct the address",
        )
    })?;
    Ok(Some(number))
}

/// Reads the JSON of a body. An empty body is `{}`.
///
/// # Errors
/// Fails if the body is too large, or is not the JSON that is expected.
pub(super) async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, PageApiError> {
    let bytes: Bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        PageApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "serve::body_too_large", "the body has more than 1 MiB")
    })?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        PageApiError::bad_request(
            "serve::invalid_body",
            format!("invalid JSON in the body: {error}"),
            "`/api/openapi.json` describes the body",
        )
    })
}

/// Returns a response with JSON.
pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> Result<Response<Body>, PageApiError> {
    let text = serde_json::to_string(value).map_err(PageApiError::internal)?;
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
