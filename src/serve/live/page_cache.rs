//! The pages of the runs that people look at.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::open_page::OpenPage;
use crate::journal::{JournalError, Store};
use crate::model::RunId;

/// The maximum number of pages that are kept. A person looks at few runs at once, and a large one takes some memory.
const MAX_PAGES: usize = 16;

/// The pages that were used last, latest first.
#[derive(Debug)]
pub(crate) struct PageCache {
    store: Arc<dyn Store>,
    content_root: PathBuf,
    /// Locked only to find a page.
    pages: Mutex<Vec<(RunId, Arc<Mutex<OpenPage>>)>>,
}

impl PageCache {
    pub(crate) fn new(store: Arc<dyn Store>, content_root: PathBuf) -> Self {
        Self { store, content_root, pages: Mutex::default() }
    }

    /// Returns the page of `run`, which is updated with the journal. Blocks.
    ///
    /// Readers of one page share it: one of them updates it, and the others find it up to date.
    pub(crate) fn open(&self, run: &RunId) -> Result<Arc<Mutex<OpenPage>>, JournalError> {
        let page = self.find(run)?;
        page.lock().update()?;
        Ok(page)
    }

    fn find(&self, run: &RunId) -> Result<Arc<Mutex<OpenPage>>, JournalError> {
        let mut pages = self.pages.lock();
        let place = pages.iter().position(|(known, _)| known == run);
        let entry = match place {
            Some(place) => pages.remove(place),
            None => {
                let page = OpenPage::open(&*self.store, run, &self.content_root)?;
                (run.clone(), Arc::new(Mutex::new(page)))
            }
        };
        let page = Arc::clone(&entry.1);
        pages.insert(0, entry);
        pages.truncate(MAX_PAGES);
        Ok(page)
    }

    /// Forgets a page whose run cannot be read.
    pub(crate) fn forget(&self, run: &RunId) {
        self.pages.lock().retain(|(known, _)| known != run);
    }
}
