//! The clock of a run. It follows the monotonic clock after its start, so it never goes backwards.

use tokio::time::Instant;

use crate::model::Timestamp;
use crate::system::clock;

/// A clock that starts at the wall clock's time.
#[derive(Debug, Clone, Copy)]
pub struct RunClock {
    start: Timestamp,
    origin: Instant,
}

impl RunClock {
    /// Starts the clock of a new run.
    pub fn start() -> Self {
        Self::start_no_earlier_than(Timestamp::default())
    }

    /// Starts the clock at the wall time, but not before `last`. The wall clock may have been set back since the last
    /// event of the run, and all timers were computed from that event.
    pub fn start_no_earlier_than(last: Timestamp) -> Self {
        Self::start_at(Timestamp::default().after(clock::since_epoch()), last)
    }

    fn start_at(wall: Timestamp, last: Timestamp) -> Self {
        Self { start: wall.max(last), origin: Instant::now() }
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.start.after(self.origin.elapsed())
    }

    /// Returns the instant at which [`RunClock::now`] reaches `timestamp`.
    pub(super) fn instant_at(&self, timestamp: Timestamp) -> Instant {
        self.origin + timestamp.since(self.start)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clock_is_monotonic_from_the_later_of_wall_clock_and_last_event() {
        let hour = 3_600_000;
        for (wall, last, start) in [(5 * hour, 4 * hour, 5 * hour), (4 * hour, 5 * hour, 5 * hour), (0, hour, hour)] {
            let clock = RunClock::start_at(Timestamp(wall), Timestamp(last));
            assert_eq!(clock.now(), Timestamp(start));
            // A delay of ten seconds from the last event takes no longer than that.
            let due = Timestamp(last).after(Duration::from_secs(10));
            assert!(clock.instant_at(due) <= Instant::now() + Duration::from_secs(10));
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(clock.now(), Timestamp(start + 1_000));
        }
    }
}
