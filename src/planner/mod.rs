//! Turns a goal into a plan, and what is left of one into another: what a language model is shown, the form of its answer, and its repairs.
//! Never dispatches a task, and never gives out a plan that is not valid.

mod bindings;
mod catalogue;
mod conversation;
mod draft;
mod limits;
mod llm;
mod prompt;
mod remainder;
#[cfg(test)]
mod samples;
mod schema;

pub use llm::{Context, Goal, PlanError, Planned, Planning, Progress, Rejected, plan};
pub use remainder::replan;
