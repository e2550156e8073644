//! The details of a run for `kapell runs show`: its view, and the process that drives it.

use std::time::Duration;

use serde_json::Value;

use super::list::run_status;
use crate::journal::{Holder, JournalError, JournalReader};
use crate::model::{AttemptId, Failure, Plan, Record, RunId, RunStatus, TaskId};
use crate::view::run_view::{RunHistory, TaskTimes};
use crate::view::{RunResult, RunView, TaskResult};

/// The details of a run, from its events and from the process that drives it.
#[derive(Debug, Clone)]
pub struct RunDetails {
    pub(super) view: RunView,
    pub(super) driver: Option<Holder>,
}

impl RunDetails {
    /// Creates the details of a run without events, with the process that drives it.
    pub fn new(run: &RunId, driver: Option<Holder>) -> Self {
        Self { view: RunView::with_history(run), driver }
    }

    /// Applies the next event.
    pub fn apply(&mut self, record: &Record) {
        self.view.apply(record);
    }

    /// Returns the ID of the run.
    pub(super) fn run(&self) -> &RunId {
        self.view.run()
    }

    /// Returns the result so far.
    pub(super) fn result(&self) -> &RunResult {
        self.view.result()
    }

    /// Returns the plan and the inputs of the run.
    pub(super) fn start(&self) -> Option<(&Plan, &Value)> {
        self.view.start()
    }

    /// Returns the times, failures, and model requests of the run.
    pub(super) fn history(&self) -> &RunHistory {
        self.view.history()
    }

    /// Returns the times of a task.
    pub(super) fn times(&self, task: &TaskId) -> TaskTimes {
        self.history().times.get(task).copied().unwrap_or_default()
    }

    /// Returns the duration of a task, from the start of its first attempt to its end.
    pub(super) fn duration(&self, task: &TaskId) -> Option<Duration> {
        let TaskTimes { started, ended } = self.times(task);
        Some(ended?.since(started?))
    }

    /// Returns the status of the run, which is running only while a process drives it.
    pub(super) fn status(&self) -> RunStatus {
        run_status(self.result().status, self.driver)
    }

    /// Returns the result of a task or of an item.
    pub(super) fn task_result(&self, id: &TaskId) -> Option<&TaskResult> {
        let tasks = &self.result().tasks;
        let item = || {
            let (parent, place) = id.as_str().strip_suffix(']')?.rsplit_once('[')?;
            tasks.get(parent)?.items.as_ref()?.get(place.parse::<usize>().ok()?)
        };
        tasks.get(id).or_else(item)
    }

    /// Returns the failure of a call, if it failed.
    pub(super) fn failure_of(&self, attempt: &AttemptId) -> Option<&Failure> {
        self.history().failures.get(attempt)
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
