//! The interface of the record of schedules: the occurrences that have been handled.

use std::fmt;

use super::JournalError;
use crate::model::Timestamp;

/// Records which occurrences of schedules have been handled, for all processes that use the journal. Each change is
/// durable when its method returns, and applies only to the position that the caller has read: of several processes, one
/// claims an occurrence. Calls block for at most milliseconds, unless another process locks the journal.
pub trait ScheduleLog: fmt::Debug + Send {
    /// Returns the position of a schedule. That of a new schedule is `now`, so nothing before it was missed.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or written.
    fn position(&mut self, schedule: &str, now: Timestamp) -> Result<SchedulePosition, JournalError>;

    /// Replaces the position `from` by `to`. Returns false without a change if the position is another one by now.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    fn advance(&mut self, schedule: &str, from: SchedulePosition, to: SchedulePosition) -> Result<bool, JournalError>;
}

/// How far the occurrences of a schedule have been handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulePosition {
    /// The time up to which all occurrences are handled.
    pub handled: Timestamp,
    /// The occurrence whose run has to start or to end first.
    pub claimed: Option<Timestamp>,
}
