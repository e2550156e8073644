//! Observes whether a child has read its input, which shows that it has started.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::process::ChildStdin;

/// The interval at which the pipe is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A duplicate of a child's input pipe. The input stays open until it is dropped.
pub(crate) struct UnreadInput(Arc<Option<OwnedFd>>);

/// A reference to an observer that does not keep the input open.
#[derive(Clone)]
pub(super) struct WeakUnreadInput(Weak<Option<OwnedFd>>);

impl UnreadInput {
    pub(super) fn of(input: &ChildStdin) -> Self {
        Self(Arc::new(input.as_fd().try_clone_to_owned().ok()))
    }

    pub(super) fn downgrade(&self) -> WeakUnreadInput {
        WeakUnreadInput(Arc::downgrade(&self.0))
    }

    /// Returns whether some input is unread; false if the system cannot report it.
    pub(crate) fn has_unread(&self) -> bool {
        has_unread(&self.0)
    }

    /// Waits until the child has read all its input.
    pub(crate) async fn wait_until_read(&self) {
        while self.has_unread() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl WeakUnreadInput {
    /// Returns whether some input is unread; false if nothing observes it any more.
    pub(super) fn has_unread(&self) -> bool {
        self.0.upgrade().is_some_and(|input| has_unread(&input))
    }

    /// Waits until the child has read all its input, or nothing observes it any more.
    pub(super) async fn wait_until_read(&self) {
        while self.has_unread() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

fn has_unread(input: &Option<OwnedFd>) -> bool {
    input.as_ref().and_then(|input| rustix::io::ioctl_fionread(input).ok()).is_some_and(|bytes| bytes > 0)
}
