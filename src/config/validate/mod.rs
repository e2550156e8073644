//! Turns a plan file into a valid plan, or returns all of its diagnostics at once. The tools of agents are passed in as
//! a catalog.

mod arguments;
mod assumed_agents;
mod graph;
mod host;
mod inputs;
mod plan;
mod plan_patch;
mod references;
mod replan;
mod routes;
mod schedule;
mod symbols;
mod tasks;
mod validated_plan;
mod work_keys;

pub use assumed_agents::load_plan_without_agents;
pub use plan::load_plan;
pub use plan_patch::{PatchContext, load_plan_patch};
pub use routes::{AgentCatalog, NO_MODEL_HELP};
pub use schedule::read_schedule;
pub use validated_plan::ValidatedPlan;
