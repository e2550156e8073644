//! Turns the signals that end a program into an orderly end of the run.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::model::Input;

use super::Hub;

/// The exit code of a run that a person interrupted.
pub const INTERRUPTED: i32 = 130;

/// Cancels the run at the first SIGINT or SIGTERM. The second one ends the process inside the signal handler, so that it
/// works whatever the process waits for; the guard then ends the agents' processes.
#[derive(Debug)]
pub struct SignalListener {
    /// Whether the next signal ends the process.
    ends_process: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl SignalListener {
    /// Starts to listen, on behalf of the run that `hub` belongs to.
    ///
    /// # Errors
    /// When the system refuses a signal handler.
    pub fn start(hub: Arc<Hub>) -> io::Result<Self> {
        let ends_process = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // In this order the first signal sets the flag, and the second one finds it set.
            flag::register_conditional_shutdown(number, INTERRUPTED, Arc::clone(&ends_process))?;
            flag::register(number, Arc::clone(&ends_process))?;
        }
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            hub.send(Input::CancelRequested).await;
        });
        Ok(Self { ends_process, task })
    }

    /// Stops listening: the run has ended, and the next signal ends the process, even while it waits for an output that
    /// accepts nothing.
    pub fn stop(self) {
        self.ends_process.store(true, Ordering::SeqCst);
        self.task.abort();
    }
}
