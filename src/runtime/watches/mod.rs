//! Watches what tasks wait for: files, and resources of agents.

mod file;
mod watch;

pub(super) use watch::watch;
