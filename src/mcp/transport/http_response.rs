//! Reads HTTP responses: the message in the body, or the reason that there is none.

use std::time::Duration;

use futures::StreamExt as _;
use http::StatusCode;
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use rmcp::model::{ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::StreamableHttpError;
use serde_json::Value;

use crate::mcp::auth::error::AuthorizationError;
use crate::mcp::message::codec::{self, Incoming, PendingRequests, SingleRequest};
use crate::mcp::message::{failure, lenient_json};
use crate::model::text::{root_cause, truncate_bytes};
use crate::system::clock;

/// The media type of an event stream.
pub(crate) const EVENT_STREAM_TYPE: &str = "text/event-stream";
/// The media type of JSON.
pub(crate) const JSON_TYPE: &str = "application/json";
/// The maximum number of bytes that are read from the body of an error.
pub(super) const MAX_ERROR_BYTES: usize = 64 * 1024;
/// The size from which a body is parsed on another thread.
const LARGE_BODY_BYTES: usize = 1024 * 1024;

/// The reason that a request has no usable response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No connection to the server: the request was not sent.
    #[error("no connection: {}", root_cause(.0))]
    Connect(#[source] reqwest::Error),
    /// The server's certificate was not accepted, or TLS failed otherwise: the request was not sent.
    #[error("no TLS connection: {}", root_cause(.0))]
    Tls(#[source] reqwest::Error),
    /// The server refused `initialize`, and speaks HTTP+SSE of 2024-11-05, which Streamable HTTP has replaced.
    #[error("the server uses the HTTP+SSE transport of 2024-11-05")]
    HttpSse,
    /// The request could not be built.
    #[error("the request is not valid: {}", root_cause(.0))]
    Build(#[source] reqwest::Error),
    /// A redirect that is not followed.
    #[error("the server redirects to {}", root_cause(.0))]
    Redirect(#[source] reqwest::Error),
    /// The connection broke: the request may have been handled.
    #[error("the connection was lost: {}", root_cause(.0))]
    Disconnected(#[source] reqwest::Error),
    /// The server requires a token that the host lacks: the request was not handled.
    #[error("{0}")]
    Authorization(AuthorizationError),
    /// A status that is not a success.
    #[error("HTTP {status}{}", body_excerpt(.body))]
    Status {
        status: StatusCode,
        /// The body; empty if it exceeds [`MAX_ERROR_BYTES`] or breaks off.
        body: String,
        /// The JSON-RPC error in the body, if any.
        error: Option<Box<ErrorData>>,
        /// True if the request belonged to a session.
        in_session: bool,
        /// The delay that the `Retry-After` header requests.
        retry_after: Option<Duration>,
    },
    /// The body exceeds the size limit.
    #[error("the response is larger than {}", failure::display_bytes(*.max_bytes))]
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// The body is not a response to the request.
    #[error("the response is not MCP: {0}")]
    NotMcp(String),
}

impl HttpError {
    /// Returns whether the connection failed or broke.
    pub(super) fn is_connection_lost(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Disconnected(_))
    }
}

impl From<AuthorizationError> for HttpError {
    fn from(error: AuthorizationError) -> Self {
        Self::Authorization(error)
    }
}

impl From<HttpError> for StreamableHttpError<HttpError> {
    fn from(error: HttpError) -> Self {
        Self::Client(error)
    }
}

impl HttpError {
    /// Classifies the error of a request that has no response.
    pub(crate) fn from_send_error(error: reqwest::Error) -> Self {
        // A URL can contain secrets.
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
            Self::Disconnected(error)
        }
    }

    /// Returns whether the response means that the session does not exist, or no longer exists.
    pub(crate) fn is_session_expired(&self) -> bool {
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

/// Returns whether connecting failed in TLS. Neither reqwest nor hyper has a type for that.
fn is_tls(error: &reqwest::Error) -> bool {
    let cause = root_cause(error);
    ["certificate", "TLS", "UnknownIssuer", "CorruptMessage", "InvalidContentType", "fatal alert"]
        .iter()
        .any(|sign| cause.contains(sign))
}

fn body_excerpt(body: &str) -> String {
    let mut text = body.split_whitespace().collect::<Vec<_>>().join(" ");
    truncate_bytes(&mut text, 300);
    if text.is_empty() { text } else { format!(": {text}") }
}

/// Returns a header of the response, if it is text.
pub(crate) fn header(response: &reqwest::Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Reads a response with an error status.
pub(crate) async fn error_from_response(response: reqwest::Response, in_session: bool) -> HttpError {
    let status = response.status();
    let retry_after = header(&response, RETRY_AFTER.as_str());
    let retry_after =
        retry_after.and_then(|delay| clock::retry_after(&delay, header(&response, DATE.as_str()).as_deref()));
    let body = read_body(response, MAX_ERROR_BYTES).await.unwrap_or_default();
    let body = lenient_json::decode(&body).into_owned();
    let error = lenient_json::parse_value(&body).ok().and_then(|mut body| {
        let error = body.get_mut("error").map(Value::take)?;
        error.get("code")?.as_i64().map(|_| Box::new(codec::error_from_json(error)))
    });
    HttpError::Status { status, body, error, in_session, retry_after }
}

/// Reads the body, up to `limit` bytes.
///
/// # Errors
/// Returns an error if the body is larger or breaks off.
pub(crate) async fn read_body(response: reqwest::Response, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| HttpError::Disconnected(error.without_url()))?;
        if body.len() + chunk.len() > limit {
            return Err(HttpError::TooLarge { max_bytes: limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The type of a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyType {
    /// A JSON text.
    Json,
    /// An event stream.
    Events,
}

/// Detects the type of a response body by its media type, or by its first bytes if the media type is missing or
/// unknown. Returns it with the complete response.
///
/// # Errors
/// Returns an error if the body is neither JSON nor an event stream.
pub(crate) async fn sniff_body(response: reqwest::Response) -> Result<(BodyType, reqwest::Response), HttpError> {
    let content_type = header(&response, CONTENT_TYPE.as_str()).unwrap_or_default();
    match media_type(&content_type).as_str() {
        EVENT_STREAM_TYPE => return Ok((BodyType::Events, response)),
        media_type if is_json(media_type) => return Ok((BodyType::Json, response)),
        _ => {}
    }
    let (response_head, body) = http::Response::from(response).into_parts();
    let mut chunks = reqwest::Response::from(http::Response::new(body)).bytes_stream();
    let mut head = Vec::new();
    let sniffed = loop {
        if let Some(sniffed) = sniff(&head) {
            break sniffed;
        }
        let chunk = chunks.next().await.ok_or_else(|| HttpError::NotMcp("its body is empty".to_owned()))?;
        head.extend_from_slice(&chunk.map_err(|error| HttpError::Disconnected(error.without_url()))?);
    };
    let body_type = sniffed.ok_or_else(|| match content_type.as_str() {
        "" => HttpError::NotMcp("it is neither JSON nor a stream of events".to_owned()),
        content_type => HttpError::NotMcp(format!("its content type is `{content_type}`")),
    })?;
    let head = futures::stream::iter([Ok::<_, reqwest::Error>(bytes::Bytes::from(head))]);
    let body = reqwest::Body::wrap_stream(head.chain(chunks));
    Ok((body_type, http::Response::from_parts(response_head, body).into()))
}

/// Returns the media type of a `Content-Type` header, without parameters and in lower case.
pub(crate) fn media_type(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns whether the media type is one of JSON.
pub(crate) fn is_json(media_type: &str) -> bool {
    matches!(media_type, JSON_TYPE | "text/json" | "application/x-json") || media_type.ends_with("+json")
}

/// Detects the type of a body that starts with `head`, which is `Some(None)` if it is neither. Returns `None` while
/// more bytes are needed.
fn sniff(head: &[u8]) -> Option<Option<BodyType>> {
    const BOM: &[u8] = b"\xEF\xBB\xBF";
    let head = head.strip_prefix(BOM).unwrap_or(head).trim_ascii_start();
    match head.first()? {
        b'{' | b'[' => return Some(Some(BodyType::Json)),
        b':' => return Some(Some(BodyType::Events)),
        _ if head.len() < BOM.len() && BOM.starts_with(head) => return None,
        _ => {}
    }
    let fields: [&[u8]; 4] = [b"data:", b"event:", b"id:", b"retry:"];
    if fields.iter().any(|field| head.starts_with(field)) {
        return Some(Some(BodyType::Events));
    }
    let undecided = fields.iter().any(|field| field.starts_with(head));
    (!undecided).then_some(None)
}

/// Parses the messages in a body.
///
/// # Errors
/// Returns an error if there are none.
pub(crate) async fn messages<R: PendingRequests + Send + 'static>(
    body: Vec<u8>,
    requests: R,
) -> Result<Vec<Incoming>, HttpError> {
    let parse = move |body: &[u8]| {
        let text = lenient_json::decode(body);
        codec::read(&text, &requests)
            .map_err(|reason| HttpError::NotMcp(lenient_json::describe_unreadable(reason, &text)))
    };
    if body.len() < LARGE_BODY_BYTES {
        return parse(&body);
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&body)).await;
    parsed.map_err(|_| HttpError::NotMcp("it could not be parsed".to_owned()))?
}

/// Parses the response to a request of rmcp's service. A response without an ID must belong to this request; rmcp would
/// drop it and wait forever.
///
/// # Errors
/// Returns an error if there is none.
pub(crate) async fn read_service_response(
    body: Vec<u8>,
    request: SingleRequest,
) -> Result<ServerJsonRpcMessage, HttpError> {
    let mut failure = no_response_error();
    for message in messages(body, request).await? {
        match message {
            Incoming::Message(message)
                if matches!(*message, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)) =>
            {
                return Ok(*message);
            }
            Incoming::UnreadableResponse(_, reason) => return Err(HttpError::NotMcp(reason)),
            Incoming::UnknownResponse(id) => failure = other_request_error(&id),
            _ => {}
        }
    }
    Err(failure)
}

pub(crate) fn no_response_error() -> HttpError {
    HttpError::NotMcp("it is not a response".to_owned())
}

pub(crate) fn other_request_error(request: &RequestId) -> HttpError {
    HttpError::NotMcp(format!("it answers another request: `{request}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::codec::ExpectedResult;

    async fn kind(content_type: Option<&str>, chunks: &[&'static str]) -> Result<(&'static str, String), String> {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok::<_, std::io::Error>(*chunk)).collect();
        let mut response = http::Response::new(reqwest::Body::wrap_stream(futures::stream::iter(chunks)));
        if let Some(content_type) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        let (kind, response) = match sniff_body(response.into()).await.map_err(|error| error.to_string())? {
            (BodyType::Json, response) => ("json", response),
            (BodyType::Events, response) => ("events", response),
        };
        let body = read_body(response, 1_000).await.unwrap();
        Ok((kind, String::from_utf8(body).unwrap()))
    }

    #[tokio::test]
    async fn media_types_ignore_case_and_parameters() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=utf-8",
            "text/json",
            "application/problem+json",
        ] {
            assert_eq!(kind(Some(json), &["x"]).await, Ok(("json", "x".to_owned())), "{json}");
        }
        for events in ["text/event-stream", "TEXT/Event-Stream;charset=utf-8", " text/event-stream "] {
            assert_eq!(kind(Some(events), &["x"]).await, Ok(("events", "x".to_owned())), "{events}");
        }
    }

    #[tokio::test]
    async fn unknown_media_types_are_sniffed() {
        for content_type in
            [None, Some("text/html; charset=UTF-8"), Some("text/plain"), Some("application/octet-stream")]
        {
            assert_eq!(kind(content_type, &["\u{FEFF}", " \n", "{\"a\":", "1}"]).await.unwrap().0, "json");
            assert_eq!(kind(content_type, &["[", "]"]).await, Ok(("json", "[]".to_owned())));
            assert_eq!(kind(content_type, &["da", "ta: 1", "\n\n"]).await, Ok(("events", "data: 1\n\n".to_owned())));
            assert_eq!(kind(content_type, &[": hi\n"]).await.unwrap().0, "events");
            assert!(kind(content_type, &["<html>", "{"]).await.is_err());
            assert!(kind(content_type, &[]).await.is_err());
        }
        let error = kind(Some("text/html"), &["<html>"]).await.unwrap_err();
        assert_eq!(error, "the response is not MCP: its content type is `text/html`");
    }

    #[tokio::test]
    async fn response_is_found_in_the_body() {
        let answer =
            |body: &str| read_service_response(body.as_bytes().to_vec(), SingleRequest(4, ExpectedResult::Other));
        for body in [
            r#"{"jsonrpc": "2.0", "id": 4, "result": {}}"#,
            "\u{FEFF}{\"jsonrpc\": \"2.0\", \"id\": \"4\", \"result\": {\"a\": NaN}}",
            r#"[{"jsonrpc": "2.0", "method": "notifications/x"}, {"jsonrpc": "2.0", "id": 4, "result": {}}]"#,
            r#"{"jsonrpc": "2.0", "id": null, "result": {}}"#,
        ] {
            assert!(matches!(answer(body).await, Ok(JsonRpcMessage::Response(_))), "{body}");
        }
        let error = r#"{"jsonrpc": "2.0", "id": null, "error": {"code": -1, "message": "m"}, "result": null}"#;
        assert!(matches!(answer(error).await, Ok(JsonRpcMessage::Error(_))));
        let reason = |result: Result<_, HttpError>| result.unwrap_err().to_string();
        let another = r#"{"jsonrpc": "2.0", "id": 5, "result": {}}"#;
        assert!(reason(answer(another).await).ends_with("it answers another request: `5`"));
        assert!(reason(answer(r#"{"jsonrpc": "2.0", "id": 4, "result": {"#).await).contains("invalid JSON"));
        assert!(
            reason(answer("[]").await).contains("invalid JSON") || reason(answer("[]").await).contains("no response")
        );
    }
}
