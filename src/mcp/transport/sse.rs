//! Reads server-sent events, with limits on their size and on reconnects. Converts messages for the service to the form
//! that rmcp accepts.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use rmcp::model::ServerJsonRpcMessage;
use rmcp::transport::streamable_http_client::SseError;
use serde_json::value::RawValue;
use sse_stream::Sse;
use tokio::time::Instant;

use crate::mcp::message::codec::{self, ExpectedResult, Incoming, PendingRequests};
use crate::mcp::message::service_result;
use crate::mcp::requests::connection_state::ConnectionState;

/// The name of the first event of HTTP+SSE, whose data is the address for messages.
pub(crate) const ENDPOINT_EVENT: &str = "endpoint";

/// The events of a response, or the error that ended them.
pub(crate) type EventStream = BoxStream<'static, Result<Sse, SseError>>;

/// The maximum number of reopened streams without a new event. rmcp itself has no limit.
const MAX_EMPTY_STREAMS: u32 = 3;
/// The duration after which a stream counts as useful even without an event.
const MIN_USEFUL_DURATION: Duration = Duration::from_secs(5);

/// The number of reopened streams without a new event, by the last event ID.
#[derive(Debug, Default)]
pub(crate) struct ReconnectLimiter {
    /// Shared by the streams of one connection. Locked only for a lookup.
    empty_opens: Mutex<HashMap<String, u32>>,
}

impl ReconnectLimiter {
    /// Returns whether a stream after `last_event` may be opened. Counts it as empty until an event arrives.
    pub(crate) fn try_open(&self, last_event: Option<&str>) -> bool {
        let mut empty_opens = self.empty_opens.lock();
        let count = empty_opens.entry(last_event.unwrap_or_default().to_owned()).or_default();
        *count += 1;
        *count <= MAX_EMPTY_STREAMS
    }

    fn made_progress(&self, last_event: &str) {
        self.empty_opens.lock().remove(last_event);
    }
}

/// The kind of an event stream.
pub(crate) enum StreamKind {
    /// The messages of a response.
    Messages,
    /// The messages of a stream that resumes after the last event of a broken one.
    Reopened { reconnects: Arc<ReconnectLimiter>, last_event: String },
    /// All messages of a server over HTTP+SSE, and the `endpoint` event, which keeps its name and its data.
    HttpSse,
}

/// Returns the events of a response. Events other than messages have no data. Calls `overflowed` and ends the stream if
/// an event is larger than `limit`.
pub(crate) fn events(
    response: reqwest::Response,
    limit: usize,
    kind: StreamKind,
    overflowed: impl Fn() + Send + 'static,
) -> EventStream {
    let size = Arc::new(AtomicUsize::new(0));
    let read = size.clone();
    let bytes = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(|error| io::Error::other(error.without_url()))?;
        if read.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the event is too large"));
        }
        Ok(chunk)
    });
    let mut bytes = bytes.boxed();
    let opened = Instant::now();
    async_stream::stream! {
        let mut parser = EventParser { keeps_endpoint: matches!(kind, StreamKind::HttpSse), ..EventParser::default() };
        while let Some(chunk) = bytes.next().await {
            let events = match chunk {
                Ok(chunk) => parser.push(&chunk),
                Err(error) => {
                    if error.kind() == io::ErrorKind::FileTooLarge {
                        overflowed();
                    }
                    yield Err(SseError::Body(Box::new(error)));
                    parser = EventParser::default();
                    break;
                }
            };
            if !events.is_empty() {
                size.store(0, Ordering::Relaxed);
            }
            for event in events {
                if let StreamKind::Reopened { reconnects, last_event } = &kind
                    && is_new(&event, last_event)
                {
                    reconnects.made_progress(last_event);
                }
                yield Ok(event);
            }
        }
        if let Some(event) = parser.finish() {
            yield Ok(event);
        }
        if let StreamKind::Reopened { reconnects, last_event } = &kind
            && opened.elapsed() >= MIN_USEFUL_DURATION
        {
            reconnects.made_progress(last_event);
        }
    }
    .boxed()
}

/// Returns the events of a stream of the service, each with at most one message in the form that rmcp accepts.
/// `request` is the ID of the request to which the stream belongs, if any.
pub(crate) fn service_messages(
    mut events: EventStream,
    state: Arc<ConnectionState>,
    request: Option<i64>,
) -> EventStream {
    let requests = StreamRequests { state, request };
    async_stream::stream! {
        while let Some(event) = events.next().await {
            let mut event = match event {
                Ok(event) => event,
                Err(error) => {
                    yield Err(error);
                    continue;
                }
            };
            let mut messages = event.data.take().map(|data| requests.read(&data)).unwrap_or_default();
            // The event ID comes with the last message, when the whole event has been processed.
            let last = messages.pop();
            for message in messages {
                yield Ok(Sse::default().data(message));
            }
            event.data = last;
            yield Ok(event);
        }
    }
    .boxed()
}

/// The requests to which messages on a stream of the service can belong.
struct StreamRequests {
    state: Arc<ConnectionState>,
    request: Option<i64>,
}

impl StreamRequests {
    /// Returns the messages in the data of an event, in the form that rmcp accepts.
    fn read(&self, data: &str) -> Vec<String> {
        let messages = codec::read(data, self).unwrap_or_else(|reason| {
            if !data.trim().is_empty() {
                tracing::debug!(agent = %self.state.agent, reason, "an event holds no message");
            }
            Vec::new()
        });
        let messages = messages.into_iter().filter_map(|message| self.message(message));
        messages.filter_map(|message| serde_json::to_string(&message).ok()).collect()
    }

    fn message(&self, incoming: Incoming) -> Option<ServerJsonRpcMessage> {
        match incoming {
            Incoming::Message(message) => {
                self.state.requests.remove_answered(&message);
                return Some(*message);
            }
            Incoming::UnreadableResponse(id, reason) => {
                self.state.requests.remove(&id);
                return Some(service_result::unreadable_response(id, reason));
            }
            Incoming::Progress(token, progress) => self.state.report_progress(&token, progress),
            Incoming::Log(message) => self.state.log(message),
            Incoming::UnknownResponse(id) => self.state.calls.settle_abandoned(&id),
            // Results of calls are forwarded as text.
            Incoming::CallResponse(request, answer) => self.state.calls.deliver(request, Ok(answer)),
        }
        None
    }
}

impl PendingRequests for StreamRequests {
    fn expected_result(&self, id: i64) -> Option<ExpectedResult> {
        // The response of a call must stay behind the agent's earlier requests.
        self.state
            .expected_result(id)
            .map(|expected| if expected == ExpectedResult::Call { ExpectedResult::Text } else { expected })
    }

    fn single_open(&self) -> Option<i64> {
        self.request.or_else(|| self.state.single_open())
    }
}

/// A parser of event streams as defined by the HTML standard. Unknown fields and invalid UTF-8 are not errors.
#[derive(Debug, Default)]
pub(crate) struct EventParser {
    line: Vec<u8>,
    /// Whether the last byte was a carriage return. A line feed after it belongs to the same line ending.
    after_carriage_return: bool,
    has_started: bool,
    /// True for HTTP+SSE.
    keeps_endpoint: bool,
    event: Sse,
}

impl EventParser {
    /// Appends bytes, and returns the events that they complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Vec<Sse> {
        let mut events = Vec::new();
        loop {
            if self.after_carriage_return && !bytes.is_empty() {
                self.after_carriage_return = false;
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(bytes);
                return events;
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_carriage_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            events.extend(self.end_line());
        }
    }

    /// Returns the final event of a stream without a closing empty line, if its data is complete.
    pub(crate) fn finish(mut self) -> Option<Sse> {
        self.end_line();
        let event = self.dispatch()?;
        let is_whole = event.data.as_deref().is_some_and(|data| serde_json::from_str::<&RawValue>(data).is_ok());
        is_whole.then_some(Sse { id: None, ..event })
    }

    fn end_line(&mut self) -> Option<Sse> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = if self.has_started { &*text } else { text.trim_start_matches('\u{FEFF}') };
        self.has_started = true;
        let (field, value) = match text.split_once(':') {
            Some((field, value)) => (field, value.strip_prefix(' ').unwrap_or(value)),
            None if text.is_empty() => return self.dispatch(),
            None => (text, ""),
        };
        match field {
            "data" => match &mut self.event.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.event.data = Some(value.to_owned()),
            },
            "event" => self.event.event = Some(value.to_owned()),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "retry" => self.event.retry = value.trim().parse().ok().or(self.event.retry),
            _ => {}
        }
        None
    }

    /// Returns the parsed event, without its data if it is not a message. If `keeps_endpoint`, an `endpoint` event keeps
    /// its data and its name.
    fn dispatch(&mut self) -> Option<Sse> {
        let mut event = std::mem::take(&mut self.event);
        match event.event.as_deref() {
            Some(ENDPOINT_EVENT) if self.keeps_endpoint => {}
            None | Some("" | "message") => event.event = None,
            Some(_) => (event.event, event.data) = (None, None),
        }
        (event != Sse::default()).then_some(event)
    }
}

/// Returns whether an event is new. Some servers repeat the last event on every stream.
fn is_new(event: &Sse, last_event: &str) -> bool {
    match &event.id {
        Some(id) => id != last_event,
        None => event.data.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ClientRequest, ListToolsRequest, RequestId};
    use serde_json::json;

    use super::*;
    use crate::mcp::samples;

    #[test]
    fn empty_streams_are_reopened_a_bounded_number_of_times() {
        let reconnects = ReconnectLimiter::default();
        let opened = |last| (0..5).map(|_| reconnects.try_open(last)).collect::<Vec<_>>();
        assert_eq!(opened(Some("e1")), [true, true, true, false, false]);
        assert_eq!(opened(None), [true, true, true, false, false]);
        reconnects.made_progress("e1");
        assert!(reconnects.try_open(Some("e1")));
    }

    #[test]
    fn streams_are_split_into_events() {
        let message = |data: &str| Sse { data: Some(data.to_owned()), ..Sse::default() };
        let stream = b"\xEF\xBB\xBFdata: a\r\ndata:b\r\r\n: comment\nretry: soon\nodd\nx-more: 1\ndata: caf\xe9\n\n\
            event: ping\nid: 1\ndata: {}\n\nevent: message\nid: 2\nid: 3\nretry: 5\ndata\n\nevent: endpoint\ndata: /m\n\n";
        let last = Sse { id: Some("3".to_owned()), retry: Some(5), ..message("") };
        let endpoint = Sse { event: Some(ENDPOINT_EVENT.to_owned()), ..message("/m") };
        let messages = [message("a\nb"), message("caf\u{FFFD}"), Sse::default().id("1"), last];
        let all = [&messages[..], &[endpoint]].concat();
        for (keeps_endpoint, expected) in [(false, &messages[..]), (true, &all)] {
            for size in [1, 2, 7, stream.len()] {
                let mut parser = EventParser { keeps_endpoint, ..EventParser::default() };
                let events: Vec<_> = stream.chunks(size).flat_map(|chunk| parser.push(chunk)).collect();
                assert_eq!(events, expected, "in chunks of {size}");
                assert_eq!(parser.finish(), None);
            }
        }
    }

    #[test]
    fn unterminated_events_with_complete_data_are_read() {
        let rest = |stream: &[u8]| {
            let mut parser = EventParser::default();
            assert_eq!(parser.push(stream), []);
            parser.finish()
        };
        assert_eq!(rest(b"id: 1\ndata: {\"a\": 1}"), Some(Sse::default().data("{\"a\": 1}")));
        assert_eq!([rest(b"data: {\"a\": "), rest(b"data: {}\nevent: ping"), rest(b"")], [None, None, None]);
    }

    #[test]
    fn messages_are_normalized_for_the_service() {
        let state = samples::connection_state();
        let list = ClientRequest::ListToolsRequest(ListToolsRequest::default());
        state.requests.add(&RequestId::Number(4), &list);
        let requests = StreamRequests { state, request: Some(4) };
        let read = |data: &str| {
            let messages = requests.read(data);
            messages.iter().map(|text| serde_json::from_str(text).unwrap()).collect::<Vec<serde_json::Value>>()
        };
        for nothing in ["", "keep-alive", "{}", r#"{"time": 1}"#, r#"{"jsonrpc": "2.0", "id": 9, "result": {}}"#] {
            assert_eq!(read(nothing), [] as [serde_json::Value; 0], "{nothing}");
        }
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        assert_eq!(read(r#"[{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}]"#), [ping]);
        let answer = read(r#"{"jsonrpc": "2.0", "id": 4, "result": {"tools":[NaN]}, "error": null}"#);
        assert_eq!(answer, [json!({"jsonrpc": "2.0", "id": 4, "result": "{\"tools\":[null]}"})]);
    }

    #[tokio::test]
    async fn oversized_events_end_the_stream() {
        let body = format!("data: small\n\ndata: {}\n\n", "x".repeat(100));
        let chunks = futures::stream::iter([&body.as_bytes()[..13], &body.as_bytes()[13..]].map(<[u8]>::to_vec))
            .map(Ok::<_, io::Error>);
        let response = http::Response::new(reqwest::Body::wrap_stream(chunks));
        let (sender, overflowed) = std::sync::mpsc::channel();
        let events: Vec<_> = events(response.into(), 50, StreamKind::Messages, move || sender.send(()).unwrap())
            .map(|event| event.is_ok())
            .collect()
            .await;
        assert_eq!((events, overflowed.try_iter().count()), (vec![true, false], 1));
    }
}
