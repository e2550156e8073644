//! Paces the questions after something that takes its time: as the agent asks, and more slowly while it cannot be asked.
//! Never asks.

use std::time::Duration;

use super::{call::ActiveCall, call_guard::CallStop};
use crate::model::Failure;

/// The first and the longest pause while the agent cannot be asked.
const INITIAL_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The pauses between one question and the next.
pub(super) struct PollBackoff {
    /// While the agent answers.
    pub(super) interval: Duration,
    /// While it does not.
    failure: Option<PollFailure>,
}

struct PollFailure {
    delay: Duration,
    latest: Failure,
}

impl PollBackoff {
    /// Pauses of `pause`, until that changes.
    pub(super) fn new(pause: Duration) -> Self {
        Self { interval: pause, failure: None }
    }

    /// The agent answered.
    pub(super) fn reset(&mut self) {
        self.failure = None;
    }

    /// The agent did not answer, and may do so a moment later.
    pub(super) fn record_failure(&mut self, latest: Failure) {
        let next = self.failure.take().map_or(INITIAL_BACKOFF, |trouble| (trouble.delay * 2).min(MAX_BACKOFF));
        self.failure = Some(PollFailure { delay: next, latest });
    }

    /// The pause before the next question.
    pub(super) fn delay(&self) -> Duration {
        self.failure.as_ref().map_or(self.interval, |trouble| trouble.delay)
    }

    /// The failure with which the questions end, and why the last one had no answer.
    pub(super) fn explain_failure(&self, mut failure: Failure) -> Failure {
        if let Some(PollFailure { latest, .. }) = &self.failure {
            failure.message = format!("{}; it could not be asked any more: {latest}", failure.message);
        }
        failure
    }
}

impl ActiveCall<'_> {
    /// Pauses before the next question, unless `early` ends first. A connection that is lost ends the pause.
    ///
    /// # Errors
    /// When the call has ended meanwhile.
    pub(super) async fn pause_polling<T>(
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
        // Without a connection there is nothing to lose.
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
