//! A plan, its policies, and its graph of tasks.

pub(crate) mod graph;
pub(crate) mod host_pattern;
pub(crate) mod inputs;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod schedule;
pub(crate) mod steps;
pub(crate) mod template;
