//! Turns the signals that end a program into an orderly end of the run.
//! Never ends the process before the second one.

use std::sync::Arc;

use crate::model::Input;

use super::Hub;

/// The exit code of a run that a person interrupted.
pub const INTERRUPTED: i32 = 130;

/// Cancels the run at the first SIGINT or SIGTERM and ends the process at the second; agents' processes end with
/// it. Runs until dropped.
///
/// # Errors
/// When signals cannot be listened for.
pub async fn listen(hub: Arc<Hub>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut seen = 0;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        seen += 1;
        if seen > 1 {
            std::process::exit(INTERRUPTED);
        }
        hub.send(Input::CancelRequested).await;
    }
}
