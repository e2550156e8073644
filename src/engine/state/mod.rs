//! The state of a run: plain types, and the queues that are derived from it.

pub(crate) mod agent;
pub(crate) mod health;
pub(crate) mod outages;
pub(crate) mod questions;
pub(crate) mod queues;
pub(crate) mod run;
pub(crate) mod run_state;
pub(crate) mod task;
pub(crate) mod wait_queues;
