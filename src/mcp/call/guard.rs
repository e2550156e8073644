//! Enforces the idle timeout and the deadline of one call, and reports its progress.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::timeouts::{CallTimeouts, TimeoutKind};
use crate::mcp::host::ClientHost;
use crate::mcp::requests::open_calls::CallState;
use crate::model::{AgentId, Failure, FailureKind, Progress, ToolCall};

/// The shortest time between two progress reports to the host. One more report precedes the result.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A guard that enforces the timeouts of one call.
pub(crate) struct CallGuard {
    host: Arc<dyn ClientHost>,
    agent: AgentId,
    tool: Arc<str>,
    cancel: CancellationToken,
    /// The state of the call that the agent's messages update.
    pub(crate) call: Arc<CallState>,
    timeouts: CallTimeouts,
    progress: ProgressThrottle,
    /// True while the host does not expect the agent to send anything, which pauses the idle timeout.
    idle_paused: bool,
}

/// The progress that was reported to the host, and the progress that is pending.
struct ProgressThrottle {
    pending: Option<Progress>,
    latest: Option<Progress>,
    /// The earliest time of the next report.
    next: Instant,
}

/// The reason that a call stops before its response.
pub(crate) enum CallStop {
    /// The run cancelled the call.
    Canceled,
    /// The idle timeout or the deadline was reached.
    TimedOut(TimeoutKind),
    /// The transport recorded a failure.
    Failed(Failure),
    /// The connection was lost.
    ConnectionLost,
}

impl CallGuard {
    /// Creates a guard; both limits of `request` start now.
    pub(crate) fn new(request: &ToolCall, host: Arc<dyn ClientHost>, cancel: CancellationToken) -> Self {
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

    /// Waits for `work` until a timeout, a cancellation, or the end of `lost`, and reports progress meanwhile.
    pub(crate) async fn wait<F: Future>(
        &mut self,
        work: F,
        lost: impl Future<Output = ()>,
    ) -> Result<F::Output, CallStop> {
        let mut work = std::pin::pin!(work);
        let mut lost = std::pin::pin!(lost);
        loop {
            let next_check = self.timeouts.next_deadline().into_iter().chain(self.progress.due()).min();
            tokio::select! {
                biased;
                output = work.as_mut() => return Ok(output),
                () = self.cancel.cancelled() => return Err(CallStop::Canceled),
                () = lost.as_mut() => {
                    let failure = self.call.transport_failure().cloned();
                    return Err(failure.map_or(CallStop::ConnectionLost, CallStop::Failed));
                }
                () = self.call.notified() => {}
                () = sleep_until_or_forever(next_check) => {}
            }
            if let Some(failure) = self.call.transport_failure() {
                return Err(CallStop::Failed(failure.clone()));
            }
            let now = Instant::now();
            if let Some(progress) = self.call.new_progress() {
                self.timeouts.record_activity(now);
                self.progress.pending = Some(progress);
            }
            let mut pending = self.call.pending_answers();
            pending.host += usize::from(self.idle_paused);
            self.timeouts.update_waiting(pending, now);
            if self.progress.due().is_some_and(|due| due <= now) {
                self.report_progress(now);
            }
            if let Some(expired) = self.timeouts.expired(now) {
                return Err(CallStop::TimedOut(expired));
            }
        }
    }

    /// Pauses the idle timeout while the host does not communicate with the agent.
    pub(crate) fn pause_idle_timeout(&mut self) {
        self.idle_paused = true;
        self.call.notify();
    }

    /// Resumes the idle timeout.
    pub(crate) fn resume_idle_timeout(&mut self) {
        self.idle_paused = false;
        self.call.notify();
    }

    /// Restarts the idle timeout for activity that is not progress.
    pub(crate) fn record_activity(&mut self) {
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

    /// Reports the latest progress before the result follows.
    pub(crate) fn report_final_progress(&mut self) {
        if let Some(progress) = self.call.new_progress() {
            self.progress.pending = Some(progress);
        }
        self.report_progress(Instant::now());
    }

    /// Returns the failure of a call that ended without a response. `None` means that the connection was lost; the
    /// caller knows the details.
    pub(crate) fn stop_failure(&self, stop: CallStop) -> Option<Failure> {
        let (agent, tool) = (&self.agent, &self.tool);
        let latest = self.progress.pending.as_ref().or(self.progress.latest.as_ref());
        let progress = match latest {
            Some(Progress { progress: value, total, message }) => {
                let total = total.map(|total| format!(" of {total}")).unwrap_or_default();
                let message = message.as_ref().map(|text| format!(" (`{text}`)")).unwrap_or_default();
                format!("its last progress was {value}{total}{message}")
            }
            None => "it reported no progress".to_owned(),
        };
        Some(match stop {
            CallStop::Canceled => canceled_failure(tool),
            CallStop::Failed(failure) => failure,
            CallStop::ConnectionLost => return None,
            CallStop::TimedOut(TimeoutKind::Idle(limit)) => {
                let message = format!("`{tool}` of agent `{agent}` was silent for {limit:?}; {progress}");
                Failure::new(FailureKind::IdleTimeout, message).with_help("raise the task's `timeout`")
            }
            CallStop::TimedOut(TimeoutKind::Total(limit)) => {
                let message = format!("`{tool}` of agent `{agent}` took longer than {limit:?}; {progress}");
                let help = "raise the task's `deadline`";
                Failure::new(FailureKind::DeadlineExceeded, message).with_help(help)
            }
        })
    }
}

/// Returns the failure of a cancelled call of `tool`.
pub(crate) fn canceled_failure(tool: &str) -> Failure {
    Failure::new(FailureKind::Cancelled, format!("the call of `{tool}` was cancelled"))
}

impl ProgressThrottle {
    /// Returns the time at which the pending progress should be reported.
    fn due(&self) -> Option<Instant> {
        self.pending.is_some().then_some(self.next)
    }
}

impl CallStop {
    /// Returns the reason that is sent to the agent with the cancellation.
    pub(crate) fn reason(&self) -> &'static str {
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
