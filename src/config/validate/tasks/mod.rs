//! Reads the tasks of a plan, and what they consist of.

pub(super) mod branches;
pub(super) mod policy;
pub(super) mod prompts;
pub(super) mod reader;
mod resources;
mod secret_arguments;
mod steps;
