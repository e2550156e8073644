//! The policies of a plan: permissions, effects, retries, limits, and what follows from a failure.

use serde::{Deserialize, Serialize};

use crate::model::{Expression, HumanDuration};

/// The settings of an agent that a run needs for routing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentPolicy {
    /// True if the run fails when the agent is unavailable.
    pub required: bool,
    /// The maximum number of concurrent attempts on this agent.
    pub max_concurrency: usize,
    /// The idle timeout of calls whose task sets none.
    pub tool_timeout: HumanDuration,
    /// The effect of the agent's tools, if neither the task nor the plan sets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// A hash of the agent's section, with which a later process detects changes; empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
}

impl AgentPolicy {
    /// Returns the settings of the host itself, which runs commands and sends requests. The limit of the plan applies.
    pub fn of_host() -> Self {
        Self {
            required: false,
            max_concurrency: 1_000,
            tool_timeout: HumanDuration(std::time::Duration::from_secs(5 * 60)),
            effect: None,
            fingerprint: String::new(),
        }
    }
}

/// The permission of an agent to do something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// It is allowed.
    #[default]
    Allow,
    /// A person is asked each time.
    Ask,
    /// It is denied, and the capability is not advertised.
    Deny,
}

/// The effect of a repeated call, from safest to least safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// No change.
    ReadOnly,
    /// A change that a second call does not repeat.
    Idempotent,
    /// A change that a second call may repeat. This is the default if nothing is known.
    AtMostOnce,
}

/// The timeout of a task's questions, and the answer after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionPolicy {
    /// The timeout, from the moment of asking.
    pub timeout: HumanDuration,
    /// The answer after the timeout.
    pub default: DefaultAnswer,
}

/// The answer to a question after its timeout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultAnswer {
    /// Yes, with the defaults of the form's fields; no if a required field has none.
    Accept,
    /// No.
    #[default]
    Decline,
    /// Dismissed.
    Cancel,
}

/// The replan settings of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplanPolicy {
    /// The maximum number of replans in a run; at least 1.
    pub max_replans: u32,
    /// The approval required for each patch.
    #[serde(default)]
    pub consent: Consent,
}

/// The consequence of a task's failure for other tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnFailure {
    /// The run fails and dependents are skipped; independent tasks continue.
    #[default]
    Fail,
    /// Dependents run without its output; the run ends as partial.
    Continue,
    /// Dependents are skipped; the run ends as partial.
    SkipDependents,
    /// Pending tasks are replanned. If that is impossible, the same as [`Self::Fail`].
    Replan,
}

/// The retry policy of a task on one route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// The maximum number of attempts on one route, including the first; at least 1.
    pub max_attempts: u32,
    /// The delay between attempts.
    pub backoff: Backoff,
    /// A condition about the failure, without which the task is neither retried nor rerouted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 1, backoff: Backoff::default(), when: None }
    }
}

/// The delay before attempt n+1: `min(max, initial × factor^(n-1))`, with a random part of `jitter`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// The first delay.
    pub initial: HumanDuration,
    /// The multiplier of each further delay; 1 for a fixed delay.
    pub factor: f64,
    /// The maximum delay.
    pub max: HumanDuration,
    /// The random part of the delay, from 0 (none) to 1 (all of it).
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        let seconds = |n| HumanDuration(std::time::Duration::from_secs(n));
        Self { initial: seconds(1), factor: 2.0, max: seconds(30), jitter: 0.5 }
    }
}

/// Limits on the spending of a run or a task. Absent fields are unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Maximum number of tokens of the language model, including requests and replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// US dollars, if the agents file has prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Requests to the language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_calls: Option<u64>,
    /// Attempts of calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
    /// Time since the start of the plan; never set for a task, which has `deadline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<HumanDuration>,
}

/// Returns whether journals omit a value. The defaults of such values must never change.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
