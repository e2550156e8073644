//! Reaps orphaned processes of agents during a run.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::system::process;

/// Reaps the descendants of agents that this process has adopted, as soon as they exit. Runs until dropped.
///
/// # Errors
/// Returns the system error if the signal handler cannot be installed.
pub(super) async fn reap_orphans() -> io::Result<()> {
    let mut child_ended = signal(SignalKind::child())?;
    while child_ended.recv().await.is_some() {
        process::reap_orphans();
    }
    Ok(())
}
