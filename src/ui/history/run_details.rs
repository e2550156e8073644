//! The details of a run for `kapell runs show`: its view, and the process that drives it.

use std::path::Path;
use std::time::Duration;

use crate::journal::{Holder, JournalError, JournalReader, current_status};
use crate::model::{AttemptId, Failure, Record, RunId, RunStatus, TaskId};
use crate::view::run_view::TaskTimes;
use crate::view::{RunView, TaskResult};

/// The details of a run, from its events and from the process that drives it.
#[derive(Debug, Clone)]
pub struct RunDetails {
    pub(super) view: RunView,
    pub(super) driver: Option<Holder>,
    /// The later runs that repeat a part of this one.
    pub(super) reruns: Vec<RunId>,
}

impl RunDetails {
    /// Creates the details of a run without events, with the process that drives it.
    pub fn new(run: &RunId, driver: Option<Holder>) -> Self {
        Self { view: RunView::with_history(run), driver, reruns: Vec::new() }
    }

    /// Sets the later runs that repeat a part of this one.
    #[must_use]
    pub fn with_reruns(self, reruns: Vec<RunId>) -> Self {
        Self { reruns, ..self }
    }

    /// Applies the next event.
    pub fn apply(&mut self, record: &Record) {
        self.view.apply(record);
    }

    /// Sets the paths of the files of all results, which are in a folder of `root`. Called after the last event.
    pub fn locate_files(&mut self, root: &Path) {
        let directory = root.join(self.view.run().as_str());
        self.view.result_mut().locate_files(|name| directory.join(name));
    }

    /// Returns the times of a task.
    pub(super) fn times(&self, task: &TaskId) -> TaskTimes {
        self.view.history().times.get(task).copied().unwrap_or_default()
    }

    /// Returns the duration of a task, from the start of its first attempt to its end.
    pub(super) fn duration(&self, task: &TaskId) -> Option<Duration> {
        let TaskTimes { started, ended } = self.times(task);
        Some(ended?.since(started?))
    }

    /// Returns the status of the run, which is running only while a process drives it.
    pub(super) fn status(&self) -> RunStatus {
        current_status(self.view.result().status, self.driver)
    }

    /// Returns the result of a task or of an item.
    pub(super) fn task_result(&self, id: &TaskId) -> Option<&TaskResult> {
        self.view.result().task(id)
    }

    /// Returns the failure of a call, if it failed.
    pub(super) fn failure_of(&self, attempt: &AttemptId) -> Option<&Failure> {
        self.view.history().attempts.get(attempt)?.failure.as_ref()
    }
}

/// Reads the view of a run from a journal.
///
/// # Errors
/// When the run cannot be read.
pub fn read_view(reader: &dyn JournalReader, run: &RunId) -> Result<RunView, JournalError> {
    let mut view = RunView::new(run);
    for record in reader.records(run, 0) {
        view.apply(&record?);
    }
    Ok(view)
}

/// Returns the details of the sample run with these events.
#[cfg(test)]
pub(super) fn sample_details(events: &[Record]) -> RunDetails {
    let mut details = RunDetails::new(&crate::journal::samples::sample_run_id(), None);
    events.iter().for_each(|record| details.apply(record));
    details
}
