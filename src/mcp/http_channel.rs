//! Makes calls over Streamable HTTP: each is a request of its own, whose response is read up to the answer.
//! Never repeats a request, and never interprets what the agent asks meanwhile.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderValue, StatusCode, header::HeaderName};
use reqwest::Url;
use rmcp::{
    model::{ProtocolVersion, RequestId, ServerJsonRpcMessage},
    transport::{
        common::http_header::{HEADER_MCP_PROTOCOL_VERSION, HEADER_SESSION_ID},
        streamable_http_client::SseError,
    },
};
use sse_stream::Sse;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    MAX_MESSAGE_BYTES,
    call_request::CallRequest,
    checkpoint::StreamCheckpoint,
    codec::{ExpectedResult, Incoming, SingleRequest},
    connection_state::ConnectionState,
    endpoint::HttpEndpoint,
    failure,
    handler::handle_incoming,
    http::HttpClient,
    http_response::{self, HttpError, ResponseBody, error_from_response},
    mcp_headers,
    open_calls::{CallResponse, CallState},
    resumable_stream::{ResumableStream, StreamSource},
    sse,
};
use crate::model::{Failure, FailureKind};

/// Messages that came with responses and wait for the service: as many as it takes in at a time. More of them make the
/// responses wait.
const QUEUE_CAPACITY: usize = 64;
/// How long a response whose answer was read may take to end, which makes its connection fit for another request.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);
/// How long telling an agent that a call is given up may take; nothing waits for it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

type EventStream = BoxStream<'static, Result<Sse, SseError>>;

/// The way of calls to one endpoint, over one connection.
pub(super) struct HttpChannel {
    client: HttpClient,
    state: Arc<ConnectionState>,
    url: Url,
    /// What all requests have in common.
    headers: HeaderMap,
    /// Whether it is the era in which headers repeat what a request says, and the end of a response is a cancellation.
    modern: bool,
    /// Where messages go that came with a response and are not the call's.
    side_messages: mpsc::Sender<ServerJsonRpcMessage>,
}

/// What a response came to.
enum ExchangeOutcome {
    Response(CallResponse),
    /// The request was accepted, and its answer may come on the session's own stream.
    Deferred,
    /// The response ended without an answer.
    NoResponse,
}

impl HttpChannel {
    /// The way of calls to `endpoint` before the handshake, and the messages that come along with their responses.
    pub(super) fn new(
        client: HttpClient,
        link: Arc<ConnectionState>,
        endpoint: &HttpEndpoint,
    ) -> (Self, mpsc::Receiver<ServerJsonRpcMessage>) {
        let (aside, messages) = mpsc::channel(QUEUE_CAPACITY);
        let (url, headers) = (endpoint.url.clone(), endpoint.headers());
        (Self { client, state: link, url, headers, modern: false, side_messages: aside }, messages)
    }

    /// The way of calls once the handshake has agreed on `version`, and has made a session or has not.
    pub(super) fn with_version(mut self, version: &ProtocolVersion) -> Arc<Self> {
        self.modern = !version.has_initialize();
        let session = self.state.session.id().map(|id| (HEADER_SESSION_ID, id));
        let own = session.into_iter().chain([(HEADER_MCP_PROTOCOL_VERSION, version.as_str())]);
        let valid = |(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value).ok()?));
        self.headers.extend(own.filter_map(valid));
        Arc::new(self)
    }

    /// Sends the request of `call`, written as `text`, and reads its response until the result is dropped.
    pub(super) fn send(
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
        let calls = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            calls.finish(id, calls.exchange(id, text, headers, call)).await;
        }))
    }

    /// Takes up a call that an earlier process made: nothing is sent, and its stream is read on.
    pub(super) fn reattach(self: &Arc<Self>, note: StreamCheckpoint, call: Arc<CallState>) -> AbortOnDropHandle<()> {
        let calls = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            call.mark_sent();
            let id = note.request;
            let source = calls.stream_source(calls.headers.clone(), call);
            let mut events = ResumableStream::resume(note, source, calls.state.clone()).events(None);
            calls.finish(id, calls.read_response(&mut events, id)).await;
        }))
    }

    /// Tells the agent that nobody waits for the answer to a request any more.
    pub(super) async fn cancel(&self, message: Vec<u8>) {
        // In the modern era, the end of the response says it. And of the host's leaving, the agent is to see no more than
        // it would of the host's sudden end.
        if self.modern || self.state.is_suspended() {
            return;
        }
        let telling = self.client.post_bytes(self.url.clone(), self.headers.clone(), message);
        if !matches!(tokio::time::timeout(CANCEL_TIMEOUT, telling).await, Ok(Ok(_))) {
            tracing::debug!(agent = %self.state.agent, "an agent was not told that a call is given up");
        }
    }

    /// Ends request `id` with what comes of `exchange`; a panic in it, too, is an end.
    async fn finish(&self, id: i64, exchange: impl Future<Output = Result<ExchangeOutcome, HttpError>>) {
        let agent = &self.state.agent;
        match AssertUnwindSafe(exchange).catch_unwind().await {
            Ok(Ok(ExchangeOutcome::Response(answer))) => self.state.calls.deliver(id, answer),
            Ok(Ok(ExchangeOutcome::Deferred)) => {}
            Ok(Ok(ExchangeOutcome::NoResponse)) => self.state.calls.settle(id),
            Ok(Err(error)) => self.state.calls.deliver(id, CallResponse::Failed(failure::from_http(agent, &error))),
            Err(_) => {
                let message = format!(
                    "internal error: kapell failed while it read the response of agent `{agent}` (this is a bug in kapell)"
                );
                self.state.calls.deliver(id, CallResponse::Failed(Failure::new(FailureKind::ConnectionLost, message)));
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
        self.state.session.reserve(id).await;
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
            ResponseBody::Events(response) => {
                let events =
                    sse::events(response, MAX_MESSAGE_BYTES, None, self.client.overflow_handler(Some(call.clone())));
                let mut events = match self.modern {
                    true => events,
                    false => ResumableStream::new(self.stream_source(headers, call), self.state.clone(), id)
                        .events(Some(events)),
                };
                self.read_response(&mut events, id).await
            }
            ResponseBody::Json(response) => {
                let body = http_response::read_body(response, MAX_MESSAGE_BYTES).await?;
                let mut failure = http_response::no_response_error();
                for message in http_response::messages(body, SingleRequest(id, ExpectedResult::Call)).await? {
                    if let Incoming::UnknownResponse(other) = &message {
                        failure = http_response::other_request_error(other);
                    }
                    if let Some(answer) = self.handle_message(message, id).await {
                        return Ok(ExchangeOutcome::Response(answer));
                    }
                }
                Err(failure)
            }
        }
    }

    fn stream_source(&self, headers: HeaderMap, call: Arc<CallState>) -> StreamSource {
        StreamSource { client: self.client.clone(), url: self.url.clone(), headers, call }
    }

    /// Reads a stream up to the answer to request `id`.
    async fn read_response(&self, events: &mut EventStream, id: i64) -> Result<ExchangeOutcome, HttpError> {
        let mut unreadable = None;
        while let Some(Ok(event)) = events.next().await {
            let Some(data) = event.data.filter(|data| !data.trim().is_empty()) else { continue };
            let is_answer = data.contains("\"result\"") || data.contains("\"error\"");
            let messages =
                match http_response::messages(data.into_bytes(), SingleRequest(id, ExpectedResult::Call)).await {
                    Ok(messages) => messages,
                    Err(error) => {
                        tracing::debug!(agent = %self.state.agent, %error, "an event holds no message");
                        unreadable = Some(error).filter(|_| is_answer).or(unreadable);
                        continue;
                    }
                };
            for message in messages {
                if let Some(answer) = self.handle_message(message, id).await {
                    // The call goes on at once, and what follows is nobody's.
                    self.state.calls.deliver(id, answer);
                    let _ = tokio::time::timeout(DRAIN_TIMEOUT, async { while events.next().await.is_some() {} }).await;
                    return Ok(ExchangeOutcome::Deferred);
                }
            }
        }
        // The answer may be on another stream, and what was unreadable may have been it.
        match unreadable {
            Some(error) if self.state.calls.is_open(id) => Err(error),
            _ => Ok(ExchangeOutcome::NoResponse),
        }
    }

    /// Takes in a message that came with the response to request `id`. Gives the answer if the message is that.
    async fn handle_message(&self, message: Incoming, id: i64) -> Option<CallResponse> {
        match message {
            Incoming::CallResponse(_, answer) => return Some(answer),
            Incoming::UnreadableResponse(_, reason) => {
                return Some(CallResponse::Failed(failure::unreadable_response(&self.state.agent, &reason)));
            }
            Incoming::Progress(token, progress) => self.state.report_progress(&token, progress),
            Incoming::Log(message) => self.state.log(message),
            Incoming::Message(mut message) => {
                handle_incoming(&self.state, &mut message, Some(&RequestId::Number(id)));
                // Without the service, the connection has ended, which the call learns by itself.
                let _ = self.side_messages.send(*message).await;
            }
            // Servers repeat answers, and those of others.
            Incoming::UnknownResponse(_) => {}
        }
        None
    }
}
