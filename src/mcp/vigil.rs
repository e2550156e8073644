//! Waits on behalf of one call: for as long as the call may take, reporting its progress, until it is wanted no more.
//! Never sends anything to the agent.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Host,
    calls::InFlight,
    patience::{Expired, Patience},
};
use crate::model::{AgentId, Failure, FailureKind, Progress, StartAttempt};

/// Progress reaches the host at most this often, and once more before the result.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The watch over one call.
pub(super) struct Vigil {
    host: Arc<dyn Host>,
    agent: AgentId,
    tool: Arc<str>,
    cancel: CancellationToken,
    /// What the agent's messages say of the call.
    pub(super) flight: Arc<InFlight>,
    patience: Patience,
    progress: Reported,
    /// Whether the host leaves the agent alone for now, whose silence then means nothing.
    at_rest: bool,
}

/// What the host has been told of the progress.
struct Reported {
    pending: Option<Progress>,
    latest: Option<Progress>,
    /// The next report is not before this.
    next: Instant,
}

/// Why a call stops before there is an answer.
pub(super) enum Stop {
    /// The run does not want it any more.
    Cancelled,
    /// It was silent or has lasted for too long.
    Expired(Expired),
    /// It fails for a reason that only the transport knows.
    Condemned(Failure),
    /// What it waited on is gone.
    Lost,
}

/// What woke a waiting call.
enum Woken<T> {
    Done(T),
    Cancelled,
    Lost,
    Stirred,
}

impl Vigil {
    /// The limits of `request` start now.
    pub(super) fn new(request: &StartAttempt, host: Arc<dyn Host>, cancel: CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            host,
            agent: request.agent.clone(),
            tool: request.tool.clone(),
            cancel,
            flight: InFlight::new(request.attempt.clone()),
            patience: Patience::new(request.timeout, request.deadline, now),
            progress: Reported { pending: None, latest: None, next: now },
            at_rest: false,
        }
    }

    /// Waits for `work` as long as the call may take, or until `lost` ends, and reports progress meanwhile.
    pub(super) async fn wait<F: Future>(&mut self, work: F, lost: impl Future<Output = ()>) -> Result<F::Output, Stop> {
        let mut work = std::pin::pin!(work);
        let mut lost = std::pin::pin!(lost);
        loop {
            let look_again = self.patience.ends().into_iter().chain(self.progress.due()).min();
            let woken = tokio::select! {
                biased;
                done = work.as_mut() => Woken::Done(done),
                () = self.cancel.cancelled() => Woken::Cancelled,
                () = lost.as_mut() => Woken::Lost,
                () = self.flight.stirred() => Woken::Stirred,
                () = until(look_again) => Woken::Stirred,
            };
            match woken {
                Woken::Done(done) => return Ok(done),
                Woken::Cancelled => return Err(Stop::Cancelled),
                Woken::Lost => {
                    let verdict = self.flight.verdict().cloned();
                    return Err(verdict.map_or(Stop::Lost, Stop::Condemned));
                }
                Woken::Stirred => {}
            }
            if let Some(failure) = self.flight.verdict() {
                return Err(Stop::Condemned(failure.clone()));
            }
            let now = Instant::now();
            if let Some(progress) = self.flight.news() {
                self.patience.heard(now);
                self.progress.pending = Some(progress);
            }
            let mut asking = self.flight.asking();
            asking.host += usize::from(self.at_rest);
            self.patience.asked(asking, now);
            if self.progress.due().is_some_and(|due| due <= now) {
                self.report(now);
            }
            if let Some(expired) = self.patience.expired(now) {
                return Err(Stop::Expired(expired));
            }
        }
    }

    /// The agent is left alone until it is spoken with again.
    pub(super) fn rest(&mut self) {
        self.at_rest = true;
        self.flight.stir();
    }

    /// The agent is spoken with again, or was expected to speak.
    pub(super) fn rise(&mut self) {
        self.at_rest = false;
        self.flight.stir();
    }

    /// The agent gave a sign of life that is no progress.
    pub(super) fn heard(&mut self) {
        self.patience.heard(Instant::now());
    }

    fn report(&mut self, now: Instant) {
        if let Some(progress) = self.progress.pending.take() {
            if self.progress.latest.as_ref() != Some(&progress) {
                self.host.progressed(&self.flight.attempt, progress.clone());
            }
            self.progress.latest = Some(progress);
            self.progress.next = now + PROGRESS_INTERVAL;
        }
    }

    /// Reports the furthest progress before the result follows.
    pub(super) fn report_last(&mut self) {
        if let Some(progress) = self.flight.news() {
            self.progress.pending = Some(progress);
        }
        self.report(Instant::now());
    }

    /// Says why the call ended without an answer. `None`: what it waited on is gone, and the caller knows more of it.
    pub(super) fn stopped(&self, stop: Stop) -> Option<Failure> {
        let (agent, tool) = (&self.agent, &self.tool);
        let latest = self.progress.pending.as_ref().or(self.progress.latest.as_ref());
        let seen = match latest {
            Some(Progress { progress, total, message }) => {
                let total = total.map(|total| format!(" of {total}")).unwrap_or_default();
                let message = message.as_ref().map(|text| format!(" (`{text}`)")).unwrap_or_default();
                format!("its last progress was {progress}{total}{message}")
            }
            None => "it reported no progress".to_owned(),
        };
        Some(match stop {
            Stop::Cancelled => cancelled(tool),
            Stop::Condemned(failure) => failure,
            Stop::Lost => return None,
            Stop::Expired(Expired::Silence(limit)) => {
                let message = format!("`{tool}` of agent `{agent}` was silent for {limit:?}; {seen}");
                Failure::new(FailureKind::IdleTimeout, message)
                    .with_help("raise the task's `timeout` if it needs longer")
            }
            Stop::Expired(Expired::Whole(limit)) => {
                let message = format!("`{tool}` of agent `{agent}` took longer than {limit:?}; {seen}");
                let help = "raise the task's `deadline` if it needs longer";
                Failure::new(FailureKind::DeadlineExceeded, message).with_help(help)
            }
        })
    }
}

/// The run wants a call of `tool` no more.
pub(super) fn cancelled(tool: &str) -> Failure {
    Failure::new(FailureKind::Cancelled, format!("the call of `{tool}` was cancelled"))
}

impl Reported {
    /// When the pending progress is to be reported.
    fn due(&self) -> Option<Instant> {
        self.pending.is_some().then_some(self.next)
    }
}

impl Stop {
    /// What the agent is told.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Cancelled => "the run was cancelled",
            Self::Expired(Expired::Silence(_)) => "the call was silent for too long",
            Self::Expired(Expired::Whole(_)) => "the call took too long",
            Self::Condemned(_) | Self::Lost => "the call failed",
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
