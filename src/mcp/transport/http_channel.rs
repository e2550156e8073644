//! Makes calls over Streamable HTTP. Each call is a request of its own, and its response is read up to the result.
//! Never repeats a request that the server may have handled.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::Url;
use rmcp::model::{ProtocolVersion, RequestId, ServerJsonRpcMessage};
use rmcp::transport::common::http_header::{HEADER_MCP_PROTOCOL_VERSION, HEADER_SESSION_ID};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::HttpEndpoint;
use super::http::HttpClient;
use super::http_response::{self, BodyType, HttpError, error_from_response};
use super::mcp_headers;
use super::request_failure::from_http;
use super::resumable_stream::{ResumableStream, StreamSource};
use super::sse::{self, EventStream, StreamKind};
use crate::mcp::checkpoint::StreamCheckpoint;
use crate::mcp::message::call_request::CallRequest;
use crate::mcp::message::call_response::CallResponse;
use crate::mcp::message::codec::{ExpectedResult, Incoming, SingleRequest};
use crate::mcp::message::failure;
use crate::mcp::requests::handler::handle_incoming;
use crate::mcp::requests::open_calls::CallState;
use crate::model::{Failure, FailureKind};

/// The maximum number of messages from responses that wait for rmcp's service. When the queue is full, reading the
/// responses waits.
const QUEUE_CAPACITY: usize = 64;
/// The time for the rest of a response after its result, so that the connection can be reused.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// The HTTP channel for calls to one endpoint, over one connection.
pub(crate) struct HttpChannel {
    client: HttpClient,
    url: Url,
    /// The headers that all requests share.
    headers: HeaderMap,
    /// True in the modern era, where headers repeat parts of the request and closing a response cancels it.
    modern: bool,
    /// The queue for messages that arrive with a response but do not belong to the call.
    side_messages: mpsc::Sender<ServerJsonRpcMessage>,
}

/// The outcome of an HTTP exchange.
enum ExchangeOutcome {
    Response(Result<CallResponse, Failure>),
    /// The request was accepted, and its response may come on the session's own stream.
    Deferred,
    /// The response ended without a result or an error.
    NoResponse,
}

impl HttpChannel {
    /// Creates the channel to `endpoint` before the handshake, and the queue of messages that come with the responses.
    pub(crate) fn new(client: HttpClient, endpoint: &HttpEndpoint) -> (Self, mpsc::Receiver<ServerJsonRpcMessage>) {
        let (side_messages, receiver) = mpsc::channel(QUEUE_CAPACITY);
        let (url, headers) = (endpoint.url.clone(), endpoint.headers());
        (Self { client, url, headers, modern: false, side_messages }, receiver)
    }

    /// Returns the channel for the negotiated `version`, and for the session if the handshake created one.
    pub(crate) fn with_version(mut self, version: &ProtocolVersion) -> Arc<Self> {
        self.modern = !version.has_initialize();
        let session = self.client.state.session.id().map(|id| (HEADER_SESSION_ID, id));
        let headers = session.into_iter().chain([(HEADER_MCP_PROTOCOL_VERSION, version.as_str())]);
        let valid = |(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value).ok()?));
        self.headers.extend(headers.filter_map(valid));
        Arc::new(self)
    }

    /// Sends the request of `call`, serialized as `text`, and reads its response until the returned handle is dropped.
    pub(crate) fn send(
        self: &Arc<Self>,
        id: i64,
        text: Vec<u8>,
        request: &CallRequest<'_>,
        call: Arc<CallState>,
    ) -> AbortOnDropHandle<()> {
        let mut headers = self.headers.clone();
        if self.modern {
            mcp_headers::insert_mcp_headers(request, &mut headers);
        }
        let channel = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            channel.finish(id, channel.exchange(id, text, headers, call)).await;
        }))
    }

    /// Reattaches to a call of an earlier process: sends no new call, and resumes the response stream.
    pub(crate) fn reattach(
        self: &Arc<Self>,
        checkpoint: StreamCheckpoint,
        call: Arc<CallState>,
    ) -> AbortOnDropHandle<()> {
        let channel = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            call.mark_sent();
            let id = checkpoint.request;
            let source = channel.stream_source(channel.headers.clone(), call);
            let mut events = ResumableStream::resume(checkpoint, source).events(None);
            channel.finish(id, channel.read_response(&mut events, id)).await;
        }))
    }

    /// Notifies the agent that a call is cancelled.
    pub(crate) async fn cancel(&self, message: Vec<u8>) {
        // In the modern era, closing the response cancels the request.
        if !self.modern {
            let sending = self.client.post_bytes(self.url.clone(), self.headers.clone(), message);
            self.client.notify_cancelled(sending).await;
        }
    }

    /// Completes request `id` with the outcome of `exchange`. A panic in it becomes a failure.
    async fn finish(&self, id: i64, exchange: impl Future<Output = Result<ExchangeOutcome, HttpError>>) {
        let agent = &self.client.state.agent;
        match AssertUnwindSafe(exchange).catch_unwind().await {
            Ok(Ok(ExchangeOutcome::Response(response))) => self.client.state.calls.deliver(id, response),
            Ok(Ok(ExchangeOutcome::Deferred)) => {}
            Ok(Ok(ExchangeOutcome::NoResponse)) => self.client.state.calls.settle(id),
            Ok(Err(error)) => self.client.state.calls.deliver(id, Err(from_http(agent, &error))),
            Err(_) => {
                let message = format!(
                    "internal error: kapell failed while it read the response of agent `{agent}` (this is a bug in \
                     kapell)"
                );
                self.client.state.calls.deliver(id, Err(Failure::new(FailureKind::ConnectionLost, message)));
            }
        }
    }

    async fn exchange(
        &self,
        id: i64,
        text: Vec<u8>,
        headers: HeaderMap,
        call: Arc<CallState>,
    ) -> Result<ExchangeOutcome, HttpError> {
        self.client.state.session.reserve(id).await;
        call.mark_sent();
        let response = self.client.post_bytes(self.url.clone(), headers.clone(), text).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(error_from_response(response, headers.contains_key(HEADER_SESSION_ID)).await);
        }
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(ExchangeOutcome::Deferred);
        }
        match http_response::sniff_body(response).await? {
            (BodyType::Events, response) => {
                let overflow = self.client.overflow_handler(Some(call.clone()));
                let events =
                    sse::events(response, self.client.state.max_message_bytes(), StreamKind::Messages, overflow);
                let mut events = match self.modern {
                    true => events,
                    false => ResumableStream::new(self.stream_source(headers, call), id).events(Some(events)),
                };
                self.read_response(&mut events, id).await
            }
            (BodyType::Json, response) => {
                let body = http_response::read_body(response, self.client.state.max_message_bytes()).await?;
                let mut failure = http_response::no_response_error();
                for message in http_response::messages(body, SingleRequest(id, ExpectedResult::Call)).await? {
                    if let Incoming::UnknownResponse(other) = &message {
                        failure = http_response::other_request_error(other);
                    }
                    if let Some(response) = self.handle_message(message, id).await {
                        return Ok(ExchangeOutcome::Response(response));
                    }
                }
                Err(failure)
            }
        }
    }

    fn stream_source(&self, headers: HeaderMap, call: Arc<CallState>) -> StreamSource {
        StreamSource { client: self.client.clone(), url: self.url.clone(), headers, call }
    }

    /// Reads a stream up to the response to request `id`.
    async fn read_response(&self, events: &mut EventStream, id: i64) -> Result<ExchangeOutcome, HttpError> {
        let mut unreadable = None;
        while let Some(Ok(event)) = events.next().await {
            let Some(data) = event.data.filter(|data| !data.trim().is_empty()) else { continue };
            let is_response = data.contains("\"result\"") || data.contains("\"error\"");
            let messages =
                match http_response::messages(data.into_bytes(), SingleRequest(id, ExpectedResult::Call)).await {
                    Ok(messages) => messages,
                    Err(error) => {
                        tracing::debug!(agent = %self.client.state.agent, %error, "an event holds no message");
                        unreadable = Some(error).filter(|_| is_response).or(unreadable);
                        continue;
                    }
                };
            for message in messages {
                if let Some(response) = self.handle_message(message, id).await {
                    // The call continues at once; whatever follows on the stream is ignored.
                    self.client.state.calls.deliver(id, response);
                    let _ = tokio::time::timeout(DRAIN_TIMEOUT, async { while events.next().await.is_some() {} }).await;
                    return Ok(ExchangeOutcome::Deferred);
                }
            }
        }
        // The response may be on another stream, unless it was the unreadable message.
        match unreadable {
            Some(error) if self.client.state.calls.is_open(id) => Err(error),
            _ => Ok(ExchangeOutcome::NoResponse),
        }
    }

    /// Processes a message that came with the response to request `id`. Returns the response if the message is that.
    async fn handle_message(&self, message: Incoming, id: i64) -> Option<Result<CallResponse, Failure>> {
        match message {
            Incoming::CallResponse(_, response) => return Some(Ok(response)),
            Incoming::UnreadableResponse(_, reason) => {
                return Some(Err(failure::unreadable_response(&self.client.state.agent, &reason)));
            }
            Incoming::Progress(token, progress) => self.client.state.report_progress(&token, progress),
            Incoming::Log(message) => self.client.state.log(message),
            Incoming::Message(mut message) => {
                handle_incoming(&self.client.state, &mut message, Some(&RequestId::Number(id)));
                // Without the service, the connection has ended, which the call detects itself.
                let _ = self.side_messages.send(*message).await;
            }
            // Servers repeat responses, including those to other requests.
            Incoming::UnknownResponse(_) => {}
        }
        None
    }
}
