//! What a planner is told of a run whose remainder is to be planned anew, and what it gives back.
//! Never decides whether it is.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{AgentId, AgentInfo, AgentPolicy, Consent, Plan, Task, TaskId};

/// How often a run may have its remainder planned anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplanPolicy {
    /// Most replans of the run; at least 1.
    pub most: u32,
    /// Whether a person must agree to each new remainder.
    #[serde(default)]
    pub consent: Consent,
}

/// What is left of a plan to do, as it was planned anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanPatch {
    /// Tasks that had not started and stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<TaskId>,
    /// Tasks that had not started and never will.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<TaskId>,
    /// New tasks, under ids that the run did not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Arc<Task>>,
    /// What the agents file said of each agent that a new task names.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub agents: IndexMap<AgentId, AgentPolicy>,
}

/// A run whose remainder is to be planned anew.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplanRequest {
    /// Which replan of the run it is, from 1.
    pub number: u32,
    /// The plan that the run began with.
    pub plan: Arc<Plan>,
    /// Its tasks and those that were added since, without the ones that were removed and without a synthesis.
    pub tasks: Vec<TaskSnapshot>,
    /// The ids of those, which no new task may have either.
    pub used_task_ids: Vec<TaskId>,
    /// What the agents that the run has asked said of themselves, or why they are unavailable.
    pub agents: IndexMap<AgentId, Result<Arc<AgentInfo>, String>>,
}

/// A task, and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSnapshot {
    /// The task.
    pub task: Arc<Task>,
    /// How it stands.
    pub progress: TaskProgress,
}

/// How a task stands when the remainder is planned anew.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskProgress {
    /// It succeeded, with this text or JSON.
    Succeeded(String),
    /// It failed or was skipped, for this reason.
    NoResult(String),
    /// It has started and goes on.
    Running,
    /// It has not started.
    Pending,
    /// It has not started and never could: it needs this task, directly or through others.
    Unreachable(TaskId),
}

impl TaskProgress {
    /// Whether a new task may use its result.
    pub fn has_result(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Running)
    }

    /// Whether it has not started, so that it can be kept or removed.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Pending | Self::Unreachable(_))
    }
}
