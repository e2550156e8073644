//! What all requests share.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::access::AccessRules;
use super::event_words::EventWords;
use super::live::{ListEntries, OpenPage, PageCache, RunRecords};
use super::page_api_error::PageApiError;
use super::settings::ServeSettings;
use crate::journal::{JournalError, JournalReader};
use crate::model::{RunId, Timestamp};
use crate::system::clock;

/// The maximum number of streams at once. A browser opens one for each tab.
const MAX_STREAMS: usize = 64;

/// The state of the server.
pub(super) struct ServeState {
    pub(super) settings: ServeSettings,
    pub(super) access: AccessRules,
    pub(super) pages: PageCache,
    pub(super) records: RunRecords,
    pub(super) entries: ListEntries,
    pub(super) event_words: EventWords,
    pub(super) streams: Arc<Semaphore>,
}

/// The state as requests get it.
pub(super) type Shared = Arc<ServeState>;

impl ServeState {
    pub(super) fn new(settings: ServeSettings, access: AccessRules) -> Self {
        let (store, root) = (&settings.store, &settings.content_root);
        Self {
            pages: PageCache::new(Arc::clone(store), root.clone()),
            records: RunRecords::new(Arc::clone(store), root.clone()),
            entries: ListEntries::new(Arc::clone(store), root.clone()),
            event_words: EventWords::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            access,
            settings,
        }
    }

    /// Opens the journal for reading; `None` if there is none yet.
    pub(super) fn reader(&self) -> Result<Option<Box<dyn JournalReader>>, JournalError> {
        match self.settings.store.open_reader() {
            Err(JournalError::Missing { .. }) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }

    /// Returns the run with this name: its ID, the start or the end of its ID, or `last`.
    pub(super) fn find_run(&self, name: &str) -> Result<RunId, PageApiError> {
        Ok(self.settings.store.open_reader()?.find_run(name)?)
    }

    /// Returns the page of the run with this name, up to date.
    pub(super) fn open(&self, name: &str) -> Result<(RunId, Arc<Mutex<OpenPage>>), PageApiError> {
        let run = self.find_run(name)?;
        match self.pages.open(&run) {
            Ok(page) => Ok((run, page)),
            Err(error) => {
                self.pages.forget(&run);
                Err(error.into())
            }
        }
    }
}

/// Does work that blocks, such as reading the journal, beside the requests.
///
/// # Errors
/// Fails as the work does, or if it panics.
pub(super) async fn blocking<T: Send + 'static>(
    state: &Shared,
    work: impl FnOnce(&Shared) -> Result<T, PageApiError> + Send + 'static,
) -> Result<T, PageApiError> {
    let state = Arc::clone(state);
    let done = tokio::task::spawn_blocking(move || work(&state)).await;
    done.unwrap_or_else(|_| Err(PageApiError::internal("the request failed (this is a bug in kapell)")))
}

/// Returns the current time.
pub(super) fn now() -> Timestamp {
    Timestamp::default().after(clock::since_epoch())
}
