//! Waits for the end of child processes and of their process groups.

use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::guard::{self, Signal};
use crate::system::process::{OwnChild, reap_group};

/// The number of times that the end of a killed group is checked, and the delay between them.
const MAX_GROUP_CHECKS: usize = 50;
const GROUP_CHECK_DELAY: Duration = Duration::from_millis(2);

/// The process group of a child. Dropping it kills the group.
struct ProcessGroup(u32);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        guard::signal(self.0, Signal::Kill);
        if guard::is_group_empty(self.0) {
            guard::unregister(self.0);
        }
    }
}

/// A child that leads its process group, with the task that waits for both. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct SupervisedGroup {
    pid: u32,
    status: watch::Receiver<Option<ExitStatus>>,
    _supervisor: AbortOnDropHandle<()>,
}

impl SupervisedGroup {
    /// Waits for `child`, which was registered with the guard. Other processes of its group end with it.
    ///
    /// # Errors
    /// Returns an error if the child was waited for already.
    pub(super) fn new(mut child: Child) -> std::io::Result<Self> {
        let pid = child.id().ok_or_else(|| std::io::Error::other("the process has no id"))?;
        let own_child = OwnChild::new(pid);
        let (ended, status) = watch::channel(None);
        let supervisor = tokio::spawn(async move {
            let group = ProcessGroup(pid);
            let status = child.wait().await;
            drop(own_child);
            guard::signal(pid, Signal::Kill);
            ended.send_replace(status.ok());
            for _ in 0..MAX_GROUP_CHECKS {
                reap_group(pid);
                if guard::is_group_empty(pid) {
                    break;
                }
                tokio::time::sleep(GROUP_CHECK_DELAY).await;
            }
            drop(group);
        });
        Ok(Self { pid, status, _supervisor: AbortOnDropHandle::new(supervisor) })
    }

    /// Returns the ID of the child and of its group.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the exit status of the child, if it has exited.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        *self.status.borrow()
    }

    /// Returns whether the child has exited.
    pub(super) fn has_exited(&self) -> bool {
        self.status.borrow().is_some() || self.status.has_changed().is_err()
    }

    /// Waits until the child has exited.
    pub(super) async fn wait_for_exit(&self) {
        let mut status = self.status.clone();
        // An error means that the supervisor task has ended, and the child with it.
        let _ = status.wait_for(Option::is_some).await;
    }

    /// Sends a signal to the group, unless the child has exited.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.has_exited() {
            guard::signal(self.pid, signal);
        }
    }
}
