//! The interface of reporters, and the reporters of a run.

use crate::model::{AttemptId, Record, RunId};
use crate::view::{RunResult, RunView};

/// A consumer of all events of a run, in order and after they are durable.
pub trait Reporter: Send {
    /// Reports the next event. `before` is the state of the run before the event.
    fn report(&mut self, before: &RunView, record: &Record);

    /// Ends a batch of events that became durable together. Reporters that write text write it here, once a batch.
    fn flush(&mut self) {}

    /// Applies events of an earlier process, before any other. They were reported then, so reporters that only
    /// forward events ignore them.
    fn catch_up(&mut self, _records: &[Record]) {}

    /// Reports more text of a synthesis, in an exchange whose `ModelRequested` was reported.
    ///
    /// The text is not an event; the outcome of the exchange shows what became of it.
    fn report_delta(&mut self, _attempt: &AttemptId, _text: &str) {}
}

/// The reporters of a run, with the view that they share.
pub struct Reporters<'r> {
    view: RunView,
    reporters: Vec<&'r mut dyn Reporter>,
}

impl<'r> Reporters<'r> {
    /// Returns the reporters of a run without events. They are called in this order.
    pub fn new(run: &RunId, reporters: Vec<&'r mut dyn Reporter>) -> Self {
        Self { view: RunView::new(run), reporters }
    }

    /// Applies events of an earlier process.
    pub fn catch_up(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.view.apply(record));
        self.reporters.iter_mut().for_each(|reporter| reporter.catch_up(records));
    }

    /// Reports a batch of events.
    pub fn report(&mut self, records: &[Record]) {
        for record in records {
            self.reporters.iter_mut().for_each(|reporter| reporter.report(&self.view, record));
            self.view.apply(record);
        }
        self.reporters.iter_mut().for_each(|reporter| reporter.flush());
    }

    /// Reports more text of a synthesis.
    pub fn report_delta(&mut self, attempt: &AttemptId, text: &str) {
        self.reporters.iter_mut().for_each(|reporter| reporter.report_delta(attempt, text));
    }

    /// Returns the result of the run so far.
    pub fn into_result(self) -> RunResult {
        self.view.into_result()
    }
}

/// Reports a batch of events to one reporter, without the events before.
#[cfg(test)]
pub(super) fn report_batch(reporter: &mut dyn Reporter, records: &[Record]) {
    Reporters::new(&"0190".into(), vec![reporter]).report(records);
}
