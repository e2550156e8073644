//! Reads the response stream of one call in a legacy session. Resumes it after lost connections, and at the checkpoint
//! of an earlier process. Saves the cursor as a checkpoint.
//! Never sends the call.
//!
//! After a host crash, a call can be resumed if its first event with an ID had arrived. Servers that store events send
//! that event immediately. Before it, the call cannot be identified, so its outcome is unknown. The same holds for
//! servers whose events have no IDs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use rmcp::model::RequestId;
use rmcp::transport::common::http_header::HEADER_LAST_EVENT_ID;
use serde::Deserialize;
use serde::de::IgnoredAny;
use sse_stream::Sse;
use tokio::time::Instant;

use super::http::HttpClient;
use super::http_response::HttpError;
use super::sse::{self, EventStream, StreamKind};
use crate::mcp::auth::error::AuthorizationError;
use crate::mcp::checkpoint::{CallCheckpoint, StreamCheckpoint};
use crate::mcp::message::request_id::id_number;
use crate::mcp::requests::open_calls::{CallState, PendingAnswers};
use crate::model::{Failure, FailureKind};

/// The maximum number of consecutive reconnects without an event. With the growing delays, this takes about a quarter
/// of a minute, enough for a server restart.
const MAX_EMPTY_RECONNECTS: u32 = 6;
/// The first delay before the stream is reopened, unless the server specifies one.
const INITIAL_RECONNECT_DELAY: Duration = Duration::from_millis(250);
/// The initial timeout for a reopened stream without events. Some servers repeat old events on it, but send no new
/// ones; the stream is reopened once more.
const INITIAL_SILENCE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The maximum reconnect delay and the maximum idle timeout of a stream.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(5);
/// The minimum interval between checkpoints of a call. After a host crash, later events are read again, which is
/// harmless.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);

/// The reader of the response stream of one call.
pub(crate) struct ResumableStream {
    source: StreamSource,
    /// The ID of the call's request on the wire.
    request: i64,
    /// The failure kind of the call if its stream cannot be resumed.
    lost_kind: FailureKind,
    cursor: StreamCursor,
    empty_reconnects: u32,
    /// The reconnect delay that the server specified.
    server_delay: Option<Duration>,
    /// The silence timeout of a reopened stream.
    silence_timeout: Duration,
    checkpointed_at: Option<Instant>,
}

/// The call of a stream and the request that opens the stream.
pub(crate) struct StreamSource {
    pub(crate) client: HttpClient,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) call: Arc<CallState>,
}

/// The reason why a connection delivers no more events.
enum StreamEnd {
    /// No event arrived before the timeout.
    Silent,
    /// The stream ended or failed before the silence timeout.
    Early,
    /// The stream ended or failed after the silence timeout.
    Late,
}

/// The meaning of an event for the call.
enum EventKind {
    Response(Sse),
    Message(Sse),
    /// A message of another call, or one that was received before.
    Foreign,
}

/// The members of a message that identify its kind.
#[derive(Deserialize)]
struct MessageHeader {
    id: Option<RequestId>,
    method: Option<IgnoredAny>,
}

impl ResumableStream {
    /// Creates a stream of a call that this process made.
    pub(crate) fn new(source: StreamSource, request: i64) -> Self {
        Self {
            source,
            request,
            lost_kind: FailureKind::ConnectionLost,
            cursor: StreamCursor::default(),
            empty_reconnects: 0,
            server_delay: None,
            silence_timeout: INITIAL_SILENCE_TIMEOUT,
            checkpointed_at: None,
        }
    }

    /// Creates a stream of a call that an earlier process made.
    pub(crate) fn resume(checkpoint: StreamCheckpoint, source: StreamSource) -> Self {
        Self {
            lost_kind: FailureKind::Interrupted,
            cursor: StreamCursor { latest: Some(checkpoint.last_event), ..StreamCursor::default() },
            ..Self::new(source, checkpoint.request)
        }
    }

    /// Returns the events of the call up to its response, starting with those of `opened` if the stream is already
    /// open. The events have no IDs, so that rmcp does not reopen the stream itself.
    pub(crate) fn events(mut self, opened: Option<EventStream>) -> EventStream {
        async_stream::stream! {
            let mut is_patient = opened.is_some();
            let mut opened = opened;
            loop {
                let mut events = match opened.take() {
                    Some(events) => events,
                    None => match self.reopen().await {
                        Ok(events) => events,
                        Err(failure) => {
                            self.source.call.fail(failure);
                            return;
                        }
                    },
                };
                let ended = loop {
                    let event = match self.next_event(&mut events, is_patient).await {
                        Ok(event) => event,
                        Err(ended) => break ended,
                    };
                    match self.read_event(event).await {
                        EventKind::Message(event) => yield Ok(event),
                        EventKind::Foreign => {}
                        EventKind::Response(event) => {
                            yield Ok(event);
                            // The remaining events are dropped. Reading them allows the connection to be reused.
                            while events.next().await.is_some() {}
                            return;
                        }
                    }
                };
                drop(events);
                if self.is_moot() || self.cursor.latest.is_none() {
                    return;
                }
                if let Err(failure) = self.pause_before_reopen(&ended).await {
                    self.source.call.fail(failure);
                    return;
                }
                is_patient = false;
            }
        }
        .boxed()
    }

    /// Returns the next event. The silence timeout applies to reopened streams only, unless the agent waits for an
    /// answer.
    async fn next_event(&self, events: &mut EventStream, is_patient: bool) -> Result<Sse, StreamEnd> {
        let since = Instant::now();
        loop {
            let next = match is_patient {
                true => Ok(events.next().await),
                false => tokio::time::timeout(self.silence_timeout, events.next()).await,
            };
            match next {
                Ok(Some(Ok(event))) => return Ok(event),
                Ok(Some(Err(_)) | None) if since.elapsed() < INITIAL_SILENCE_TIMEOUT => return Err(StreamEnd::Early),
                Ok(Some(Err(_)) | None) => return Err(StreamEnd::Late),
                Err(_) if self.source.call.pending_answers() != PendingAnswers::default() => {}
                Err(_) => return Err(StreamEnd::Silent),
            }
        }
    }

    /// Records an event in the cursor and returns its kind.
    async fn read_event(&mut self, mut event: Sse) -> EventKind {
        let (id, retry) = (event.id.take(), event.retry.take());
        if let Some(retry) = retry {
            self.server_delay = Some(Duration::from_millis(retry));
        }
        if id.is_none() || id != self.cursor.latest {
            self.empty_reconnects = 0;
            // An event without data may be the greeting of an otherwise silent stream.
            if event.data.as_ref().is_some_and(|data| !data.is_empty()) {
                self.silence_timeout = INITIAL_SILENCE_TIMEOUT;
            }
        }
        let header = event.data.as_deref().and_then(|data| serde_json::from_str::<MessageHeader>(data).ok());
        let (kind, request) = match header {
            Some(MessageHeader { id: Some(id), method: None }) => {
                if id_number(&id) == Some(self.request) {
                    // The response is not recorded: a host that ends before it is durable has to read it again.
                    return EventKind::Response(event);
                }
                (EventKind::Foreign, None)
            }
            Some(MessageHeader { id: Some(request), method: Some(_) }) => {
                match self.source.client.state.session.register_request(&request) {
                    true => (EventKind::Message(event), Some(request)),
                    false => (EventKind::Foreign, Some(request)),
                }
            }
            _ => (EventKind::Message(event), None),
        };
        if let Some(id) = id {
            self.cursor.advance(id, request);
            self.checkpoint().await;
        }
        kind
    }

    /// Saves the cursor from which a later process resumes the stream.
    async fn checkpoint(&mut self) {
        let session = &self.source.client.state.session;
        let committed = self.cursor.commit(|request| session.is_answered(request));
        let (Some(session), Some(last_event)) = (session.resumable_id(), committed) else { return };
        if self.checkpointed_at.is_some_and(|saved| saved.elapsed() < CHECKPOINT_INTERVAL) {
            return;
        }
        let task = self.source.call.remote_task.get().cloned();
        let checkpoint = StreamCheckpoint { session: session.to_owned(), request: self.request, last_event, task };
        let attempt = &self.source.call.attempt;
        let saved = self.source.client.state.save_call(attempt, &CallCheckpoint::Stream(checkpoint));
        // Questions must wait until the call can be resumed. Later checkpoints only save reading.
        if self.checkpointed_at.is_none() {
            saved.await;
        }
        self.checkpointed_at = Some(Instant::now());
    }

    /// Returns whether the call no longer needs the stream.
    fn is_moot(&self) -> bool {
        self.source.call.ended.is_cancelled()
            || self.source.call.transport_failure().is_some()
            || self.source.client.state.lost.is_cancelled()
    }

    /// Waits until the stream may be reopened.
    async fn pause_before_reopen(&mut self, ended: &StreamEnd) -> Result<(), Failure> {
        match ended {
            StreamEnd::Silent => {
                self.empty_reconnects = 0;
                self.silence_timeout = (self.silence_timeout * 2).min(MAX_RECONNECT_DELAY);
                return Ok(());
            }
            StreamEnd::Late => self.empty_reconnects = 0,
            StreamEnd::Early => {}
        }
        self.reconnect_failed("the server ends the stream without a response").await
    }

    /// Records a reconnect without events, and waits for the next one. Returns a failure after too many of them.
    async fn reconnect_failed(&mut self, why: &str) -> Result<(), Failure> {
        self.empty_reconnects += 1;
        if self.empty_reconnects > MAX_EMPTY_RECONNECTS {
            return Err(self.lost_failure(why));
        }
        let backoff = INITIAL_RECONNECT_DELAY
            .saturating_mul(2_u32.saturating_pow(self.empty_reconnects - 1))
            .min(MAX_RECONNECT_DELAY);
        let pause = match (self.server_delay, self.empty_reconnects) {
            (Some(retry), 1) => retry,
            (Some(retry), _) => retry.max(backoff),
            (None, _) => backoff,
        };
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Reopens the stream after the latest event.
    async fn reopen(&mut self) -> Result<EventStream, Failure> {
        loop {
            let mut headers = self.source.headers.clone();
            if let Some(Ok(last_event)) = self.cursor.latest.as_deref().map(HeaderValue::from_str) {
                headers.insert(HEADER_LAST_EVENT_ID, last_event);
            }
            let error = match self.source.client.open_stream(self.source.url.clone(), headers).await {
                Ok(response) => {
                    let overflow = self.source.client.overflow_handler(Some(self.source.call.clone()));
                    let max_bytes = self.source.client.state.max_message_bytes();
                    return Ok(sse::events(response, max_bytes, StreamKind::Messages, overflow));
                }
                Err(error) => error,
            };
            if error.is_session_expired() {
                self.source.client.state.mark_stale();
            }
            if !is_transient(&error) {
                return Err(self.lost_failure(&error.to_string()));
            }
            self.reconnect_failed(&error.to_string()).await?;
        }
    }

    fn lost_failure(&self, why: &str) -> Failure {
        let agent = &self.source.client.state.agent;
        let message = match self.lost_kind {
            FailureKind::Interrupted => format!("agent `{agent}` no longer has the call of the earlier process: {why}"),
            _ => format!("the response of agent `{agent}` was interrupted and could not be resumed: {why}"),
        };
        Failure::new(self.lost_kind, message)
    }
}

/// Returns whether a retry may succeed: the server may be restarting, or still hold the previous connection.
fn is_transient(error: &HttpError) -> bool {
    match error {
        HttpError::Connect(_)
        | HttpError::Disconnected(_)
        | HttpError::Authorization(AuthorizationError::Unavailable(_)) => true,
        HttpError::Status { status, .. } => {
            status.is_server_error()
                || matches!(*status, StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        }
        _ => false,
    }
}

/// The position in a stream: the latest event, and the position from which a later process resumes.
#[derive(Debug, Default)]
struct StreamCursor {
    latest: Option<String>,
    /// The later events, each with the ID of the agent's request in it. Consecutive events without a request are
    /// merged.
    unsettled: VecDeque<(String, Option<RequestId>)>,
}

impl StreamCursor {
    fn advance(&mut self, event: String, request: Option<RequestId>) {
        self.latest = Some(event.clone());
        match self.unsettled.back_mut() {
            Some((last, None)) if request.is_none() => *last = event,
            _ => self.unsettled.push_back((event, request)),
        }
    }

    /// Advances past the settled events, and returns the ID of the last one if there was any.
    fn commit(&mut self, is_answered: impl Fn(&RequestId) -> bool) -> Option<String> {
        let settled =
            self.unsettled.iter().take_while(|(_, request)| request.as_ref().is_none_or(&is_answered)).count();
        let (last, _) = self.unsettled.drain(..settled).next_back()?;
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(cursor: &mut StreamCursor, event: &str, request_id: Option<i64>) {
        cursor.advance(event.to_owned(), request_id.map(RequestId::Number));
    }

    #[test]
    fn cursor_stops_before_the_first_unanswered_request() {
        let mut cursor = StreamCursor::default();
        for (event, request_id) in
            [("e0", None), ("e1", None), ("e2", Some(7)), ("e3", None), ("e4", Some(8)), ("e5", None)]
        {
            advance(&mut cursor, event, request_id);
        }
        let mut settle = |answered_ids: &[i64]| {
            let is_answered = |id: &RequestId| answered_ids.iter().any(|answered| *id == RequestId::Number(*answered));
            cursor.commit(is_answered)
        };
        assert_eq!(settle(&[]), Some("e1".to_owned()));
        assert_eq!(settle(&[8]), None);
        assert_eq!(settle(&[7]), Some("e3".to_owned()));
        assert_eq!(settle(&[7, 8]), Some("e5".to_owned()));
        assert_eq!(settle(&[7, 8]), None);
    }

    #[test]
    fn cursor_stays_small_while_a_request_is_open() {
        let mut cursor = StreamCursor { latest: Some("e0".to_owned()), ..StreamCursor::default() };
        advance(&mut cursor, "e1", Some(7));
        for n in 2..1_000 {
            advance(&mut cursor, &format!("e{n}"), None);
        }
        assert_eq!((cursor.unsettled.len(), cursor.latest.as_deref()), (2, Some("e999")));
        assert_eq!(cursor.commit(|_| true), Some("e999".to_owned()));
    }
}
