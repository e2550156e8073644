//! Every key of the plan file, the agents file, and the answers file: its name, description, and type.

mod agents;
mod answers;
mod common;
mod plan;

pub(crate) use agents::{AGENT, AGENTS_FILE, LLM, PLANNER, PRICES, SAMPLING, SCORES};
pub(crate) use answers::ANSWERS;
pub(crate) use plan::{
    AWAIT, BACKOFF, BUDGET, FALLBACK, INPUT, PLAN, PLAN_PATCH, QUESTIONS, RESULT, RETRY, SYNTHESIS, TASK,
};
