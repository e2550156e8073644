//! The state of a run.

pub(crate) mod run;
pub(crate) mod wait_queues;
