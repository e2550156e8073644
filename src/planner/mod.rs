//! Turns a goal into a plan: what a language model is shown, the form of its answer, and its repairs.
//! Never dispatches a task, and never gives out a plan that is not valid.

mod bindings;
mod catalogue;
mod draft;
mod llm;
mod prompt;
#[cfg(test)]
mod samples;
mod schema;

pub use llm::{Context, PlanError, Planned, Planning, Progress, Rejected, plan};
