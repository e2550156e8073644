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
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Timestamp::default().after(since_epoch), origin: Instant::now() }
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
