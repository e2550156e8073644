//! Sends messages over Streamable HTTP and classifies the responses.
//! Never repeats a request, unless the server has refused it for lack of a valid token. Only responses to the agent are
//! repeated, which has no second effect.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::IntoUrl;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorData, JsonRpcMessage, RequestId,
    ServerJsonRpcMessage, ServerResult,
};
use rmcp::transport::common::http_header::{HEADER_LAST_EVENT_ID, HEADER_SESSION_ID};
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse};

use super::http_response::{
    self, BodyType, EVENT_STREAM_TYPE, HttpError, JSON_TYPE, error_from_response, header, read_body,
    read_service_response,
};
use super::request_failure::is_transient;
use super::sse::{self, EventStream, ReconnectLimiter, StreamKind};
use crate::mcp::auth::authorizer::Authorizer;
use crate::mcp::auth::challenge::Challenge;
use crate::mcp::message::codec::SingleRequest;
use crate::mcp::message::failure::message_too_large;
use crate::mcp::message::request_id::id_number;
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::open_calls::CallState;
use crate::model::Protocol;

/// The time for ending a session.
const DELETE_TIMEOUT: Duration = Duration::from_secs(1);
/// The time in which a server that refused `initialize` is probed for the older transport.
const HTTP_SSE_PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum size of the event that this probe reads, in bytes.
const MAX_HTTP_SSE_PROBE_BYTES: usize = 64 * 1024;
/// The time for notifying an agent of a cancellation; nothing waits for it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// The delays before a response to the agent is sent again.
const RESPONSE_RETRY_DELAYS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];
/// The delays before the common stream is opened again after a conflict. The existing stream may be that of an earlier
/// connection whose end the server has not noticed.
const CONFLICT_RETRY_DELAYS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

type PostResult = Result<StreamableHttpPostResponse, StreamableHttpError<HttpError>>;
/// The HTTP side of one connection.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    /// The tokens of the agent, unless its agents file has a fixed one.
    authorizer: Option<Arc<Authorizer>>,
    /// The `protocol` setting of the agent.
    protocol: Protocol,
    pub(super) state: Arc<ConnectionState>,
    probe_timeout: Duration,
    reconnects: Arc<ReconnectLimiter>,
}

impl HttpClient {
    /// Creates the HTTP side of a new connection. `probe_timeout` limits the wait for a response to `server/discover`.
    pub(crate) fn new(client: reqwest::Client, state: Arc<ConnectionState>, probe_timeout: Duration) -> Self {
        let (authorizer, protocol) = (None, Protocol::Auto);
        Self { client, authorizer, protocol, state, probe_timeout, reconnects: Arc::default() }
    }

    /// Authorizes all requests with the tokens of `authorizer`.
    pub(crate) fn with_authorizer(self, authorizer: Option<Arc<Authorizer>>) -> Self {
        Self { authorizer, ..self }
    }

    /// Sets the `protocol` setting of the agent.
    pub(crate) fn with_protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// Sends a request with the current token. If the server refuses the token, the request was not handled, and is sent
    /// again with another one.
    ///
    /// # Errors
    /// Returns an error if no response arrives, or another token is not available.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, HttpError> {
        let mut request = request.build().map_err(HttpError::from_send_error)?;
        let Some(authorizer) = &self.authorizer else {
            return self.client.execute(request).await.map_err(HttpError::from_send_error);
        };
        let mut token = authorizer.token().await?;
        let mut attempt = 0;
        loop {
            if let Some(value) = token.as_ref().and_then(|token| bearer_header(&token.value)) {
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            let repeated = request.try_clone();
            let response = self.client.execute(request).await.map_err(HttpError::from_send_error)?;
            let challenge = Challenge::read(response.status(), response.headers(), &authorizer.server);
            let (Some(challenge), Some(repeated)) = (challenge, repeated) else { return Ok(response) };
            token = Some(authorizer.another_token(challenge, token, attempt).await?);
            (request, attempt) = (repeated, attempt + 1);
        }
    }

    /// Probes whether the server speaks the modern era.
    ///
    /// Legacy servers react in many ways: statuses, silence, HTML pages, broken connections. rmcp continues with
    /// `initialize` only after a JSON-RPC error, so it gets one; the outcome of `initialize` is what counts.
    async fn probe(
        &self,
        uri: &Arc<str>,
        message: ClientJsonRpcMessage,
        id: RequestId,
        headers: HeaderMap,
    ) -> PostResult {
        let error_response = |error: ErrorData| {
            let response = ServerJsonRpcMessage::error(error, Some(id.clone()));
            Ok(StreamableHttpPostResponse::Json(response, None))
        };
        let unknown = |what: String| error_response(ErrorData::invalid_request(what, None));
        match tokio::time::timeout(self.probe_timeout, self.post(uri, &message, headers)).await {
            Err(_) => {
                self.state.requests.remove(&id);
                unknown("`server/discover` was not answered".to_owned())
            }
            Ok(Ok(StreamableHttpPostResponse::Accepted)) => unknown("`server/discover` has no answer".to_owned()),
            Ok(Err(StreamableHttpError::Client(HttpError::Status { status, error, .. }))) => {
                if is_transient(status) {
                    self.state.probe_failed.store(true, Ordering::Relaxed);
                }
                match error {
                    // A modern server lists the versions that it supports.
                    Some(error) => error_response(*error),
                    None => unknown(format!("HTTP {status}")),
                }
            }
            Ok(Err(StreamableHttpError::Client(HttpError::NotMcp(what)))) => unknown(what),
            // Some legacy servers refuse unknown methods like this. `initialize` shows whether a login is required.
            Ok(Err(StreamableHttpError::Client(error @ HttpError::Authorization(_))))
                if self.protocol != Protocol::Modern =>
            {
                unknown(error.to_string())
            }
            Ok(Err(StreamableHttpError::Client(error @ HttpError::Disconnected(_)))) => {
                self.state.probe_failed.store(true, Ordering::Relaxed);
                unknown(error.to_string())
            }
            Ok(other) => other,
        }
    }

    /// Sends a message of rmcp's service, once.
    async fn post(&self, uri: &Arc<str>, message: &ClientJsonRpcMessage, headers: HeaderMap) -> PostResult {
        let JsonRpcMessage::Request(request) = message else {
            return self.exchange(uri, message, headers, None).await;
        };
        let expected = self.state.requests.add(&request.id, &request.request);
        let only = id_number(&request.id).map(|id| SingleRequest(id, expected));
        if let Some(SingleRequest(id, _)) = only {
            self.state.session.reserve(id).await;
        }
        let exchanged = self.exchange(uri, message, headers, only).await;
        if matches!(exchanged, Ok(StreamableHttpPostResponse::Json(..)) | Err(_)) {
            self.state.requests.remove(&request.id);
        }
        exchanged
    }

    async fn exchange(
        &self,
        uri: &Arc<str>,
        message: &ClientJsonRpcMessage,
        headers: HeaderMap,
        request: Option<SingleRequest>,
    ) -> PostResult {
        let in_session = headers.contains_key(HEADER_SESSION_ID);
        let text = serde_json::to_vec(message).map_err(StreamableHttpError::Deserialize)?;
        let response = self.post_bytes(&**uri, headers, text).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(error_from_response(response, in_session).await.into());
        }
        let Some(request) = request else { return Ok(StreamableHttpPostResponse::Accepted) };
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let session = header(&response, HEADER_SESSION_ID);
        match http_response::sniff_body(response).await? {
            (BodyType::Events, response) => {
                let (max_bytes, overflow) = (self.state.max_message_bytes(), self.overflow_handler(None));
                let events = sse::events(response, max_bytes, StreamKind::Messages, overflow);
                let events = sse::service_messages(events, self.state.clone(), Some(request.0));
                Ok(StreamableHttpPostResponse::Sse(events, session))
            }
            (BodyType::Json, response) => {
                let body = read_body(response, self.state.max_message_bytes()).await?;
                let answer = read_service_response(body, request).await?;
                Ok(StreamableHttpPostResponse::Json(answer, session))
            }
        }
    }

    /// Sends a serialized message, once.
    ///
    /// # Errors
    /// Returns an error if no response arrives.
    pub(crate) async fn post_bytes(
        &self,
        url: impl IntoUrl,
        headers: HeaderMap,
        text: Vec<u8>,
    ) -> Result<reqwest::Response, HttpError> {
        self.send(self.client.post(url).headers(headers).body(text)).await
    }

    /// Initializes a session, or returns the handshake of an earlier process's session, which the server already knows.
    async fn initialize(&self, uri: &Arc<str>, message: ClientJsonRpcMessage, headers: HeaderMap) -> PostResult {
        if let (Some((session, initialized)), JsonRpcMessage::Request(request)) =
            (self.state.session.resumed_handshake(), &message)
        {
            let answer = ServerResult::InitializeResult(initialized);
            let answer = ServerJsonRpcMessage::response(answer, request.id.clone());
            return Ok(StreamableHttpPostResponse::Json(answer, Some(session)));
        }
        let posted = match self.post(uri, &message, headers.clone()).await {
            Err(StreamableHttpError::Client(HttpError::Status { status, .. }))
                if matches!(status.as_u16(), 400 | 404 | 405) && self.speaks_http_sse(uri, headers).await =>
            {
                return Err(HttpError::HttpSse.into());
            }
            posted => posted?,
        };
        let (answer, session) = posted.expect_initialized().await?;
        if let (Some(session), JsonRpcMessage::Response(response)) = (&session, &answer)
            && let ServerResult::InitializeResult(initialized) = &response.result
        {
            self.state.session.begin(session.clone(), initialized.clone()).await;
        }
        Ok(StreamableHttpPostResponse::Json(answer, session))
    }

    /// Returns whether the server speaks HTTP+SSE of 2024-11-05, where a GET returns an `endpoint` event first.
    async fn speaks_http_sse(&self, uri: &str, headers: HeaderMap) -> bool {
        let first_event = async {
            let response = self.open_stream(uri, headers).await.ok()?;
            sse::events(response, MAX_HTTP_SSE_PROBE_BYTES, StreamKind::HttpSse, || {}).next().await?.ok()?.event
        };
        let first_event = tokio::time::timeout(HTTP_SSE_PROBE_TIMEOUT, first_event).await;
        first_event.is_ok_and(|event| event.as_deref() == Some(sse::ENDPOINT_EVENT))
    }

    /// Sends the response to a request of the agent.
    async fn send_response(&self, uri: &Arc<str>, message: ClientJsonRpcMessage, headers: HeaderMap) -> PostResult {
        let request = match &message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            _ => None,
        };
        let is_lost = |error: &StreamableHttpError<HttpError>| match error {
            StreamableHttpError::Client(error) => error.is_connection_lost(),
            _ => false,
        };
        let sent = retry_response(|| self.post(uri, &message, headers.clone()), is_lost).await?;
        if let Some(request) = request {
            self.state.session.mark_answered(&request);
        }
        Ok(sent)
    }

    /// Notifies the agent with `sending` that a call is cancelled. When the host suspends, the agent must not see more
    /// than after a sudden end of the host.
    pub(super) async fn notify_cancelled<T>(&self, sending: impl Future<Output = Result<T, HttpError>>) {
        if self.state.is_suspended() {
            return;
        }
        if !matches!(tokio::time::timeout(CANCEL_TIMEOUT, sending).await, Ok(Ok(_))) {
            tracing::debug!(agent = %self.state.agent, "an agent could not be notified of a cancelled call");
        }
    }

    /// Returns a handler for events that are too large. Such an event belongs to `call`, if given.
    pub(crate) fn overflow_handler(&self, call: Option<Arc<CallState>>) -> impl Fn() + Send + 'static {
        let state = self.state.clone();
        move || match &call {
            Some(call) => call.fail(message_too_large(&state.agent, state.max_message_bytes())),
            None => state.handle_overflow(),
        }
    }

    /// Opens an event stream.
    ///
    /// # Errors
    /// Returns an error also if the response is not an event stream.
    pub(crate) async fn open_stream(
        &self,
        url: impl IntoUrl,
        headers: HeaderMap,
    ) -> Result<reqwest::Response, HttpError> {
        let in_session = headers.contains_key(HEADER_SESSION_ID);
        let response = self.send(self.client.get(url).headers(headers)).await?;
        if !response.status().is_success() {
            return Err(error_from_response(response, in_session).await);
        }
        // A stream may be silent for long, so its type cannot be sniffed from its bytes.
        let content_type = header(&response, CONTENT_TYPE.as_str()).unwrap_or_default();
        match http_response::media_type(&content_type).as_str() {
            EVENT_STREAM_TYPE | "" => Ok(response),
            _ => Err(HttpError::NotMcp(format!("its content type is `{content_type}`"))),
        }
    }

    /// Opens the common stream of the session, for messages that belong to no call.
    async fn open_common_stream(
        &self,
        uri: &str,
        last_event: Option<String>,
        headers: HeaderMap,
    ) -> Result<EventStream, StreamableHttpError<HttpError>> {
        // rmcp treats this error as final, and would otherwise retry forever.
        let refused = StreamableHttpError::ServerDoesNotSupportSse;
        if !self.reconnects.try_open(last_event.as_deref()) {
            return Err(refused);
        }
        let mut pauses = CONFLICT_RETRY_DELAYS.into_iter();
        let opened = loop {
            match (self.open_stream(uri, headers.clone()).await, pauses.next()) {
                (Err(HttpError::Status { status: StatusCode::CONFLICT, .. }), Some(pause)) => {
                    tokio::time::sleep(pause).await;
                }
                (opened, _) => break opened,
            }
        };
        match opened {
            Ok(response) => {
                let last_event = last_event.unwrap_or_default();
                let reopened = StreamKind::Reopened { reconnects: self.reconnects.clone(), last_event };
                let events =
                    sse::events(response, self.state.max_message_bytes(), reopened, self.overflow_handler(None));
                Ok(sse::service_messages(events, self.state.clone(), None))
            }
            Err(HttpError::NotMcp(_) | HttpError::Redirect(_) | HttpError::Authorization(_)) => Err(refused),
            Err(HttpError::Status { status, .. }) if status.is_client_error() => Err(refused),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the headers of every request to an endpoint. The protocol's own headers override those of the agents file.
pub(crate) fn common_headers(custom: HashMap<HeaderName, HeaderValue>, token: Option<&str>) -> HeaderMap {
    let mut headers: HeaderMap = custom.into_iter().collect();
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
    if let Some(value) = token.and_then(bearer_header) {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

/// Sends the response to a request of the agent with `post`. Repeats it if the connection breaks, as `is_lost` decides,
/// since the agent would wait forever.
pub(super) async fn retry_response<T, E, F>(mut post: impl FnMut() -> F, is_lost: impl Fn(&E) -> bool) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    for delay in RESPONSE_RETRY_DELAYS {
        match post().await {
            Err(error) if is_lost(&error) => tokio::time::sleep(delay).await,
            sent => return sent,
        }
    }
    post().await
}

/// Returns the value of an `Authorization` header, unless the token contains characters that it must not.
fn bearer_header(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the headers of a request of rmcp's service.
fn service_headers(
    custom: HashMap<HeaderName, HeaderValue>,
    token: Option<String>,
    session_id: Option<&str>,
) -> HeaderMap {
    let mut headers = common_headers(custom, token.as_deref());
    if let Some(Ok(session_id)) = session_id.map(HeaderValue::from_str) {
        headers.insert(HEADER_SESSION_ID, session_id);
    }
    headers
}

impl StreamableHttpClient for HttpClient {
    type Error = HttpError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> PostResult {
        let headers = service_headers(custom_headers, auth_header, session_id.as_deref());
        match &message {
            JsonRpcMessage::Request(request) => match &request.request {
                ClientRequest::DiscoverRequest(_) => {
                    let id = request.id.clone();
                    self.probe(&uri, message, id, headers).await
                }
                ClientRequest::InitializeRequest(_) => self.initialize(&uri, message, headers).await,
                _ => self.post(&uri, &message, headers).await,
            },
            // When the host suspends, the agent must not see more than after a sudden end of the host.
            _ if self.state.is_suspended() => Ok(StreamableHttpPostResponse::Accepted),
            JsonRpcMessage::Notification(notification) => match &notification.notification {
                ClientNotification::InitializedNotification(_) if self.state.session.resumed_handshake().is_some() => {
                    Ok(StreamableHttpPostResponse::Accepted)
                }
                _ => self.post(&uri, &message, headers).await,
            },
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => self.send_response(&uri, message, headers).await,
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), StreamableHttpError<HttpError>> {
        if self.state.is_suspended() {
            return Ok(());
        }
        let headers = service_headers(custom_headers, auth_header, Some(&session_id));
        let request = self.client.delete(&*uri).headers(headers);
        // Servers may refuse the request; the session is abandoned anyway.
        self.send(request.timeout(DELETE_TIMEOUT)).await.map(drop).map_err(StreamableHttpError::from)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<EventStream, StreamableHttpError<HttpError>> {
        let mut headers = service_headers(custom_headers, auth_header, session_id.as_deref());
        if let Some(Ok(last_event_id)) = last_event_id.as_deref().map(HeaderValue::from_str) {
            headers.insert(HEADER_LAST_EVENT_ID, last_event_id);
        }
        self.open_common_stream(&uri, last_event_id, headers).await
    }
}
