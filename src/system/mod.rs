//! Wraps the operating system: private files, bounded reads, the environment, processes, and the time.

pub mod archive;
pub mod clock;
pub mod environment;
pub mod files;
pub mod hash;
pub mod process;
