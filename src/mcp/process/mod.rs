//! The processes of agents: their start, their end, and their logs.

pub(crate) mod child;
pub(crate) mod environment;
pub mod guard;
pub(crate) mod log;
