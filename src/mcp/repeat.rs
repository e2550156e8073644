//! Paces the questions after something that takes its time: as the agent asks, and more slowly while it cannot be asked.
//! Never asks.

use std::time::Duration;

use super::{call::Call, vigil::Stop};
use crate::model::Failure;

/// The first and the longest pause while the agent cannot be asked.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// The pauses between one question and the next.
pub(super) struct Repeat {
    /// While the agent answers.
    pub(super) pause: Duration,
    /// While it does not.
    trouble: Option<Trouble>,
}

struct Trouble {
    next: Duration,
    latest: Failure,
}

impl Repeat {
    /// Pauses of `pause`, until that changes.
    pub(super) fn every(pause: Duration) -> Self {
        Self { pause, trouble: None }
    }

    /// The agent answered.
    pub(super) fn answered(&mut self) {
        self.trouble = None;
    }

    /// The agent did not answer, and may do so a moment later.
    pub(super) fn failed(&mut self, latest: Failure) {
        let next = self.trouble.take().map_or(FIRST_BACKOFF, |trouble| (trouble.next * 2).min(LONGEST_BACKOFF));
        self.trouble = Some(Trouble { next, latest });
    }

    /// The pause before the next question.
    pub(super) fn next(&self) -> Duration {
        self.trouble.as_ref().map_or(self.pause, |trouble| trouble.next)
    }

    /// The failure with which the questions end, and why the last one had no answer.
    pub(super) fn explain(&self, mut failure: Failure) -> Failure {
        if let Some(Trouble { latest, .. }) = &self.trouble {
            failure.message = format!("{}; it could not be asked any more: {latest}", failure.message);
        }
        failure
    }
}

impl Call<'_> {
    /// Pauses before the next question, unless `early` ends first. A connection that is lost ends the pause.
    ///
    /// # Errors
    /// When the call has ended meanwhile.
    pub(super) async fn rest<T>(
        &mut self,
        repeat: &Repeat,
        early: impl Future<Output = T>,
    ) -> Result<Option<T>, Failure> {
        if repeat.trouble.is_none() {
            self.vigil.rest();
        }
        let pause = repeat.next();
        let rest = async {
            tokio::select! {
                early = early => Some(early),
                () = tokio::time::sleep(pause) => None,
            }
        };
        // Without a connection there is nothing to lose.
        let rested = match self.connection.is_usable() {
            true => self.wait(rest).await,
            false => self.vigil.wait(rest, std::future::pending()).await,
        };
        self.vigil.rise();
        match rested {
            Ok(early) => Ok(early),
            Err(Stop::Lost) => Ok(None),
            Err(stop) => {
                let failure = self.stopped(stop).await;
                Err(repeat.explain(failure))
            }
        }
    }
}
