//! The interface of reporters.

use crate::model::{AttemptId, Record};

/// A consumer of all events of a run, in order and after they are durable.
pub trait Reporter: Send {
    /// Reports the next events of the run.
    fn report(&mut self, records: &[Record]);
    /// Applies events of an earlier process, before any other. They are not news, so reporters that only forward events
    /// ignore them.
    fn catch_up(&mut self, _records: &[Record]) {}

    /// Reports more text of a synthesis, in an exchange whose `ModelRequested` was reported.
    ///
    /// The text is not an event; the outcome of the exchange shows what became of it.
    fn report_delta(&mut self, _attempt: &AttemptId, _text: &str) {}
}
