//! The planning of a goal, shared by several commands.

mod goal_request;
mod known_server;
mod planning_meter;
mod saved_plans;
mod work_history;

pub(crate) use goal_request::{
    ConnectionUse, DEFAULT_MAX_REPLANS, GoalOutcome, GoalPlan, GoalRequest, GoalSession, PLAN_SCHEMA, write_plan_schema,
};
pub(crate) use known_server::KnownServer;
pub(crate) use saved_plans::{SavedPlan, SavedPlans};
pub(crate) use work_history::work_history;
