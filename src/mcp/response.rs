//! Reads HTTP responses: the message in one, or why there is none.
//! Never sends a request.

use std::time::Duration;

use futures::StreamExt as _;
use http::{StatusCode, header::RETRY_AFTER};
use rmcp::{
    model::{ErrorData, JsonRpcError, JsonRpcMessage, JsonRpcResponse, RequestId, ServerJsonRpcMessage},
    transport::streamable_http_client::StreamableHttpError,
};
use serde_json::Value;

use super::{
    LARGEST_MESSAGE,
    calls::{Answer, normal},
    codec::{self, Incoming},
    raw,
};

/// Bytes of an error's body that are read.
const LARGEST_ERROR: usize = 64 * 1024;
/// A body of this size is parsed on another thread.
pub(super) const LARGE_BODY: usize = 1024 * 1024;

/// Why a request has no usable response.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No connection to the server: the request was not sent.
    #[error("no connection: {}", root(.0))]
    Connect(#[source] reqwest::Error),
    /// The server's certificate was not accepted, or TLS failed otherwise: the request was not sent.
    #[error("no TLS connection: {}", root(.0))]
    Tls(#[source] reqwest::Error),
    /// The server speaks HTTP+SSE of 2024-11-05, which Streamable HTTP has replaced.
    #[error("the server speaks the older HTTP+SSE transport of 2024-11-05, which kapell does not speak")]
    OldTransport,
    /// The request could not be built.
    #[error("the request is not valid: {}", root(.0))]
    Build(#[source] reqwest::Error),
    /// A redirect that is not followed.
    #[error("the server redirects to {}", root(.0))]
    Redirect(#[source] reqwest::Error),
    /// The connection broke: the request may have been handled.
    #[error("the connection broke: {}", root(.0))]
    Broken(#[source] reqwest::Error),
    /// Any other status than success.
    #[error("HTTP {status}{}", shown(.body))]
    Status {
        /// The status.
        status: StatusCode,
        /// The body, or the beginning of it.
        body: String,
        /// The JSON-RPC error in the body, if it is one.
        error: Option<Box<ErrorData>>,
        /// Whether the request belonged to a session.
        in_session: bool,
        /// The `Retry-After` header.
        retry_after: Option<String>,
    },
    /// The body is larger than what is read.
    #[error("the response is larger than {} MiB", LARGEST_MESSAGE / (1024 * 1024))]
    TooLarge,
    /// A body that is no answer to the request.
    #[error("the response is not MCP: {0}")]
    NotMcp(String),
}

impl From<HttpError> for StreamableHttpError<HttpError> {
    fn from(error: HttpError) -> Self {
        Self::Client(error)
    }
}

impl HttpError {
    /// What came of a request that has no response.
    pub(super) fn sending(error: reqwest::Error) -> Self {
        // A URL can hold secrets.
        let error = error.without_url();
        if error.is_connect() && is_tls(&error) {
            Self::Tls(error)
        } else if error.is_connect() {
            Self::Connect(error)
        } else if error.is_builder() {
            Self::Build(error)
        } else if error.is_redirect() {
            Self::Redirect(error)
        } else {
            Self::Broken(error)
        }
    }

    /// Returns how long the server asks to wait before the next request.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after: Some(text), .. } => retry_after(text, jiff::Timestamp::now()),
            _ => None,
        }
    }

    /// Whether the server says that it has no such session (any more).
    pub(super) fn forgot_session(&self) -> bool {
        match self {
            Self::Status { status, body, in_session: true, .. } => match *status {
                StatusCode::NOT_FOUND => true,
                StatusCode::BAD_REQUEST => body.to_ascii_lowercase().contains("session"),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Reads a `Retry-After` header: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// Whether connecting failed in TLS: neither the library nor its client has a type for that.
fn is_tls(error: &reqwest::Error) -> bool {
    let said = root(error);
    ["certificate", "TLS", "UnknownIssuer", "CorruptMessage", "InvalidContentType", "fatal alert"]
        .iter()
        .any(|sign| said.contains(sign))
}

/// The last cause of an error, which says the most.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn shown(body: &str) -> String {
    let mut text = body.split_whitespace().collect::<Vec<_>>().join(" ");
    super::truncate(&mut text, 300);
    if text.is_empty() { text } else { format!(": {text}") }
}

/// A header of the response, if it is text.
pub(super) fn header(response: &reqwest::Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Reads a response that is no success.
pub(super) async fn refusal(response: reqwest::Response, in_session: bool) -> HttpError {
    let status = response.status();
    let retry_after = header(&response, RETRY_AFTER.as_str());
    let body = read(response, LARGEST_ERROR).await.unwrap_or_default();
    let error = serde_json::from_slice::<Value>(&body).ok().and_then(|body| {
        let error = body.get("error")?;
        error.get("code")?.as_i64().and_then(|_| serde_json::from_value(error.clone()).ok().map(Box::new))
    });
    let body = String::from_utf8_lossy(&body).into_owned();
    HttpError::Status { status, body, error, in_session, retry_after }
}

/// Reads the body, up to `limit` bytes.
///
/// # Errors
/// When it is larger, or breaks off.
pub(super) async fn read(response: reqwest::Response, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| HttpError::Broken(error.without_url()))?;
        if body.len() + chunk.len() > limit {
            return Err(HttpError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads the answer to `request`. One without an id can only be this one's; rmcp would drop it and wait for ever.
///
/// # Errors
/// When it is no answer, or another request's.
pub(super) async fn answer(body: Vec<u8>, request: &RequestId) -> Result<ServerJsonRpcMessage, HttpError> {
    let parse = |body: &[u8]| {
        serde_json::from_slice::<ServerJsonRpcMessage>(&raw::save(body)).map_err(|error| not_mcp(&error, body))
    };
    let mut message = if body.len() < LARGE_BODY {
        parse(&body)?
    } else {
        let parsed = tokio::task::spawn_blocking(move || parse(&body)).await;
        parsed.map_err(|error| HttpError::NotMcp(error.to_string()))??
    };
    let id = match &mut message {
        JsonRpcMessage::Response(response) => &response.id,
        JsonRpcMessage::Error(error) => error.id.get_or_insert_with(|| request.clone()),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => {
            return Err(no_response());
        }
    };
    if normal(id) == *request { Ok(message) } else { Err(of_another(id)) }
}

/// Reads the answer to the request of a call.
///
/// # Errors
/// As [`answer`].
pub(super) async fn answer_to_call(body: Vec<u8>, request: i64) -> Result<Answer, HttpError> {
    let parse = move |body: &[u8]| {
        let text = std::str::from_utf8(body).map_err(|error| not_mcp(&error, body))?;
        codec::read(text, |id| id == request).map_err(|error| not_mcp(&error, body))
    };
    let incoming = if body.len() < LARGE_BODY {
        parse(&body)?
    } else {
        let parsed = tokio::task::spawn_blocking(move || parse(&body)).await;
        parsed.map_err(|error| HttpError::NotMcp(error.to_string()))??
    };
    match incoming {
        Incoming::Answer(_, answer) => Ok(answer),
        Incoming::BadAnswer(_, reason) => Err(HttpError::NotMcp(reason)),
        Incoming::Progress(..) | Incoming::Log(_) => Err(no_response()),
        Incoming::Message(message) => match *message {
            JsonRpcMessage::Error(JsonRpcError { id: None, error, .. }) => Ok(Answer::Error(error)),
            JsonRpcMessage::Error(JsonRpcError { id: Some(id), .. })
            | JsonRpcMessage::Response(JsonRpcResponse { id, .. }) => Err(of_another(&id)),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => Err(no_response()),
        },
    }
}

fn not_mcp(error: &dyn std::fmt::Display, body: &[u8]) -> HttpError {
    HttpError::NotMcp(format!("{error}{}", shown(&String::from_utf8_lossy(&body[..body.len().min(300)]))))
}

fn no_response() -> HttpError {
    HttpError::NotMcp("it is no response".to_owned())
}

fn of_another(request: &RequestId) -> HttpError {
    HttpError::NotMcp(format!("it answers request `{request}`, which is another one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_retry_after() {
        let now = "2026-11-20T10:00:00Z".parse().unwrap();
        let seconds = |text| retry_after(text, now).map(|wait| wait.as_secs_f64());
        assert_eq!(seconds("4"), Some(4.0));
        assert_eq!(seconds(" 0.5 "), Some(0.5));
        assert_eq!(seconds("Fri, 20 Nov 2026 10:00:30 GMT"), Some(30.0));
        assert_eq!(seconds("Fri, 20 Nov 2026 09:00:00 GMT"), Some(0.0));
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
        assert_eq!(seconds("NaN"), None);
    }
}
