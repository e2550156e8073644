//! Turns termination signals into an orderly stop of the run. Signals are handled on a separate thread, so that they
//! work whatever the runtime does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::{io, thread};

use futures::FutureExt;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::mcp::process::guard;
use crate::model::Input;

use super::RuntimeHost;

/// The exit code of an interrupted run.
pub const INTERRUPTED_EXIT_CODE: i32 = 130;

/// The state of the run at an immediate exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStateAtExit {
    /// A run that can be resumed.
    Unfinished,
    /// A run that has ended; only its result is not printed.
    Ended,
}

/// Interrupts the run at the first SIGINT, SIGTERM, or SIGHUP. Exits the process at the second signal, or at the first
/// one after the end of the run. The processes of agents end with it. `before_exit` is called first. A panic here exits
/// the process immediately, since no later signal would be handled.
///
/// Returns once the signal handlers are installed. They stay installed until the process exits.
///
/// # Errors
/// Returns an error if the signal handlers cannot be installed.
pub fn listen_for_signals(
    host: &Arc<RuntimeHost>,
    before_exit: impl FnOnce(RunStateAtExit) + Send + 'static,
) -> io::Result<()> {
    let (ready, listening) = std::sync::mpsc::channel();
    // The thread outlives the run, and must not keep the journal open.
    let host = Arc::downgrade(host);
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(move || {
        let runtime = match Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async move {
            match Signals::new() {
                Ok(signals) => {
                    // The receiver waits for this message.
                    drop(ready.send(Ok(())));
                    handle_signals(signals, host, before_exit).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    })?;
    listening.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of the signals ended")))
}

async fn handle_signals(mut signals: Signals, host: Weak<RuntimeHost>, before_exit: impl FnOnce(RunStateAtExit)) {
    // The panic hook has already reported the panic.
    let _ = AssertUnwindSafe(interrupt(&mut signals, &host)).catch_unwind().await;
    let state = if is_run_ended(&host) { RunStateAtExit::Ended } else { RunStateAtExit::Unfinished };
    let _ = catch_unwind(AssertUnwindSafe(|| before_exit(state)));
    // Unlike `std::process::exit`, this does not wait for output.
    signal_hook::low_level::exit(INTERRUPTED_EXIT_CODE);
}

/// Interrupts the run at the first signal, and waits for the one that exits the process.
async fn interrupt(signals: &mut Signals, host: &Weak<RuntimeHost>) {
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
            () = signals.next() => {}
            () = interrupt => {}
        }
    }
}

/// Returns whether the run has ended.
fn is_run_ended(host: &Weak<RuntimeHost>) -> bool {
    host.upgrade().is_none_or(|host| host.is_closed())
}

/// The termination signals.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Absent if SIGHUP is ignored, as under `nohup`.
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let hangup = if guard::ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup })
    }

    /// Waits for the next signal.
    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hangup => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

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
            .args(["--exact", "runtime::shutdown::tests::child_process_panics_before_exit"])
            .env(CHILD, "1")
            .output()
            .expect("runs");
        assert_eq!(child.status.code(), Some(INTERRUPTED_EXIT_CODE), "{child:?}");
    }
}
