//! The processes of agents: their start, their end, and their logs.

pub(crate) mod child;
pub(crate) mod command_process;
pub(crate) mod environment;
mod group;
pub mod guard;
pub(crate) mod log;
