//! The page of a run, which is kept up to date while people look at it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::journal::{Holder, JournalError, JournalReader, Store, current_status};
use crate::model::{Event, Record, RunId, RunStatus, TaskId};
use crate::runtime::ContentStore;
use crate::view::page::RunPage;

/// The age at which the list of later runs is read again.
const RERUNS_INTERVAL: Duration = Duration::from_secs(2);

/// The page of a run with what only the journal knows.
#[derive(Debug)]
pub(crate) struct OpenPage {
    page: RunPage,
    run: RunId,
    reader: Box<dyn JournalReader>,
    contents: ContentStore,
    /// The task whose text is the answer of the run.
    synthesis: Option<TaskId>,
    driver: Option<Holder>,
    reruns: Vec<RunId>,
    reruns_read: Option<Instant>,
}

impl OpenPage {
    /// Opens the page of `run`. Nothing is read before the first update.
    pub(crate) fn open(store: &dyn Store, run: &RunId, content_root: &Path) -> Result<Self, JournalError> {
        Ok(Self {
            page: RunPage::new(run),
            run: run.clone(),
            reader: store.open_reader()?,
            contents: ContentStore::new(content_root, run, None),
            synthesis: None,
            driver: None,
            reruns: Vec::new(),
            reruns_read: None,
        })
    }

    /// Reads the new events. Blocks for a moment.
    pub(crate) fn update(&mut self) -> Result<(), JournalError> {
        // Before the events: a driver that has ended has written all of its events.
        self.driver = self.reader.driver(&self.run)?;
        loop {
            let next = self.page.seq().map_or(0, |seq| seq + 1);
            let records = self.reader.read_page(&self.run, next)?;
            if records.is_empty() {
                break;
            }
            for raw in records {
                let mut record = raw.parse(&self.run)?;
                self.restore_answer(&mut record);
                self.page.apply(&record);
            }
        }
        if self.reruns_read.is_none_or(|read| read.elapsed() >= RERUNS_INTERVAL) {
            self.reruns = self.reader.reruns(&self.run)?;
            self.reruns_read = Some(Instant::now());
        }
        Ok(())
    }

    /// Restores the text of the answer of the run, which the header shows. Other results stay in their files.
    fn restore_answer(&mut self, record: &mut Record) {
        let task = match &record.event {
            Event::RunStarted { plan, .. } => {
                self.synthesis = plan.synthesis().map(|task| task.id.clone());
                return;
            }
            Event::AttemptSucceeded { attempt, .. } => &attempt.task,
            Event::TaskEnded { task, .. } | Event::TaskReused { task, .. } => task,
            _ => return,
        };
        if self.synthesis.as_ref() == Some(task)
            && let Err(error) = self.contents.restore_results(record)
        {
            tracing::warn!(%error, "an answer is shown without its contents");
        }
    }

    pub(crate) fn page(&self) -> &RunPage {
        &self.page
    }

    pub(crate) fn reader(&self) -> &dyn JournalReader {
        &*self.reader
    }

    pub(crate) fn driver(&self) -> Option<Holder> {
        self.driver
    }

    /// Returns the later runs that repeat a part of this one.
    pub(crate) fn reruns(&self) -> &[RunId] {
        &self.reruns
    }

    /// Returns the status of the run, which is running only while a process drives it.
    pub(crate) fn status(&self) -> RunStatus {
        current_status(self.page.view().result().status, self.driver)
    }
}
