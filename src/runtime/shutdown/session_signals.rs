//! The termination signals of a session: a process that executes several runs, one after another, and outlives them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::termination_signals::{TerminationSignal, TerminationSignals, handle_on_thread};
use crate::model::Input;
use crate::runtime::RuntimeHost;

/// The state of the run at an immediate exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStateAtExit {
    /// A run that can be resumed.
    Unfinished,
    /// A run that has ended; only its result is not printed.
    Ended,
}

/// The session of this process, if it has one. Signals belong to the process, so it has at most one.
static SESSION: OnceLock<Arc<SessionSignals>> = OnceLock::new();

/// The termination signals of a session.
///
/// A signal interrupts the run in progress, and the next one stops it at once. Without a run, SIGINT ends what the
/// session waits for. SIGTERM and SIGHUP end the session too.
#[derive(Default)]
pub struct SessionSignals {
    /// The run in progress. Locked only to register a run and by a signal.
    run: Mutex<Option<SessionRun>>,
    /// Notified by SIGINT without a run.
    interrupted: Notify,
    terminated: CancellationToken,
}

/// A run in progress.
struct SessionRun {
    host: Weak<RuntimeHost>,
    stopped: CancellationToken,
    is_interrupted: bool,
    before_stop: Option<BeforeStop>,
}

/// A function that is called before a run stops at once.
pub(super) type BeforeStop = Box<dyn FnOnce(RunStateAtExit) + Send>;

/// Returns the session of this process, if it has one.
pub(super) fn current() -> Option<&'static Arc<SessionSignals>> {
    SESSION.get()
}

impl SessionSignals {
    /// Starts the session of this process: from now on, termination signals end runs instead of the process.
    ///
    /// # Errors
    /// Returns an error if the signal handlers cannot be installed.
    pub fn start() -> io::Result<Arc<Self>> {
        let session = Arc::clone(SESSION.get_or_init(Arc::default));
        let handling = Arc::clone(&session);
        handle_on_thread(|signals| handling.handle(signals))?;
        Ok(session)
    }

    /// Returns whether this process is a session, so that it continues after a run.
    pub fn is_active() -> bool {
        current().is_some()
    }

    /// Waits for the next SIGINT without a run in progress.
    pub async fn interrupted(&self) {
        self.interrupted.notified().await;
    }

    /// Waits for SIGTERM or SIGHUP.
    pub async fn terminated(&self) {
        self.terminated.cancelled().await;
    }

    /// Returns whether the session has to end.
    pub fn is_terminated(&self) -> bool {
        self.terminated.is_cancelled()
    }

    /// Makes `host` the run that signals interrupt.
    pub(super) fn register(self: &Arc<Self>, host: &Arc<RuntimeHost>, before_stop: BeforeStop) -> RunRegistration {
        let stopped = CancellationToken::new();
        *self.run.lock() = Some(SessionRun {
            host: Arc::downgrade(host),
            stopped: stopped.clone(),
            is_interrupted: false,
            before_stop: Some(before_stop),
        });
        RunRegistration { session: Arc::clone(self), stopped }
    }

    async fn handle(self: Arc<Self>, mut signals: TerminationSignals) {
        loop {
            let signal = signals.next().await;
            self.end_run();
            if signal == TerminationSignal::Terminate {
                self.terminated.cancel();
            }
        }
    }

    /// Interrupts the run, or stops it if it was interrupted already.
    fn end_run(&self) {
        let mut run = self.run.lock();
        let host = run.as_ref().and_then(|run| run.host.upgrade()).filter(|host| !host.is_closed());
        match (run.as_mut(), host) {
            (Some(run), Some(host)) if !run.is_interrupted => {
                run.is_interrupted = true;
                // The queue of a busy run may be full, which must not delay the next signal.
                tokio::spawn(async move { host.send(Input::InterruptRequested).await });
            }
            (Some(run), Some(_)) => {
                if let Some(before_stop) = run.before_stop.take() {
                    // The panic hook has already reported a panic.
                    let _ = catch_unwind(AssertUnwindSafe(|| before_stop(RunStateAtExit::Unfinished)));
                }
                run.stopped.cancel();
            }
            _ => self.interrupted.notify_waiters(),
        }
    }
}

/// The registration of a run with its session. Dropping it ends the registration.
pub(in crate::runtime) struct RunRegistration {
    session: Arc<SessionSignals>,
    stopped: CancellationToken,
}

impl RunRegistration {
    /// Waits until the run has to stop at once.
    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

impl Drop for RunRegistration {
    fn drop(&mut self) {
        *self.session.run.lock() = None;
    }
}
