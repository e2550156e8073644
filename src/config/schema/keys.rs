//! Every key of the plan file, the agents file, and the answers file: its name, description, and type.

mod agents;
mod answers;
mod plan;

pub(crate) use agents::{AGENT, AGENTS_FILE, LLM, PLANNER, PRICES, SAMPLING, SCORES};
pub(crate) use answers::ANSWERS;
pub(crate) use plan::{
    AWAIT, BACKOFF, BUDGET, DEFAULTS, FALLBACK, INPUT, PLAN, PLAN_PATCH, QUESTIONS, RESULT, RETRY, SYNTHESIS, TASK,
    TASK_BUDGET,
};

use super::table::{KeySchema, ValueType};

const fn key(name: &'static str, shape: ValueType, about: &'static str) -> KeySchema {
    KeySchema { name, aliases: &[], description: about, value_type: shape }
}

const EFFECTS: ValueType = ValueType::Choice(&[
    ("read_only", "It changes nothing."),
    ("idempotent", "A second call adds nothing to the first."),
    ("at_most_once", "A second call may do the thing twice, so a call without an answer is never repeated."),
]);

const CONCURRENCY: ValueType = ValueType::Integer(1, 100_000);
