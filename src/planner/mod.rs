//! Turns a goal into a plan, and the pending tasks of a run into a patch. Owns the prompts, the reply schema, and the
//! repairs of replies.

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
