//! Reads server-sent events: bounded in size, and with an end to reconnecting.
//! Never interprets a message.

use std::{
    borrow::Cow,
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::BoxStream};
use rmcp::transport::streamable_http_client::SseError;
use sse_stream::{Sse, SseStream};
use tokio::time::Instant;

use super::{lock, raw};

/// How often a stream is opened again without anything new on it. rmcp itself would go on for ever.
const FRUITLESS_STREAMS: u32 = 3;
/// A stream that lasted this long was worth opening even if nothing came.
const WORTHWHILE: Duration = Duration::from_secs(5);

/// The streams that were opened in vain, by the event after which they were to go on.
#[derive(Debug, Default)]
pub(super) struct Reconnects {
    /// Shared by the streams of one connection; held for a look-up.
    in_vain: Mutex<HashMap<String, u32>>,
}

impl Reconnects {
    /// Whether a stream after `last_event` may be opened; counts it as opened in vain until something comes.
    pub(super) fn may_open(&self, last_event: Option<&str>) -> bool {
        let mut in_vain = lock(&self.in_vain);
        let count = in_vain.entry(last_event.unwrap_or_default().to_owned()).or_default();
        *count += 1;
        *count <= FRUITLESS_STREAMS
    }

    fn bore_fruit(&self, last_event: &str) {
        lock(&self.in_vain).remove(last_event);
    }
}

/// A stream that was opened to go on where another broke off.
pub(super) struct Reopened {
    pub(super) reconnects: Arc<Reconnects>,
    pub(super) last_event: String,
}

/// The events of a response. `overflowed` is called when one is larger than `limit`, and the stream ends.
pub(super) fn events(
    response: reqwest::Response,
    limit: usize,
    reopened: Option<Reopened>,
    overflowed: impl Fn() + Send + 'static,
) -> BoxStream<'static, Result<Sse, SseError>> {
    let size = Arc::new(AtomicUsize::new(0));
    let read = size.clone();
    let bytes = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(|error| io::Error::other(error.without_url()))?;
        if read.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len() > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the event is too large"));
        }
        Ok(chunk)
    });
    let mut events = SseStream::from_bytes_stream(bytes.boxed());
    let opened = Instant::now();
    async_stream::stream! {
        while let Some(mut event) = events.next().await {
            size.store(0, Ordering::Relaxed);
            match &mut event {
                Ok(event) => {
                    save(event);
                    if let Some(reopened) = &reopened
                        && is_new(event, &reopened.last_event)
                    {
                        reopened.reconnects.bore_fruit(&reopened.last_event);
                    }
                }
                Err(SseError::Body(error)) if is_overflow(error.as_ref()) => overflowed(),
                Err(_) => {}
            }
            let over = event.is_err();
            yield event;
            if over {
                break;
            }
        }
        if let Some(reopened) = &reopened
            && opened.elapsed() >= WORTHWHILE
        {
            reopened.reconnects.bore_fruit(&reopened.last_event);
        }
    }
    .boxed()
}

/// Saves what rmcp would drop of the message in an event.
fn save(event: &mut Sse) {
    let saved = event.data.as_deref().map(|data| raw::save(data.as_bytes()));
    if let Some(Cow::Owned(saved)) = saved {
        event.data = String::from_utf8(saved).ok();
    }
}

/// Some servers repeat the last event on every stream.
fn is_new(event: &Sse, last_event: &str) -> bool {
    match &event.id {
        Some(id) => id != last_event,
        None => event.data.is_some(),
    }
}

fn is_overflow(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::FileTooLarge) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_on_a_stream_that_is_opened_in_vain() {
        let reconnects = Reconnects::default();
        let opened = |last| (0..5).map(|_| reconnects.may_open(last)).collect::<Vec<_>>();
        assert_eq!(opened(Some("e1")), [true, true, true, false, false]);
        assert_eq!(opened(None), [true, true, true, false, false]);
        reconnects.bore_fruit("e1");
        assert!(reconnects.may_open(Some("e1")));
    }

    #[tokio::test]
    async fn ends_a_stream_whose_event_is_too_large() {
        let body = format!("data: small\n\ndata: {}\n\n", "x".repeat(100));
        let chunks = futures::stream::iter([&body.as_bytes()[..13], &body.as_bytes()[13..]].map(<[u8]>::to_vec))
            .map(Ok::<_, io::Error>);
        let response = http::Response::new(reqwest::Body::wrap_stream(chunks));
        let (told, overflowed) = std::sync::mpsc::channel();
        let events: Vec<_> = events(response.into(), 50, None, move || told.send(()).unwrap())
            .map(|event| event.is_ok())
            .collect()
            .await;
        assert_eq!((events, overflowed.try_iter().count()), (vec![true, false], 1));
    }
}
