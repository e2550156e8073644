//! The exclusive right to drive a run.

use std::fmt;

/// The exclusive right to drive a run, until it is dropped.
pub type Lease = Box<dyn fmt::Debug + Send + Sync>;

/// The process that drives a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The process ID; absent for the moment between acquiring the lease and writing the ID.
    pub pid: Option<u32>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(process) => write!(f, "process {process}"),
            None => f.write_str("another process"),
        }
    }
}
