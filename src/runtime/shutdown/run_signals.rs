//! Turns termination signals into an orderly stop of one run.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use futures::FutureExt;

use super::session_signals::{self, RunRegistration, RunStateAtExit};
use super::termination_signals::{TerminationSignals, handle_on_thread};
use crate::model::Input;
use crate::runtime::RuntimeHost;

/// The exit code of an interrupted run.
pub const INTERRUPTED_EXIT_CODE: i32 = 130;

/// The signals of a run, until it is dropped.
pub(in crate::runtime) enum RunSignals {
    /// The run has the process for itself.
    Process,
    /// The run is one of a session.
    Session(RunRegistration),
}

impl RunSignals {
    /// Waits until the run has to stop at once, which a session requests instead of the end of the process.
    pub(in crate::runtime) async fn stopped(&self) {
        match self {
            Self::Process => std::future::pending().await,
            Self::Session(registration) => registration.stopped().await,
        }
    }
}

/// Interrupts the run at the first SIGINT, SIGTERM, or SIGHUP. Exits the process at the second signal, or at the first
/// one after the end of the run. The processes of agents end with it. `before_exit` is called first. A panic here exits
/// the process immediately, since no later signal would be handled.
///
/// In a session, the second signal stops the run instead of the process.
///
/// Returns once the signal handlers are installed. They stay installed until the process exits.
///
/// # Errors
/// Returns an error if the signal handlers cannot be installed.
pub(in crate::runtime) fn listen_for_signals(
    host: &Arc<RuntimeHost>,
    before_exit: impl FnOnce(RunStateAtExit) + Send + 'static,
) -> io::Result<RunSignals> {
    if let Some(session) = session_signals::current() {
        return Ok(RunSignals::Session(session.register(host, Box::new(before_exit))));
    }
    // The thread outlives the run, and must not keep the journal open.
    let host = Arc::downgrade(host);
    handle_on_thread(move |signals| handle_signals(signals, host, before_exit))?;
    Ok(RunSignals::Process)
}

async fn handle_signals(
    mut signals: TerminationSignals,
    host: Weak<RuntimeHost>,
    before_exit: impl FnOnce(RunStateAtExit),
) {
    // The panic hook has already reported the panic.
    let _ = AssertUnwindSafe(interrupt(&mut signals, &host)).catch_unwind().await;
    let state = if is_run_ended(&host) { RunStateAtExit::Ended } else { RunStateAtExit::Unfinished };
    let _ = catch_unwind(AssertUnwindSafe(|| before_exit(state)));
    // Unlike `std::process::exit`, this does not wait for output.
    signal_hook::low_level::exit(INTERRUPTED_EXIT_CODE);
}

/// Interrupts the run at the first signal, and waits for the one that exits the process.
async fn interrupt(signals: &mut TerminationSignals, host: &Weak<RuntimeHost>) {
    signals.next().await;
    if !is_run_ended(host) {
        // The queue of a busy run may be full, which must not delay the second signal.
        let interrupt = async {
            if let Some(host) = host.upgrade() {
                host.send(Input::InterruptRequested).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = signals.next() => {}
            () = interrupt => {}
        }
    }
}

/// Returns whether the run has ended.
fn is_run_ended(host: &Weak<RuntimeHost>) -> bool {
    host.upgrade().is_none_or(|host| host.is_closed())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use signal_hook::consts::SIGTERM;
    use signal_hook::low_level::raise;

    use super::*;
    use crate::journal::MemoryJournal;

    const CHILD: &str = "KAPELL_TEST_SIGNALS";

    /// Helper process: the test below starts this program again with the variable set.
    #[test]
    fn child_process_panics_before_exit() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let (host, receiver) = RuntimeHost::new("r".into(), Arc::new(MemoryJournal::default()), 1);
        listen_for_signals(&host, |_| panic!("an error in the hint")).expect("listens");
        // The run has ended, so the first signal exits the process.
        drop(receiver);
        raise(SIGTERM).expect("a signal");
        loop {
            thread::park();
        }
    }

    #[test]
    fn panic_before_exit_does_not_prevent_the_exit() {
        let child = Command::new(std::env::current_exe().expect("a program"))
            .args(["--exact", "runtime::shutdown::run_signals::tests::child_process_panics_before_exit"])
            .env(CHILD, "1")
            .output()
            .expect("runs");
        assert_eq!(child.status.code(), Some(INTERRUPTED_EXIT_CODE), "{child:?}");
    }
}
