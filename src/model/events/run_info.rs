//! What events say about a run as a whole: its source, its planning, its status, and the cause of its end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{AgentId, ChatReply, ChatRequest, JsonObject, TaskId, Usage};

/// The source files of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSource {
    /// The absolute path of the plan file; absent for a plan from standard input, and for the call of one tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// A hash of the plan's text.
    pub plan_hash: String,
    /// The absolute path of the agents file.
    pub agents: String,
    /// The absolute path of the agents file of the user, if the other one is that of a project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agents: Option<String>,
    /// The file with inputs; absent if the inputs came from standard input or no file was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<ParamsFile>,
}

/// A file with inputs of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamsFile {
    /// Its absolute path.
    pub path: String,
    /// A hash of its text.
    pub hash: String,
    /// The inputs that the command line overrides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
}

/// The generation of a plan for a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoalPlanning {
    /// The goal.
    pub goal: String,
    /// The exchanges with the planner, in order. The last one returned the plan.
    pub exchanges: Vec<PlannerExchange>,
    /// The calls that were made while the plan was written, and whose results no task uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discarded_calls: Vec<DiscardedCall>,
}

/// A call that was made while a plan was written, and whose result no task uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardedCall {
    /// The agent.
    pub agent: AgentId,
    /// The tool.
    pub tool: Arc<str>,
    /// The arguments.
    pub arguments: JsonObject,
    /// Why no task uses the result.
    pub reason: DiscardReason,
}

/// Why no task uses the result of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiscardReason {
    /// The plan does not have the call, or it does not run.
    Unused,
    /// The call failed. Its task makes it again.
    Failed,
    /// The agent requested something of the host. The task makes the call again, in the run.
    InputRequested,
}

impl GoalPlanning {
    /// Returns the tokens of all exchanges, if the endpoint reported them for each.
    pub fn usage(&self) -> Option<Usage> {
        self.exchanges.iter().try_fold(Usage::default(), |sum, exchange| {
            let usage = exchange.usage?;
            Some(Usage {
                input_tokens: sum.input_tokens + usage.input_tokens,
                output_tokens: sum.output_tokens + usage.output_tokens,
            })
        })
    }
}

/// A request of the planner and the model's reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannerExchange {
    /// The model, as reported by the endpoint.
    pub model: String,
    /// MCP's `stopReason`, as in [`ChatReply`].
    pub stop_reason: String,
    /// The number of tokens used, if reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The maximum number of tokens that the exchange may have used. It counts if `usage` is absent.
    pub estimated_tokens: u64,
    /// The cost in US dollars, as in [`ChatReply`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl PlannerExchange {
    /// Returns the exchange of `request` and `reply`.
    pub fn from_reply(request: &ChatRequest, reply: &ChatReply) -> Self {
        Self {
            model: reply.model.clone(),
            stop_reason: reply.stop_reason.clone(),
            usage: reply.usage,
            estimated_tokens: request.estimate_tokens(),
            cost_usd: reply.cost_usd,
        }
    }
}

/// The status of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// Not ended. A run whose process died keeps this status.
    #[default]
    Running,
    /// Every task succeeded or was skipped by its own condition.
    Succeeded,
    /// Some tasks failed, and the plan allows the run to continue without them.
    Partial,
    /// A task failed whose failure fails the run, or a required agent is unavailable.
    Failed,
    /// Only questions remain, and they cannot be answered here.
    Paused,
    /// The driving process was asked to stop.
    Interrupted,
    /// A person cancelled it.
    Cancelled,
}

impl RunStatus {
    /// Returns the name of the status, which is the same in text, in JSON, and in the journal.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns whether the run can continue: it is running, interrupted, or paused.
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Interrupted)
    }
}

/// The cause of a run's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndCause {
    /// A required agent is unavailable.
    RequiredAgentUnavailable {
        /// The agent.
        agent: AgentId,
    },
    /// The only failures are declined approvals.
    Denied,
    /// The budget of the run is exhausted.
    BudgetSpent {
        /// The exhausted limit, for people.
        what: String,
    },
    /// An agent has changed since the run was interrupted, and the change was not accepted; the run is paused.
    AgentChanged {
        /// The agent.
        agent: AgentId,
        /// The tools with changed schemas, and the removed tools.
        tools: Vec<String>,
    },
    /// A task of the plan ended the run early.
    Stopped {
        /// The task.
        task: TaskId,
        /// The reason, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}
