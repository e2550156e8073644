//! Paces the polling of a long-running task: at the interval of the agent, and with backoff while the agent is
//! unreachable.

use std::time::Duration;

use crate::model::Failure;

/// The first and the longest delay while the agent is unreachable.
const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The delays between polls.
pub(crate) struct PollBackoff {
    /// The delay while the agent responds.
    pub(crate) interval: Duration,
    /// The backoff while it does not respond, and the latest failure.
    failure: Option<(Duration, Failure)>,
}

impl PollBackoff {
    /// Creates a backoff that polls at `interval`.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, failure: None }
    }

    /// Records that the agent responded.
    pub(crate) fn reset(&mut self) {
        self.failure = None;
    }

    /// Records a transient failure of a poll.
    pub(crate) fn record_failure(&mut self, latest: Failure) {
        let delay = self.failure.as_ref().map_or(INITIAL_BACKOFF, |(delay, _)| (*delay * 2).min(MAX_BACKOFF));
        self.failure = Some((delay, latest));
    }

    /// Returns whether the latest poll had no response.
    pub(crate) fn is_failing(&self) -> bool {
        self.failure.is_some()
    }

    /// Returns the delay before the next poll.
    pub(crate) fn delay(&self) -> Duration {
        self.failure.as_ref().map_or(self.interval, |(delay, _)| *delay)
    }

    /// Returns `failure` with the reason why the last poll had no response.
    pub(crate) fn explain_failure(&self, mut failure: Failure) -> Failure {
        if let Some((_, latest)) = &self.failure {
            failure.message = format!("{}; polling then failed: {latest}", failure.message);
        }
        failure
    }
}
