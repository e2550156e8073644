//! Streams of changes, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::stream;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream::BoxStream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::listing;
use super::request_data::{query_number, query_value};
use crate::journal::Holder;
use crate::model::{RunId, RunStatus};
use crate::serve::documents::patch_json;
use crate::serve::live::{ListEntry, OpenPage};
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{Shared, blocking, now};

/// The interval between looks at the journal. With the interval of a driver for answers, a page shows within 300 ms what
/// another process answered.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The interval for a run that has ended. Only later runs that repeat a part of it are news.
const ENDED_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The minimum time between two patches: at most five a second. One with a question or with another status does not wait,
/// since a person does.
const PATCH_INTERVAL: Duration = Duration::from_millis(200);
/// The interval between looks at the list of runs.
const LIST_INTERVAL: Duration = Duration::from_millis(500);
/// The time after which a reader that accepts nothing is cut off. Its page connects again and gets what it missed.
const READER_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval of comments that keep a connection open.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Streams the changes of a run, or of the list of runs.
pub(super) async fn stream(State(state): State<Shared>, request: Request) -> Result<Response, PageApiError> {
    let permit = Arc::clone(&state.streams).try_acquire_owned().map_err(|_| {
        PageApiError::new(StatusCode::SERVICE_UNAVAILABLE, "serve::too_many_streams", "too many pages are open")
            .with_help("close some of them")
    })?;
    let last_id = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let events = match query_value(request.uri(), "run") {
        None => run_list(state, permit),
        Some(name) => {
            let after = last_id.or(query_number(request.uri(), "after")?).unwrap_or_default();
            let (run, _) = blocking(&state, move |state| state.open(&name)).await?;
            run_changes(state, run, (after, permit))
        }
    };
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)).into_response())
}

/// What a patch says that no event does.
type Liveness = (RunStatus, Option<Holder>, Vec<RunId>);

/// What the reader of a stream has.
#[derive(Clone)]
struct ShownRun {
    seq: u64,
    /// The latest patch; absent before the first.
    patched: Option<(Instant, Liveness, Arc<Value>)>,
}

impl ShownRun {
    /// Returns whether changes that no person waits for are kept for a later patch.
    fn is_paced(&self) -> bool {
        self.patched.as_ref().is_some_and(|(at, ..)| at.elapsed() < PATCH_INTERVAL)
    }

    fn has_ended(&self) -> bool {
        self.patched.as_ref().is_some_and(|(_, (status, ..), _)| !status.is_unfinished())
    }
}

/// Streams patches with the changes of a run after the event `after`.
///
/// A patch is made when the reader is ready for it, and has everything since the one before. So a slow reader gets fewer
/// and larger patches, and no queue grows.
fn run_changes(
    state: Shared,
    run: RunId,
    (after, permit): (u64, OwnedSemaphorePermit),
) -> BoxStream<'static, Result<Event, Infallible>> {
    Box::pin(stream! {
        let _permit = permit;
        let mut shown = ShownRun { seq: after, patched: None };
        loop {
            let (run, known) = (run.clone(), shown.clone());
            let next = blocking(&state, move |state| Ok(next_patch(&state.pages.open(&run)?, &known))).await;
            let Ok(next) = next else {
                // The run was deleted, or the journal cannot be read. The page asks again, and gets the reason.
                return;
            };
            if let Some((patch, next)) = next {
                shown = next;
                let written = Instant::now();
                yield Ok(Event::default().id(shown.seq.to_string()).event("patch").data(patch));
                if written.elapsed() > READER_TIMEOUT {
                    return;
                }
            }
            sleep(if shown.has_ended() { ENDED_POLL_INTERVAL } else { POLL_INTERVAL }).await;
        }
    })
}

/// Returns a patch with the changes since what is shown, if there are any that must not wait.
fn next_patch(page: &Arc<Mutex<OpenPage>>, shown: &ShownRun) -> Option<(String, ShownRun)> {
    let page = page.lock();
    let seq = page.page().seq().unwrap_or_default();
    let liveness = (page.status(), page.driver(), page.reruns().to_vec());
    let known = shown.patched.as_ref();
    let is_same = known.is_some_and(|(_, known, _)| *known == liveness);
    // The first patch may say only that the page is up to date.
    if seq <= shown.seq && is_same {
        return None;
    }
    if is_same && shown.is_paced() && !page.page().has_changed_questions(shown.seq) {
        return None;
    }
    let (patch, header) = patch_json(&page, shown.seq, known.map(|(_, _, header)| &**header), now());
    let patched = Some((Instant::now(), liveness, Arc::new(header)));
    Some((patch.to_string(), ShownRun { seq: seq.max(shown.seq), patched }))
}

/// Streams the changed runs of the list, at first all of the latest.
fn run_list(state: Shared, permit: OwnedSemaphorePermit) -> BoxStream<'static, Result<Event, Infallible>> {
    Box::pin(stream! {
        let _permit = permit;
        let mut shown: Vec<ListEntry> = Vec::new();
        loop {
            let Ok(latest) = blocking(&state, |state| listing::latest(state)).await else { return };
            let changed: Vec<Value> = latest.iter().filter(|run| !shown.contains(run)).map(|run| json!(run)).collect();
            shown = latest;
            if !changed.is_empty() {
                let written = Instant::now();
                yield Ok(Event::default().event("runs").data(json!({"runs": changed}).to_string()));
                if written.elapsed() > READER_TIMEOUT {
                    return;
                }
            }
            sleep(LIST_INTERVAL).await;
        }
    })
}
