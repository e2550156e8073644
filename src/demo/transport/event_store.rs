//! Stores the events of Streamable HTTP streams in memory, so that broken streams can be resumed. A stream is stored
//! completely or not at all.

use std::sync::Arc;

use async_stream::stream;
use indexmap::IndexMap;
use rmcp::model::JsonRpcMessage;
use rmcp::transport::streamable_http_server::session::{EventStore, EventStoreError, EventStream, ServerSseMessage};
use tokio::sync::watch;

/// The maximum number of events in all streams. A call has about ten, so this suffices for thousands of calls. Above
/// the limit, the stream that was idle for longest is removed.
const MAX_EVENTS: usize = 50_000;

/// The event store. Clones share the same store.
#[derive(Clone)]
pub(crate) struct EventLog(Arc<watch::Sender<EventLogState>>);

struct EventLogState {
    /// The events of each stream. The stream that was idle for longest is the first.
    streams: IndexMap<String, Vec<ServerSseMessage>>,
    events: usize,
    limit: usize,
}

/// The result of looking up the next event of a stream.
enum NextEvent {
    Event(ServerSseMessage),
    Pending,
    Ended,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self::with_limit(MAX_EVENTS)
    }

    fn with_limit(limit: usize) -> Self {
        Self(Arc::new(watch::Sender::new(EventLogState { streams: IndexMap::new(), events: 0, limit })))
    }

    /// Returns the events of `stream_id` from number `from` up to the response, including future ones. The stream ends
    /// when it is removed from the store.
    pub(crate) fn subscribe(&self, stream_id: String, from: usize) -> EventStream {
        let mut log = self.0.subscribe();
        Box::pin(stream! {
            let mut position = from;
            loop {
                let next = log.borrow_and_update().after(&stream_id, position);
                match next {
                    NextEvent::Event(event) => {
                        position += 1;
                        yield event;
                    }
                    NextEvent::Pending if log.changed().await.is_ok() => {}
                    NextEvent::Pending | NextEvent::Ended => break,
                }
            }
        })
    }

    /// Removes a stream, which ends its subscribers.
    pub(crate) fn remove_stream(&self, stream_id: &str) {
        self.0.send_modify(|log| log.remove_stream(stream_id));
    }
}

impl EventLogState {
    fn add(&mut self, stream_id: &str, event: &ServerSseMessage) -> String {
        // The stream becomes the last one.
        let mut events = self.streams.shift_remove(stream_id).unwrap_or_default();
        while self.events >= self.limit
            && let Some((_, removed)) = self.streams.shift_remove_index(0)
        {
            self.events -= removed.len();
        }
        let id = format!("{}@{stream_id}", events.len());
        let mut event = event.clone();
        event.event_id = Some(id.clone());
        events.push(event);
        self.events += 1;
        self.streams.insert(stream_id.to_owned(), events);
        id
    }

    fn after(&self, stream_id: &str, position: usize) -> NextEvent {
        let Some(events) = self.streams.get(stream_id) else {
            // Nothing has been sent yet, or the stream has been removed.
            return if position == 0 { NextEvent::Pending } else { NextEvent::Ended };
        };
        match (events.get(position), events.last()) {
            (Some(event), _) => NextEvent::Event(event.clone()),
            (None, Some(last)) if is_final(last) => NextEvent::Ended,
            (None, _) => NextEvent::Pending,
        }
    }

    fn remove_stream(&mut self, stream_id: &str) {
        self.events -= self.streams.shift_remove(stream_id).map_or(0, |events| events.len());
    }
}

/// Returns whether the event is the response that ends its stream.
fn is_final(event: &ServerSseMessage) -> bool {
    matches!(event.message.as_deref(), Some(JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)))
}

#[async_trait::async_trait]
impl EventStore for EventLog {
    async fn store_event(&self, stream_id: &str, event: &ServerSseMessage) -> Result<String, EventStoreError> {
        let mut id = String::new();
        self.0.send_modify(|log| id = log.add(stream_id, event));
        Ok(id)
    }

    async fn replay_events_after(&self, last_event_id: &str) -> Result<EventStream, EventStoreError> {
        let unknown = || EventStoreError::from(format!("event `{last_event_id}` does not exist"));
        let (position, stream_id) = last_event_id.split_once('@').ok_or_else(unknown)?;
        let position: usize = position.parse().map_err(|_| unknown())?;
        if !matches!(self.0.borrow().after(stream_id, position), NextEvent::Event(_)) {
            return Err(unknown());
        }
        Ok(self.subscribe(stream_id.to_owned(), position + 1))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};
    use rmcp::model::{ErrorData, ServerJsonRpcMessage};

    use super::*;

    fn event() -> ServerSseMessage {
        ServerSseMessage::default()
    }

    fn answer() -> ServerSseMessage {
        ServerSseMessage::from_message(ServerJsonRpcMessage::error(ErrorData::internal_error("an answer", None), None))
    }

    async fn ids(stream: EventStream) -> Vec<String> {
        stream.map(|event| event.event_id.unwrap_or_default()).collect().await
    }

    #[tokio::test]
    async fn replay_continues_after_the_event_until_the_response() {
        let events = EventLog::new();
        for _ in 0..3 {
            events.store_event("a", &event()).await.expect("stored");
            events.store_event("b", &event()).await.expect("stored");
        }
        events.store_event("a", &answer()).await.expect("stored");
        let replayed = events.replay_events_after("0@a").await.expect("known");
        assert_eq!(ids(replayed).await, ["1@a", "2@a", "3@a"]);
    }

    #[tokio::test]
    async fn resumed_streams_include_later_events() {
        let events = EventLog::new();
        events.store_event("a", &event()).await.expect("stored");
        let mut resumed = events.replay_events_after("0@a").await.expect("known");
        assert_eq!(resumed.next().now_or_never().flatten().map(|event| event.event_id), None);
        events.store_event("a", &event()).await.expect("stored");
        events.store_event("a", &answer()).await.expect("stored");
        assert_eq!(ids(resumed).await, ["1@a", "2@a"]);
    }

    #[tokio::test]
    async fn least_recently_written_stream_is_removed() {
        let events = EventLog::with_limit(4);
        for stream in ["old", "old", "new", "new", "new"] {
            events.store_event(stream, &event()).await.expect("stored");
        }
        assert!(events.replay_events_after("0@old").await.is_err());
        events.store_event("new", &answer()).await.expect("stored");
        let replayed = events.replay_events_after("0@new").await.expect("known");
        assert_eq!(ids(replayed).await, ["1@new", "2@new", "3@new"]);
    }

    #[tokio::test]
    async fn unknown_event_ids_are_refused() {
        let events = EventLog::new();
        events.store_event("a", &event()).await.expect("stored");
        for id in ["", "0", "1@a", "0@b", "x@a", "-1@a"] {
            assert!(events.replay_events_after(id).await.is_err(), "{id}");
        }
    }
}
