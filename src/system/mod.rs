//! What the operating system does for the host: private files, bounded reads, the environment, processes, the time.
//! Knows nothing about runs, agents or plans.

pub mod clock;
pub mod environment;
pub mod files;
pub mod process;
