//! Turns a goal into a plan, and what is left of one into another: what a language model is shown, the form of its answer, and its repairs.
//! Never dispatches a task, and never gives out a plan that is not valid.

mod bindings;
mod goal;
mod plan_draft;
mod plan_patch;
mod prompt;
mod repair_loop;
#[cfg(test)]
mod samples;
mod schema;
mod token_limit;
mod tool_selection;

pub use goal::{GeneratedPlan, Goal, PlanError, PlanningContext, PlanningProgress, PlanningResult, RejectedPlan, plan};
pub use plan_patch::replan;
