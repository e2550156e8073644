//! Every key of the plan file, the agents file, and the answers file: its name, description, and type.

mod agents;
mod answers;
mod common;
mod plan;

pub(crate) use agents::{
    AGENT, AGENTS_FILE, AgentKeys, HTTP_SETTINGS, HttpSettingsKeys, LLM, LlmKeys, OAUTH, OAuthKeys, PLANNER, PLANS,
    PRICES, PlannerKeys, PlansKeys, SAMPLING, SCORES, SHELL_SETTINGS, ShellSettingsKeys,
};
pub(crate) use answers::ANSWERS;
pub(crate) use plan::{
    ASK, AWAIT, BACKOFF, BUDGET, CACHE, FALLBACK, FOREACH, ForeachKeys, HTTP, HttpKeys, INPUT, InputKeys, PLAN,
    PLAN_PATCH, PlanKeys, PlanPatchKeys, QUESTIONS, READ, REPEAT, RESULT, RETRY, ReadKeys, SCHEDULE, SHELL, STOP,
    SYNTHESIS, ShellKeys, TASK, TaskKeys, USE_PROMPT, UsePromptKeys, WAIT, WaitKeys,
};
