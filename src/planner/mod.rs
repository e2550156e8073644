//! Turns a goal into a plan, and the pending tasks of a run into a patch. Owns the prompts, the reply schema, and the
//! repairs of replies.

mod bindings;
mod goal;
mod plan_draft;
mod plan_patch;
mod planning;
mod prompt;
mod repair_loop;
#[cfg(test)]
mod samples;
mod schema;
mod token_limit;
mod tool_selection;

pub use goal::plan;
pub use plan_patch::replan;
pub use planning::{GeneratedPlan, Goal, PlanError, PlanningContext, PlanningProgress, PlanningResult, RejectedPlan};
