//! Paces the polling of a long-running task: at the interval of the agent, and with backoff while the agent is
//! unreachable.

use std::time::Duration;

use super::{ActiveCall, guard::CallStop};
use crate::model::Failure;

/// The first and the longest delay while the agent is unreachable.
const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The delays between polls.
pub(crate) struct PollBackoff {
    /// The delay while the agent responds.
    pub(crate) interval: Duration,
    /// The backoff while it does not respond.
    failure: Option<PollFailure>,
}

struct PollFailure {
    delay: Duration,
    latest: Failure,
}

impl PollBackoff {
    /// Creates a backoff that polls at the interval `pause`.
    pub(crate) fn new(pause: Duration) -> Self {
        Self { interval: pause, failure: None }
    }

    /// Records that the agent responded.
    pub(crate) fn reset(&mut self) {
        self.failure = None;
    }

    /// Records a transient failure of a poll.
    pub(crate) fn record_failure(&mut self, latest: Failure) {
        let next = self.failure.take().map_or(INITIAL_BACKOFF, |trouble| (trouble.delay * 2).min(MAX_BACKOFF));
        self.failure = Some(PollFailure { delay: next, latest });
    }

    /// Returns the delay before the next poll.
    pub(crate) fn delay(&self) -> Duration {
        self.failure.as_ref().map_or(self.interval, |trouble| trouble.delay)
    }

    /// Returns `failure` with the reason why the last poll had no response.
    pub(crate) fn explain_failure(&self, mut failure: Failure) -> Failure {
        if let Some(PollFailure { latest, .. }) = &self.failure {
            failure.message = format!("{}; it could not be asked any more: {latest}", failure.message);
        }
        failure
    }
}

impl ActiveCall<'_> {
    /// Waits for the next poll, or until `early` completes. A lost connection ends the delay.
    ///
    /// # Errors
    /// Returns a failure if the call has ended meanwhile.
    pub(crate) async fn pause_polling<T>(
        &mut self,
        repeat: &PollBackoff,
        early: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        if repeat.failure.is_none() {
            self.guard.pause_idle_timeout();
        }
        let pause = repeat.delay();
        let rest = async {
            tokio::select! {
                early = early => Some(early),
                () = tokio::time::sleep(pause) => None,
            }
        };
        // Without a connection, its loss cannot end the delay.
        let rested = match self.connection.is_usable() {
            true => self.wait(rest).await,
            false => self.guard.wait(rest, std::future::pending()).await,
        };
        self.guard.resume_idle_timeout();
        match rested {
            Ok(early) => Ok(early),
            Err(CallStop::ConnectionLost) => Ok(None),
            Err(stop) => {
                let failure = self.stop_failure(stop).await;
                Err(repeat.explain_failure(failure))
            }
        }
    }
}
