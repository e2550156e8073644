//! Every key of the plan file, the agents file and the answers file: its spelling, its meaning, its shape.
//! Never says what follows from a value.

mod agents;
mod answers;
mod plan;

pub(super) use agents::{AGENT, AGENTS_FILE, LLM, PLANNER, PRICES, SAMPLING, SCORES};
pub(super) use answers::ANSWERS;
pub(super) use plan::{
    AWAIT, BACKOFF, BUDGET, DEFAULTS, FALLBACK, INPUT, PLAN, QUESTIONS, REMAINDER, RESULT, RETRY, SYNTHESIS, TASK,
    TASK_BUDGET,
};

use super::shape::{Key, Shape};

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, aliases: &[], about, shape }
}

const EFFECTS: Shape = Shape::Choice(&[
    ("read_only", "It changes nothing."),
    ("idempotent", "A second call adds nothing to the first."),
    ("at_most_once", "A second call may do the thing twice, so a call without an answer is never repeated."),
]);

const PARALLEL: Shape = Shape::Whole(1, 100_000);
