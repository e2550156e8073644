//! The termination signals, handled on a separate thread, so that they work whatever the runtime does.

use std::{io, thread};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::mcp::process::guard;

/// The termination signals.
pub(super) struct TerminationSignals {
    interrupt: Signal,
    terminate: Signal,
    /// Absent if SIGHUP is ignored, as under `nohup`.
    hangup: Option<Signal>,
}

/// A termination signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TerminationSignal {
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
    /// SIGTERM or SIGHUP.
    Terminate,
}

impl TerminationSignals {
    fn new() -> io::Result<Self> {
        let hangup = if guard::ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, hangup })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> TerminationSignal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => TerminationSignal::Interrupt,
            _ = self.terminate.recv() => TerminationSignal::Terminate,
            () = hangup => TerminationSignal::Terminate,
        }
    }
}

/// Returns a future that waits for SIGINT, SIGTERM, or SIGHUP. The handlers are installed before this returns. From then
/// on, these signals no longer end the process by themselves.
///
/// # Errors
/// Returns an error if the signal handlers cannot be installed.
pub fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let mut signals = TerminationSignals::new()?;
    Ok(async move {
        signals.next().await;
    })
}

/// Passes the signals of this process to `handle` on a thread of its own. Returns once the handlers are installed.
///
/// # Errors
/// Returns an error if the handlers cannot be installed.
pub(super) fn handle_on_thread<F>(handle: impl FnOnce(TerminationSignals) -> F + Send + 'static) -> io::Result<()>
where
    F: Future<Output = ()>,
{
    let (ready, listening) = std::sync::mpsc::channel();
    let thread = thread::Builder::new().name("signals".into());
    thread.spawn(move || {
        let runtime = match Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async move {
            match TerminationSignals::new() {
                Ok(signals) => {
                    // The receiver waits for this message.
                    drop(ready.send(Ok(())));
                    handle(signals).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    })?;
    listening.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of the signals ended")))
}
