//! Every key of the plan file, the agents file, and the answers file: its name, description, and type.

mod agents;
mod answers;
mod common;
mod plan;

pub(crate) use agents::{
    AGENT, AGENTS_FILE, AgentKeys, LLM, LlmKeys, OAUTH, OAuthKeys, PLANNER, PLANS, PRICES, PlannerKeys, PlansKeys,
    SAMPLING, SCORES,
};
pub(crate) use answers::ANSWERS;
pub(crate) use plan::{
    AWAIT, BACKOFF, BUDGET, FALLBACK, FOREACH, ForeachKeys, INPUT, InputKeys, PLAN, PLAN_PATCH, PlanKeys,
    PlanPatchKeys, QUESTIONS, READ, RESULT, RETRY, ReadKeys, SYNTHESIS, TASK, TaskKeys, USE_PROMPT, UsePromptKeys,
};
