//! The events of runs in words, which depend on the events before them.

use parking_lot::Mutex;
use serde_json::Value;

use crate::journal::{JournalError, JournalReader};
use crate::model::RunId;
use crate::serve::documents::event_json;
use crate::view::RunView;

/// The maximum number of views that are kept.
const MAX_VIEWS: usize = 8;

/// A selection of the events of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct EventSelection {
    /// The number of the event before the first; absent to begin with the first.
    pub(super) after: Option<u64>,
    /// The maximum number of events.
    pub(super) limit: usize,
    /// A text in lowercase that the words or the type must contain.
    pub(super) text: Option<String>,
}

/// The view of a run before the event `next`.
#[derive(Debug)]
struct ViewBefore {
    next: u64,
    view: RunView,
}

/// The views before the events that were requested last, so that a reader of a run that progresses pays for new events only.
#[derive(Debug, Default)]
pub(super) struct EventWords {
    /// Latest first. Locked only to find a view.
    views: Mutex<Vec<ViewBefore>>,
}

impl EventWords {
    /// Returns the selected events, and the number of the last event that was looked at. Blocks.
    ///
    /// # Errors
    /// Fails if the journal cannot be read.
    pub(super) fn events(
        &self,
        reader: &dyn JournalReader,
        run: &RunId,
        selection: &EventSelection,
    ) -> Result<(Vec<Value>, Option<u64>), JournalError> {
        let first = selection.after.map_or(0, |after| after + 1);
        let ViewBefore { mut next, mut view } = self.find(run, first);
        let mut events = Vec::new();
        for record in reader.records(run, next) {
            let record = record?;
            if record.seq >= first {
                let event = event_json(&view, &record);
                if selection.text.as_ref().is_none_or(|text| has_text(&event, text)) {
                    events.push(event);
                }
            }
            view.apply(&record);
            next = record.seq + 1;
            if events.len() >= selection.limit {
                break;
            }
        }
        let mut views = self.views.lock();
        views.insert(0, ViewBefore { next, view });
        views.truncate(MAX_VIEWS);
        Ok((events, next.checked_sub(1)))
    }

    /// Removes and returns the latest view of `run` that is not after the event `first`.
    fn find(&self, run: &RunId, first: u64) -> ViewBefore {
        let mut views = self.views.lock();
        let usable = views.iter().enumerate().filter(|(_, before)| before.view.run() == run && before.next <= first);
        match usable.max_by_key(|(_, before)| before.next).map(|(place, _)| place) {
            Some(place) => views.remove(place),
            None => ViewBefore { next: 0, view: RunView::new(run) },
        }
    }
}

fn has_text(event: &Value, text: &str) -> bool {
    let has = |key: &str| event[key].as_str().is_some_and(|words| words.to_lowercase().contains(text));
    has("text") || has("type")
}
