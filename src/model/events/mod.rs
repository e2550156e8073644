//! The inputs, events, and commands of a run.

pub(crate) mod command;
pub(crate) mod event;
pub(crate) mod input;
pub(crate) mod run_info;
