//! Waits on behalf of one call: for as long as the call may take, reporting its progress, until it is wanted no more.
//! Never sends anything to the agent.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Host,
    call_timeouts::{CallTimeouts, TimeoutKind},
    open_calls::CallState,
};
use crate::model::{AgentId, Failure, FailureKind, Progress, StartAttempt};

/// Progress reaches the host at most this often, and once more before the result.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The watch over one call.
pub(super) struct CallGuard {
    host: Arc<dyn Host>,
    agent: AgentId,
    tool: Arc<str>,
    cancel: CancellationToken,
    /// What the agent's messages say of the call.
    pub(super) call: Arc<CallState>,
    timeouts: CallTimeouts,
    progress: ProgressThrottle,
    /// Whether the host leaves the agent alone for now, whose silence then means nothing.
    idle_paused: bool,
}

/// What the host has been told of the progress.
struct ProgressThrottle {
    pending: Option<Progress>,
    latest: Option<Progress>,
    /// The next report is not before this.
    next: Instant,
}

/// Why a call stops before there is an answer.
pub(super) enum CallStop {
    /// The run does not want it any more.
    Canceled,
    /// It was silent or has lasted for too long.
    TimedOut(TimeoutKind),
    /// It fails for a reason that only the transport knows.
    Failed(Failure),
    /// What it waited on is gone.
    ConnectionLost,
}

/// What woke a waiting call.
enum CallWakeup<T> {
    Completed(T),
    Canceled,
    ConnectionLost,
    Notified,
}

impl CallGuard {
    /// The limits of `request` start now.
    pub(super) fn new(request: &StartAttempt, host: Arc<dyn Host>, cancel: CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            host,
            agent: request.agent.clone(),
            tool: request.tool.clone(),
            cancel,
            call: CallState::new(request.attempt.clone()),
            timeouts: CallTimeouts::new(request.timeout, request.deadline, now),
            progress: ProgressThrottle { pending: None, latest: None, next: now },
            idle_paused: false,
        }
    }

    /// Waits for `work` as long as the call may take, or until `lost` ends, and reports progress meanwhile.
    pub(super) async fn wait<F: Future>(
        &mut self,
        work: F,
        lost: impl Future<Output = ()>,
    ) -> Result<F::Output, CallStop> {
        let mut work = std::pin::pin!(work);
        let mut lost = std::pin::pin!(lost);
        loop {
            let look_again = self.timeouts.next_deadline().into_iter().chain(self.progress.due()).min();
            let woken = tokio::select! {
                biased;
                done = work.as_mut() => CallWakeup::Completed(done),
                () = self.cancel.cancelled() => CallWakeup::Canceled,
                () = lost.as_mut() => CallWakeup::ConnectionLost,
                () = self.call.notified() => CallWakeup::Notified,
                () = sleep_until_or_forever(look_again) => CallWakeup::Notified,
            };
            match woken {
                CallWakeup::Completed(done) => return Ok(done),
                CallWakeup::Canceled => return Err(CallStop::Canceled),
                CallWakeup::ConnectionLost => {
                    let verdict = self.call.transport_failure().cloned();
                    return Err(verdict.map_or(CallStop::ConnectionLost, CallStop::Failed));
                }
                CallWakeup::Notified => {}
            }
            if let Some(failure) = self.call.transport_failure() {
                return Err(CallStop::Failed(failure.clone()));
            }
            let now = Instant::now();
            if let Some(progress) = self.call.new_progress() {
                self.timeouts.record_activity(now);
                self.progress.pending = Some(progress);
            }
            let mut asking = self.call.pending_answers();
            asking.host += usize::from(self.idle_paused);
            self.timeouts.update_waiting(asking, now);
            if self.progress.due().is_some_and(|due| due <= now) {
                self.report_progress(now);
            }
            if let Some(expired) = self.timeouts.expired(now) {
                return Err(CallStop::TimedOut(expired));
            }
        }
    }

    /// The agent is left alone until it is spoken with again.
    pub(super) fn pause_idle_timeout(&mut self) {
        self.idle_paused = true;
        self.call.notify();
    }

    /// The agent is spoken with again, or was expected to speak.
    pub(super) fn resume_idle_timeout(&mut self) {
        self.idle_paused = false;
        self.call.notify();
    }

    /// The agent gave a sign of life that is no progress.
    pub(super) fn record_activity(&mut self) {
        self.timeouts.record_activity(Instant::now());
    }

    fn report_progress(&mut self, now: Instant) {
        if let Some(progress) = self.progress.pending.take() {
            if self.progress.latest.as_ref() != Some(&progress) {
                self.host.on_progress(&self.call.attempt, progress.clone());
            }
            self.progress.latest = Some(progress);
            self.progress.next = now + PROGRESS_INTERVAL;
        }
    }

    /// Reports the furthest progress before the result follows.
    pub(super) fn report_final_progress(&mut self) {
        if let Some(progress) = self.call.new_progress() {
            self.progress.pending = Some(progress);
        }
        self.report_progress(Instant::now());
    }

    /// Says why the call ended without an answer. `None`: what it waited on is gone, and the caller knows more of it.
    pub(super) fn stop_failure(&self, stop: CallStop) -> Option<Failure> {
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
            CallStop::Canceled => canceled_failure(tool),
            CallStop::Failed(failure) => failure,
            CallStop::ConnectionLost => return None,
            CallStop::TimedOut(TimeoutKind::Idle(limit)) => {
                let message = format!("`{tool}` of agent `{agent}` was silent for {limit:?}; {seen}");
                Failure::new(FailureKind::IdleTimeout, message)
                    .with_help("raise the task's `timeout` if it needs longer")
            }
            CallStop::TimedOut(TimeoutKind::Total(limit)) => {
                let message = format!("`{tool}` of agent `{agent}` took longer than {limit:?}; {seen}");
                let help = "raise the task's `deadline` if it needs longer";
                Failure::new(FailureKind::DeadlineExceeded, message).with_help(help)
            }
        })
    }
}

/// The run wants a call of `tool` no more.
pub(super) fn canceled_failure(tool: &str) -> Failure {
    Failure::new(FailureKind::Cancelled, format!("the call of `{tool}` was cancelled"))
}

impl ProgressThrottle {
    /// When the pending progress is to be reported.
    fn due(&self) -> Option<Instant> {
        self.pending.is_some().then_some(self.next)
    }
}

impl CallStop {
    /// What the agent is told.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Canceled => "the run was cancelled",
            Self::TimedOut(TimeoutKind::Idle(_)) => "the call was silent for too long",
            Self::TimedOut(TimeoutKind::Total(_)) => "the call took too long",
            Self::Failed(_) | Self::ConnectionLost => "the call failed",
        }
    }
}

async fn sleep_until_or_forever(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
