//! The processes of agents: their start, their end, and their logs.

pub(crate) mod child;
pub mod guard;
pub(crate) mod log;
