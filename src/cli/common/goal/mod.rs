//! The planning of a goal, shared by several commands.

mod goal_request;
mod planning_meter;

pub(crate) use goal_request::{
    DEFAULT_MAX_REPLANS, GoalOutcome, GoalPlan, GoalRequest, GoalSession, PLAN_SCHEMA, write_plan_schema,
};
