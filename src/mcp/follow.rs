//! Follows the response stream of one call in a legacy session: over broken connections, and from where an earlier
//! process left it. Keeps a note of how far it was read.
//! Never sends the call.
//!
//! What holds after the host's end: the call has a note once the first event with an id has come, which servers that
//! keep events send at once. Between the request and that event there is nothing by which it could be found again, so
//! that its outcome is unknown, as it is for servers that give their events no ids.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use rmcp::{
    model::RequestId,
    transport::{common::http_header::HEADER_LAST_EVENT_ID, streamable_http_client::SseError},
};
use serde::{Deserialize, de::IgnoredAny};
use sse_stream::Sse;
use tokio::time::Instant;

use super::{
    LARGEST_MESSAGE,
    calls::{Asking, InFlight, normal},
    http::HttpClient,
    link::Link,
    note::{CallNote, StreamNote},
    response::HttpError,
    sse,
};
use crate::model::{Failure, FailureKind, NoteKey};

/// The stream is opened this often in a row without a single event, at growing intervals: a quarter of a minute in
/// all, in which a server can restart.
const MOST_FRUITLESS: u32 = 6;
/// The first pause before the stream is opened again, unless the server says how long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A stream that was opened again and is silent for this long may be one that the server forgot about: some repeat
/// old events there, and send new ones nowhere. It is opened once more.
const FIRST_SILENCE: Duration = Duration::from_millis(1_500);
/// The longest pause, and the longest silence.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often the note of a call is renewed. What has come since comes again after the host's end, and does no harm.
const NOTE_INTERVAL: Duration = Duration::from_millis(100);

type EventStream = BoxStream<'static, Result<Sse, SseError>>;

/// How the stream of one call is read.
pub(super) struct Follower {
    client: HttpClient,
    link: Arc<Link>,
    url: Url,
    headers: HeaderMap,
    call: Arc<InFlight>,
    /// The id of the call's request on the wire.
    request: i64,
    /// What has become of the call if it can be followed no further.
    fate: FailureKind,
    bookmark: Bookmark,
    fruitless: u32,
    /// How long the server wants to be left alone before the stream is opened again.
    retry: Option<Duration>,
    /// How long a stream that was opened again may be silent.
    silence: Duration,
    noted: Option<Instant>,
}

/// Whose stream it is, and how to ask for it again.
pub(super) struct Source {
    pub(super) client: HttpClient,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) call: Arc<InFlight>,
}

/// Why no more events come over one connection.
enum Ended {
    /// Nothing came for a while.
    Silent,
    /// The server ended it, or it broke, before it could be called silent.
    AtOnce,
    /// The server ended it, or it broke, later on.
    InTheEnd,
}

/// What an event is to the call.
enum Read {
    Answer(Sse),
    Message(Sse),
    /// It is another call's, or has come before.
    Foreign,
}

/// As much of a message as tells what it is.
#[derive(Deserialize)]
struct Envelope {
    id: Option<RequestId>,
    method: Option<IgnoredAny>,
}

impl Follower {
    /// Follows a call that this process made.
    pub(super) fn new(source: Source, link: Arc<Link>, request: i64) -> Self {
        let Source { client, url, headers, call } = source;
        Self {
            client,
            link,
            url,
            headers,
            call,
            request,
            fate: FailureKind::ConnectionLost,
            bookmark: Bookmark::default(),
            fruitless: 0,
            retry: None,
            silence: FIRST_SILENCE,
            noted: None,
        }
    }

    /// Follows a call that an earlier process made.
    pub(super) fn from(note: StreamNote, source: Source, link: Arc<Link>) -> Self {
        Self {
            fate: FailureKind::Interrupted,
            bookmark: Bookmark::at(note.last_event),
            ..Self::new(source, link, note.request)
        }
    }

    /// The events of the call up to its answer, beginning with those of `opened` if there is a stream already. They
    /// bear no ids: rmcp would open the stream again by itself.
    pub(super) fn events(mut self, opened: Option<EventStream>) -> EventStream {
        async_stream::stream! {
            let mut patient = opened.is_some();
            let mut opened = opened;
            loop {
                let mut events = match opened.take() {
                    Some(events) => events,
                    None => match self.open().await {
                        Ok(events) => events,
                        Err(failure) => {
                            self.call.condemn(failure);
                            return;
                        }
                    },
                };
                let ended = loop {
                    let event = match self.next(&mut events, patient).await {
                        Ok(event) => event,
                        Err(ended) => break ended,
                    };
                    match self.read(event).await {
                        Read::Message(event) => yield Ok(event),
                        Read::Foreign => {}
                        Read::Answer(event) => {
                            yield Ok(event);
                            // What follows is nobody's, and leaves the connection fit for another request.
                            while events.next().await.is_some() {}
                            return;
                        }
                    }
                };
                drop(events);
                if self.is_moot() || self.bookmark.newest.is_none() {
                    return;
                }
                if let Err(failure) = self.pause(&ended).await {
                    self.call.condemn(failure);
                    return;
                }
                patient = false;
            }
        }
        .boxed()
    }

    /// The next event; a stream that was opened again may be silent only while the agent waits for an answer.
    async fn next(&self, events: &mut EventStream, patient: bool) -> Result<Sse, Ended> {
        let since = Instant::now();
        loop {
            let next = match patient {
                true => Ok(events.next().await),
                false => tokio::time::timeout(self.silence, events.next()).await,
            };
            match next {
                Ok(Some(Ok(event))) => return Ok(event),
                Ok(Some(Err(_)) | None) if since.elapsed() < FIRST_SILENCE => return Err(Ended::AtOnce),
                Ok(Some(Err(_)) | None) => return Err(Ended::InTheEnd),
                Err(_) if self.call.asking() != Asking::default() => {}
                Err(_) => return Err(Ended::Silent),
            }
        }
    }

    /// Takes note of an event, and says what it is.
    async fn read(&mut self, mut event: Sse) -> Read {
        let (id, retry) = (event.id.take(), event.retry.take());
        if let Some(retry) = retry {
            self.retry = Some(Duration::from_millis(retry));
        }
        if id.is_none() || id != self.bookmark.newest {
            self.fruitless = 0;
            // Without data, it may be no more than the greeting on a stream that is silent otherwise.
            if event.data.as_ref().is_some_and(|data| !data.is_empty()) {
                self.silence = FIRST_SILENCE;
            }
        }
        let envelope = event.data.as_deref().and_then(|data| serde_json::from_str::<Envelope>(data).ok());
        let (read, asked) = match envelope {
            Some(Envelope { id: Some(answered), method: None }) => {
                if normal(&answered) == RequestId::Number(self.request) {
                    // A host that ends before the answer is durable has to read it again.
                    return Read::Answer(event);
                }
                (Read::Foreign, None)
            }
            Some(Envelope { id: Some(asked), method: Some(_) }) => match self.link.session.is_asked_anew(&asked) {
                true => (Read::Message(event), Some(asked)),
                false => (Read::Foreign, Some(asked)),
            },
            _ => (Read::Message(event), None),
        };
        if let Some(id) = id {
            self.bookmark.pass(id, asked);
            self.note().await;
        }
        read
    }

    /// Keeps a note of how far a later process need not read again.
    async fn note(&mut self) {
        let session = &self.link.session;
        let moved = self.bookmark.settle(|request| session.is_answered(request));
        let (Some(session), Some(last_event)) = (session.kept(), moved) else { return };
        if self.noted.is_some_and(|noted| noted.elapsed() < NOTE_INTERVAL) {
            return;
        }
        let task = self.call.remote_task.get().cloned();
        let note = StreamNote { session: session.to_owned(), request: self.request, last_event, task };
        let key = NoteKey::Call(self.call.attempt.clone());
        let kept = self.link.host.note(key, CallNote::Stream(note).write());
        // Nobody is asked anything on behalf of a call that could not be found again. Later notes only save reading.
        if self.noted.is_none() {
            kept.await;
        }
        self.noted = Some(Instant::now());
    }

    /// Whether nobody waits for the call any more.
    fn is_moot(&self) -> bool {
        self.call.ended.is_cancelled() || self.call.verdict().is_some() || self.link.lost.is_cancelled()
    }

    /// Waits until the stream may be opened again.
    async fn pause(&mut self, ended: &Ended) -> Result<(), Failure> {
        match ended {
            Ended::Silent => {
                self.fruitless = 0;
                self.silence = (self.silence * 2).min(LONGEST_WAIT);
                return Ok(());
            }
            Ended::InTheEnd => self.fruitless = 0,
            Ended::AtOnce => {}
        }
        self.in_vain("the server ends the stream without an answer").await
    }

    /// The stream gave nothing, or could not be opened; waits until the next try, which may be one too many.
    async fn in_vain(&mut self, why: &str) -> Result<(), Failure> {
        self.fruitless += 1;
        if self.fruitless > MOST_FRUITLESS {
            return Err(self.lost(why));
        }
        let backoff = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.fruitless - 1)).min(LONGEST_WAIT);
        let pause = match (self.retry, self.fruitless) {
            (Some(retry), 1) => retry,
            (Some(retry), _) => retry.max(backoff),
            (None, _) => backoff,
        };
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Opens the stream after the newest event.
    async fn open(&mut self) -> Result<EventStream, Failure> {
        loop {
            let mut headers = self.headers.clone();
            if let Some(Ok(last_event)) = self.bookmark.newest.as_deref().map(HeaderValue::from_str) {
                headers.insert(HEADER_LAST_EVENT_ID, last_event);
            }
            let error = match self.client.open_stream(self.url.clone(), headers).await {
                Ok(response) => {
                    let overflow = self.client.overflow(Some(self.call.clone()));
                    return Ok(sse::events(response, LARGEST_MESSAGE, None, overflow));
                }
                Err(error) => error,
            };
            if error.forgot_session() {
                self.link.retire();
            }
            if !is_passing(&error) {
                return Err(self.lost(&error.to_string()));
            }
            self.in_vain(&error.to_string()).await?;
        }
    }

    fn lost(&self, why: &str) -> Failure {
        let agent = &self.link.agent;
        let message = match self.fate {
            FailureKind::Interrupted => format!("agent `{agent}` no longer has the call that the host left: {why}"),
            _ => format!("the response of agent `{agent}` broke off and could not be read on: {why}"),
        };
        Failure::new(self.fate, message)
    }
}

/// Whether the stream may be there later: the server restarts, or has not noticed that the connection before is gone.
fn is_passing(error: &HttpError) -> bool {
    match error {
        HttpError::Connect(_) | HttpError::Broken(_) => true,
        HttpError::Status { status, .. } => {
            status.is_server_error()
                || matches!(*status, StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        }
        HttpError::Tls(_)
        | HttpError::OldTransport
        | HttpError::Build(_)
        | HttpError::Redirect(_)
        | HttpError::TooLarge
        | HttpError::NotMcp(_) => false,
    }
}

/// How far a stream was read: by this process, and as far as a later one need not read it again.
#[derive(Debug, Default)]
struct Bookmark {
    newest: Option<String>,
    /// The events after that, each with the request that it was. Of several others in a row, only the last.
    open: VecDeque<(String, Option<RequestId>)>,
}

impl Bookmark {
    fn at(event: String) -> Self {
        Self { newest: Some(event), open: VecDeque::new() }
    }

    fn pass(&mut self, event: String, asked: Option<RequestId>) {
        self.newest = Some(event.clone());
        match self.open.back_mut() {
            Some((last, None)) if asked.is_none() => *last = event,
            _ => self.open.push_back((event, asked)),
        }
    }

    /// Moves on over what needs not come again; says where to, if anywhere.
    fn settle(&mut self, is_answered: impl Fn(&RequestId) -> bool) -> Option<String> {
        let settled = self.open.iter().take_while(|(_, asked)| asked.as_ref().is_none_or(&is_answered)).count();
        let (last, _) = self.open.drain(..settled).next_back()?;
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(bookmark: &mut Bookmark, event: &str, asked: Option<i64>) {
        bookmark.pass(event.to_owned(), asked.map(RequestId::Number));
    }

    #[test]
    fn a_bookmark_waits_before_the_first_request_without_an_answer() {
        let mut bookmark = Bookmark::default();
        for (event, asked) in [("e0", None), ("e1", None), ("e2", Some(7)), ("e3", None), ("e4", Some(8)), ("e5", None)]
        {
            pass(&mut bookmark, event, asked);
        }
        let mut settle = |answered: &[i64]| {
            let is_answered = |id: &RequestId| answered.iter().any(|answered| *id == RequestId::Number(*answered));
            bookmark.settle(is_answered)
        };
        assert_eq!(settle(&[]), Some("e1".to_owned()));
        assert_eq!(settle(&[8]), None);
        assert_eq!(settle(&[7]), Some("e3".to_owned()));
        assert_eq!(settle(&[7, 8]), Some("e5".to_owned()));
        assert_eq!(settle(&[7, 8]), None);
    }

    #[test]
    fn a_bookmark_does_not_grow_while_a_question_is_open() {
        let mut bookmark = Bookmark::at("e0".to_owned());
        pass(&mut bookmark, "e1", Some(7));
        for n in 2..1_000 {
            pass(&mut bookmark, &format!("e{n}"), None);
        }
        assert_eq!((bookmark.open.len(), bookmark.newest.as_deref()), (2, Some("e999")));
        assert_eq!(bookmark.settle(|_| true), Some("e999".to_owned()));
    }
}
