//! Keeps the events of Streamable HTTP streams in memory, so that a broken stream can be taken up again.
//! Never drops a part of a stream: a stream is kept whole or not at all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_stream::stream;
use rmcp::{
    model::JsonRpcMessage,
    transport::streamable_http_server::session::{EventStore, EventStoreError, EventStream, ServerSseMessage},
};
use tokio::sync::watch;

/// The most events over all streams. A call of a demo agent has about ten, so this is some thousand calls; beyond
/// it, the stream that was quiet for longest is forgotten.
const MAX_EVENTS: usize = 50_000;

/// The store; clones share it.
#[derive(Clone)]
pub(super) struct Events {
    // A lock: the store is written by every session and read by every resumed stream, for microseconds at a time
    // and never across an await.
    log: Arc<Mutex<Log>>,
    /// Tells the followers that something was added.
    added: Arc<watch::Sender<()>>,
}

struct Log {
    streams: HashMap<String, Vec<ServerSseMessage>>,
    /// The place of each stream's last event in the order of all, for forgetting the quietest.
    touched: HashMap<String, u64>,
    events: usize,
    next: u64,
    limit: usize,
}

/// Where a follower stands after looking for more.
enum More {
    Event(ServerSseMessage),
    NotYet,
    Never,
}

impl Events {
    pub(super) fn new() -> Self {
        Self::with_limit(MAX_EVENTS)
    }

    fn with_limit(limit: usize) -> Self {
        let log = Log { streams: HashMap::new(), touched: HashMap::new(), events: 0, next: 0, limit };
        Self { log: Arc::new(Mutex::new(log)), added: Arc::new(watch::Sender::new(())) }
    }

    /// The events of `stream_id` from number `from` on: first those that are there, then those that come, until
    /// the response. A stream that has been forgotten ends.
    pub(super) fn follow(&self, stream_id: String, from: usize) -> EventStream {
        let (log, mut added) = (self.log.clone(), self.added.subscribe());
        Box::pin(stream! {
            let mut position = from;
            loop {
                let more = lock(&log).after(&stream_id, position);
                match more {
                    More::Event(event) => {
                        position += 1;
                        yield event;
                    }
                    More::Never => break,
                    More::NotYet => {
                        if added.changed().await.is_err() {
                            break;
                        }
                    }
                }
            }
        })
    }

    /// Forgets a stream; its followers end.
    pub(super) fn forget(&self, stream_id: &str) {
        lock(&self.log).forget(stream_id);
        self.added.send_replace(());
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    // The log is whole after each of its operations, none of which can panic half way.
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    fn add(&mut self, stream_id: &str, event: &ServerSseMessage) -> String {
        while self.events >= self.limit {
            let others = self.touched.iter().filter(|(id, _)| *id != stream_id);
            let Some(quietest) = others.min_by_key(|(_, touched)| **touched).map(|(id, _)| id.clone()) else { break };
            self.forget(&quietest);
        }
        let events = self.streams.entry(stream_id.to_owned()).or_default();
        let id = format!("{}@{stream_id}", events.len());
        let mut event = event.clone();
        event.event_id = Some(id.clone());
        events.push(event);
        self.events += 1;
        self.next += 1;
        self.touched.insert(stream_id.to_owned(), self.next);
        id
    }

    fn after(&self, stream_id: &str, position: usize) -> More {
        let Some(events) = self.streams.get(stream_id) else {
            // Nothing has been sent yet, or all of it has been forgotten.
            return if position == 0 { More::NotYet } else { More::Never };
        };
        match (events.get(position), events.last()) {
            (Some(event), _) => More::Event(event.clone()),
            (None, Some(last)) if is_final(last) => More::Never,
            (None, _) => More::NotYet,
        }
    }

    fn forget(&mut self, stream_id: &str) {
        self.touched.remove(stream_id);
        self.events -= self.streams.remove(stream_id).map_or(0, |events| events.len());
    }
}

/// Whether the event ends its stream: the answer to the request that opened it.
fn is_final(event: &ServerSseMessage) -> bool {
    matches!(event.message.as_deref(), Some(JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)))
}

#[async_trait::async_trait]
impl EventStore for Events {
    async fn store_event(&self, stream_id: &str, event: &ServerSseMessage) -> Result<String, EventStoreError> {
        let id = lock(&self.log).add(stream_id, event);
        self.added.send_replace(());
        Ok(id)
    }

    async fn replay_events_after(&self, last_event_id: &str) -> Result<EventStream, EventStoreError> {
        let unknown = || EventStoreError::from(format!("there is no event `{last_event_id}`"));
        let (position, stream_id) = last_event_id.split_once('@').ok_or_else(unknown)?;
        let position: usize = position.parse().map_err(|_| unknown())?;
        if !matches!(lock(&self.log).after(stream_id, position), More::Event(_)) {
            return Err(unknown());
        }
        Ok(self.follow(stream_id.to_owned(), position + 1))
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
    async fn replays_what_came_after_an_event_and_ends_with_the_answer() {
        let events = Events::new();
        for _ in 0..3 {
            events.store_event("a", &event()).await.expect("stored");
            events.store_event("b", &event()).await.expect("stored");
        }
        events.store_event("a", &answer()).await.expect("stored");
        let replayed = events.replay_events_after("0@a").await.expect("known");
        assert_eq!(ids(replayed).await, ["1@a", "2@a", "3@a"]);
    }

    #[tokio::test]
    async fn a_resumed_stream_goes_on_with_what_comes_later() {
        let events = Events::new();
        events.store_event("a", &event()).await.expect("stored");
        let mut resumed = events.replay_events_after("0@a").await.expect("known");
        assert_eq!(resumed.next().now_or_never().flatten().map(|event| event.event_id), None);
        events.store_event("a", &event()).await.expect("stored");
        events.store_event("a", &answer()).await.expect("stored");
        assert_eq!(ids(resumed).await, ["1@a", "2@a"]);
    }

    #[tokio::test]
    async fn forgets_the_quietest_stream_as_a_whole() {
        let events = Events::with_limit(4);
        for stream in ["old", "old", "new", "new", "new"] {
            events.store_event(stream, &event()).await.expect("stored");
        }
        assert!(events.replay_events_after("0@old").await.is_err());
        events.store_event("new", &answer()).await.expect("stored");
        let replayed = events.replay_events_after("0@new").await.expect("known");
        assert_eq!(ids(replayed).await, ["1@new", "2@new", "3@new"]);
    }

    #[tokio::test]
    async fn does_not_take_other_ids_for_its_own() {
        let events = Events::new();
        events.store_event("a", &event()).await.expect("stored");
        for id in ["", "0", "1@a", "0@b", "x@a", "-1@a"] {
            assert!(events.replay_events_after(id).await.is_err(), "{id}");
        }
    }
}
