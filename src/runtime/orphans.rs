//! Takes care of what agents leave behind while the run goes on.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::system::process;

/// Reaps the descendants of agents that this process adopted, as soon as they have ended. Runs until dropped.
///
/// # Errors
/// Returns what the system reports when it refuses the signal handler.
pub async fn reap_orphans() -> io::Result<()> {
    let mut child_ended = signal(SignalKind::child())?;
    while child_ended.recv().await.is_some() {
        process::reap_orphans();
    }
    Ok(())
}
