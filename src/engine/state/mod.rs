//! The state of a run: plain types, and the queues that are derived from it.

pub(crate) mod accounts;
pub(crate) mod agent;
pub(crate) mod fold;
pub(crate) mod health;
pub(crate) mod new_run;
pub(crate) mod outages;
pub(crate) mod questions;
pub(crate) mod queues;
pub(crate) mod replans;
pub(crate) mod run;
pub(crate) mod run_state;
pub(crate) mod schemas;
pub(crate) mod task;
pub(crate) mod wait_queues;
