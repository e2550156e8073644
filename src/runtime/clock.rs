//! Tells the time to those who may not look for themselves.
//! Never goes backwards: after the start it follows the monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::model::Timestamp;

/// A clock that starts at the wall clock's time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Timestamp,
    origin: Instant,
}

impl Clock {
    /// Starts the clock.
    pub(super) fn start() -> Self {
        Self::start_after(Timestamp::default())
    }

    /// Starts the clock no earlier than at `last`. The wall clock may have been set back since a run's last event, and
    /// every moment that the run waits for was counted from there.
    pub(super) fn start_after(last: Timestamp) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Timestamp::default().after(since_epoch).max(last), origin: Instant::now() }
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.start.after(self.origin.elapsed())
    }

    /// The instant at which [`Clock::now`] will be at least `moment`.
    pub(super) fn instant(&self, moment: Timestamp) -> Instant {
        self.origin + moment.since(self.start)
    }
}
