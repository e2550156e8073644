//! The request for a replan, and the resulting patch.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{AgentId, AgentInfo, AgentPolicy, Plan, Task, TaskId};

/// A change of the pending part of a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanPatch {
    /// Pending tasks that stay unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<TaskId>,
    /// Pending tasks that are removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<TaskId>,
    /// New tasks, with IDs that the run has not used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Arc<Task>>,
    /// The part of the goal that the run will not reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// The agents file's settings for each agent that a new task names.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub agents: IndexMap<AgentId, AgentPolicy>,
}

/// The state of a run that needs a replan.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplanRequest {
    /// The number of the replan within the run, from 1.
    pub number: u32,
    /// Set if no task failed, and the planner is asked whether the goal is reached.
    pub check: Option<GoalCheck>,
    /// The original plan.
    pub plan: Arc<Plan>,
    /// The tasks of the plan and those added since, without removed tasks and without a synthesis.
    pub tasks: Vec<TaskSnapshot>,
    /// The IDs of removed tasks and of the synthesis, which a new task must not use.
    pub used_task_ids: Vec<TaskId>,
    /// The self-descriptions of the agents that the run has connected to, or the reasons why they are unavailable.
    pub agents: IndexMap<AgentId, Result<Arc<AgentInfo>, String>>,
}

/// Whether a check of the goal may add tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoalCheck {
    /// What is missing is planned.
    MayPlan,
    /// What is missing is only reported, because the limit of replans is reached.
    ReportOnly,
}

/// A task and its progress.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSnapshot {
    /// The task.
    pub task: Arc<Task>,
    /// The progress.
    pub progress: TaskProgress,
}

/// The progress of a task at the time of a replan.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskProgress {
    /// It succeeded, with this text or JSON.
    Succeeded(String),
    /// It failed or was skipped, for this reason.
    NoResult(String),
    /// It is running.
    Running,
    /// It is pending.
    Pending,
    /// It is pending and can never start, since it depends on this task, directly or indirectly.
    Unreachable(TaskId),
}

impl TaskProgress {
    /// Returns whether a new task may use the result of this one.
    pub fn has_result(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Running)
    }

    /// Returns whether it has not started, so that it can be kept or removed.
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Pending | Self::Unreachable(_))
    }
}
