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
    LARGEST_MESSAGE,
    calls::{Answer, InFlight},
    codec::{Expected, Incoming, Only},
    endpoint::Endpoint,
    failure,
    follow::{Follower, Source},
    handler::note,
    http::HttpClient,
    link::Link,
    note::StreamNote,
    request::Request,
    response::{self, Body, HttpError, refusal},
    sse, standard,
};
use crate::model::{Failure, FailureKind};

/// Messages that came with responses and wait for the service: as many as it takes in at a time. More of them make the
/// responses wait.
const QUEUE: usize = 64;
/// How long a response whose answer was read may take to end, which makes its connection fit for another request.
const DRAIN_GRACE: Duration = Duration::from_millis(50);
/// How long telling an agent that a call is given up may take; nothing waits for it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

type EventStream = BoxStream<'static, Result<Sse, SseError>>;

/// The way of calls to one endpoint, over one connection.
pub(super) struct HttpCalls {
    client: HttpClient,
    link: Arc<Link>,
    url: Url,
    /// What all requests have in common.
    headers: HeaderMap,
    /// Whether it is the era in which headers repeat what a request says, and the end of a response is a cancellation.
    modern: bool,
    /// Where messages go that came with a response and are not the call's.
    aside: mpsc::Sender<ServerJsonRpcMessage>,
}

/// What a response came to.
enum Outcome {
    Answer(Answer),
    /// The request was accepted, and its answer may come on the session's own stream.
    Elsewhere,
    /// The response ended without an answer.
    Nothing,
}

impl HttpCalls {
    /// The way of calls to `endpoint` before the handshake, and the messages that come along with their responses.
    pub(super) fn new(
        client: HttpClient,
        link: Arc<Link>,
        endpoint: &Endpoint,
    ) -> (Self, mpsc::Receiver<ServerJsonRpcMessage>) {
        let (aside, messages) = mpsc::channel(QUEUE);
        let (url, headers) = (endpoint.url.clone(), endpoint.headers());
        (Self { client, link, url, headers, modern: false, aside }, messages)
    }

    /// The way of calls once the handshake has agreed on `version`, and has made a session or has not.
    pub(super) fn agreed(mut self, version: &ProtocolVersion) -> Arc<Self> {
        self.modern = !version.has_initialize();
        let session = self.link.session.id().map(|id| (HEADER_SESSION_ID, id));
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
        request: &Request<'_>,
        call: Arc<InFlight>,
    ) -> AbortOnDropHandle<()> {
        let mut headers = self.headers.clone();
        if self.modern {
            standard::repeat(request, &mut headers);
        }
        let calls = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            calls.end(id, calls.exchange(id, text, headers, call)).await;
        }))
    }

    /// Takes up a call that an earlier process made: nothing is sent, and its stream is read on.
    pub(super) fn take_up(self: &Arc<Self>, note: StreamNote, call: Arc<InFlight>) -> AbortOnDropHandle<()> {
        let calls = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            call.leaves();
            let id = note.request;
            let source = calls.source(calls.headers.clone(), call);
            let mut events = Follower::from(note, source, calls.link.clone()).events(None);
            calls.end(id, calls.answer_in(&mut events, id)).await;
        }))
    }

    /// Tells the agent that nobody waits for the answer to a request any more.
    pub(super) async fn cancel(&self, message: Vec<u8>) {
        // In the modern era, the end of the response says it. And of the host's leaving, the agent is to see no more than
        // it would of the host's sudden end.
        if self.modern || self.link.is_left() {
            return;
        }
        let telling = self.client.post_text(self.url.clone(), self.headers.clone(), message);
        if !matches!(tokio::time::timeout(CANCEL_TIMEOUT, telling).await, Ok(Ok(_))) {
            tracing::debug!(agent = %self.link.agent, "an agent was not told that a call is given up");
        }
    }

    /// Ends request `id` with what comes of `exchange`; a panic in it, too, is an end.
    async fn end(&self, id: i64, exchange: impl Future<Output = Result<Outcome, HttpError>>) {
        let agent = &self.link.agent;
        match AssertUnwindSafe(exchange).catch_unwind().await {
            Ok(Ok(Outcome::Answer(answer))) => self.link.calls.answer(id, answer),
            Ok(Ok(Outcome::Elsewhere)) => {}
            Ok(Ok(Outcome::Nothing)) => self.link.calls.settle(id),
            Ok(Err(error)) => self.link.calls.answer(id, Answer::None(failure::request(agent, &error))),
            Err(_) => {
                let message = format!(
                    "internal error: kapell failed while it read the response of agent `{agent}` (this is a bug in kapell)"
                );
                self.link.calls.answer(id, Answer::None(Failure::new(FailureKind::ConnectionLost, message)));
            }
        }
    }

    async fn exchange(
        &self,
        id: i64,
        text: Vec<u8>,
        headers: HeaderMap,
        call: Arc<InFlight>,
    ) -> Result<Outcome, HttpError> {
        self.link.session.reserve(id).await;
        call.leaves();
        let response = self.client.post_text(self.url.clone(), headers.clone(), text).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(response, headers.contains_key(HEADER_SESSION_ID)).await);
        }
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(Outcome::Elsewhere);
        }
        match response::body(response).await? {
            Body::Events(response) => {
                let events = sse::events(response, LARGEST_MESSAGE, None, self.client.overflow(Some(call.clone())));
                let mut events = match self.modern {
                    true => events,
                    false => Follower::new(self.source(headers, call), self.link.clone(), id).events(Some(events)),
                };
                self.answer_in(&mut events, id).await
            }
            Body::Json(response) => {
                let body = response::read(response, LARGEST_MESSAGE).await?;
                let mut failure = response::no_response();
                for message in response::messages(body, Only(id, Expected::Call)).await? {
                    if let Incoming::NotOpen(other) = &message {
                        failure = response::of_another(other);
                    }
                    if let Some(answer) = self.take(message, id).await {
                        return Ok(Outcome::Answer(answer));
                    }
                }
                Err(failure)
            }
        }
    }

    fn source(&self, headers: HeaderMap, call: Arc<InFlight>) -> Source {
        Source { client: self.client.clone(), url: self.url.clone(), headers, call }
    }

    /// Reads a stream up to the answer to request `id`.
    async fn answer_in(&self, events: &mut EventStream, id: i64) -> Result<Outcome, HttpError> {
        let mut unreadable = None;
        while let Some(Ok(event)) = events.next().await {
            let Some(data) = event.data.filter(|data| !data.trim().is_empty()) else { continue };
            let is_answer = data.contains("\"result\"") || data.contains("\"error\"");
            let messages = match response::messages(data.into_bytes(), Only(id, Expected::Call)).await {
                Ok(messages) => messages,
                Err(error) => {
                    tracing::debug!(agent = %self.link.agent, %error, "an event holds no message");
                    unreadable = Some(error).filter(|_| is_answer).or(unreadable);
                    continue;
                }
            };
            for message in messages {
                if let Some(answer) = self.take(message, id).await {
                    // The call goes on at once, and what follows is nobody's.
                    self.link.calls.answer(id, answer);
                    let _ = tokio::time::timeout(DRAIN_GRACE, async { while events.next().await.is_some() {} }).await;
                    return Ok(Outcome::Elsewhere);
                }
            }
        }
        // The answer may be on another stream, and what was unreadable may have been it.
        match unreadable {
            Some(error) if self.link.calls.is_open(id) => Err(error),
            _ => Ok(Outcome::Nothing),
        }
    }

    /// Takes in a message that came with the response to request `id`. Gives the answer if the message is that.
    async fn take(&self, message: Incoming, id: i64) -> Option<Answer> {
        match message {
            Incoming::Answer(_, answer) => return Some(answer),
            Incoming::BadAnswer(_, reason) => {
                return Some(Answer::None(failure::unreadable(&self.link.agent, &reason)));
            }
            Incoming::Progress(token, progress) => self.link.progressed(&token, progress),
            Incoming::Log(message) => self.link.logged(message),
            Incoming::Message(mut message) => {
                note(&self.link, &mut message, Some(&RequestId::Number(id)));
                // Without the service, the connection has ended, which the call learns by itself.
                let _ = self.aside.send(*message).await;
            }
            // Servers repeat answers, and those of others.
            Incoming::NotOpen(_) => {}
        }
        None
    }
}
