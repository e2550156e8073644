//! Turns a goal into a plan, and the pending tasks of a run into a patch. Owns the prompts, the reply schema, and the
//! repairs of replies.

mod answer;
mod constant_call;
mod goal;
mod goal_check;
mod plan_patch;
mod planning;
mod prompt;
mod repair_loop;
#[cfg(test)]
mod samples;
mod schema;
mod selection;
mod streamed_call;
mod token_limit;
mod watched_request;

pub use constant_call::ConstantCall;
pub use goal::plan;
pub use goal_check::find_missing_part;
pub use plan_patch::{ReplanCause, replan};
pub use planning::{
    ClarifyingQuestion, GeneratedPlan, Goal, PlanError, PlanExample, PlanningContext, PlanningOutcome,
    PlanningProgress, PlanningResult, RejectedPlan, Remark,
};
