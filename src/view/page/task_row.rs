//! One row of a run page.

use std::sync::Arc;

use serde::Serialize;

use super::segments::Segment;
use crate::model::{AgentId, Effect, MicroDollars, Operation, QuestionId, Task, TaskId, Timestamp, Work};
use crate::view::run_result::TaskStatus;

/// A task, an item, a task of a group, or a call of a prompt. Its texts are escaped.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskRow {
    /// The ID.
    pub id: TaskId,
    /// The row that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The title, or else the ID.
    pub name: String,
    /// The kind of work.
    pub kind: RowKind,
    /// The state.
    pub state: RowState,
    /// The agent of the latest attempt, or else of the only route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The tool of the latest attempt, or else of the only route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<Arc<str>>,
    /// The number of attempts, including those of its parts.
    pub attempts: u32,
    /// The start of the first attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// The end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The time of the scheduled attempt, or the time that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The periods of its time.
    pub segments: Vec<Segment>,
    /// The progress that the agent reported last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<RowProgress>,
    /// The failure, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The reason for its state: why it was skipped, or why it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rows that it waits for.
    pub needs: Arc<[TaskId]>,
    /// The states of its parts, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<RowCounts>,
    /// Set if the run ended no earlier because of it.
    #[serde(rename = "critical", skip_serializing_if = "std::ops::Not::not")]
    pub is_critical: bool,
    /// Set if the result is from an earlier run.
    #[serde(rename = "reused", skip_serializing_if = "std::ops::Not::not")]
    pub is_reused: bool,
    /// The spending, of a planned task only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<MicroDollars>,
    /// The tokens, of a planned task only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The question that waits for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<QuestionId>,
    /// The effect of a repeated call, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// The kind of work of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A call of a tool or of a prompt that an agent offers.
    Call,
    /// A request to a language model.
    Prompt,
    /// Tasks with a scope of their own.
    Group,
    /// A list of items.
    Foreach,
    /// Iterations until a condition holds.
    Repeat,
    /// Another plan.
    Plan,
    /// A shell command.
    Shell,
    /// An HTTP request.
    Http,
    /// A resource of an agent.
    Resource,
    /// A question to a person.
    Ask,
    /// A time or a signal.
    Wait,
    /// An early end of the run.
    Stop,
    /// One answer from all other results.
    Synthesis,
    /// A task that runs after the end of another one, or of the plan.
    Hook,
}

impl RowKind {
    /// Returns the kind of a task as a whole.
    pub fn of_task(task: &Task) -> Self {
        if task.hook.is_some() {
            Self::Hook
        } else if task.foreach.is_some() {
            Self::Foreach
        } else if task.repeat.is_some() {
            Self::Repeat
        } else {
            Self::of_work(task)
        }
    }

    /// Returns the kind of what a task does once, or for each item.
    pub fn of_work(task: &Task) -> Self {
        match &task.work {
            Work::Call(call) => Self::of_operation(call.operation),
            Work::Prompt(_) => Self::Prompt,
            Work::Synthesis(_) => Self::Synthesis,
            Work::Group(group) if group.plan.is_some() => Self::Plan,
            Work::Group(_) => Self::Group,
            Work::Ask(_) => Self::Ask,
            Work::Wait(_) => Self::Wait,
            Work::Stop(_) => Self::Stop,
        }
    }

    /// Returns the kind of a call.
    pub fn of_operation(operation: Operation) -> Self {
        match operation {
            Operation::CallTool | Operation::GetPrompt => Self::Call,
            Operation::ReadResource => Self::Resource,
            Operation::RunCommand => Self::Shell,
            Operation::SendRequest => Self::Http,
        }
    }
}

/// The state of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// It waits for other rows.
    #[default]
    Waiting,
    /// It could start, and waits for a place.
    Queued,
    /// An agent works on it, or it waits for a time, a signal, or its parts.
    Running,
    /// A person is asked.
    Asking,
    /// A language model is asked.
    Model,
    /// It pauses before its next attempt.
    Retrying,
    /// It has a result.
    Succeeded,
    /// It failed.
    Failed,
    /// It never started.
    Skipped,
    /// The run was cancelled before it ended.
    Cancelled,
}

impl RowState {
    /// Returns whether it is final.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled)
    }
}

impl From<TaskStatus> for RowState {
    fn from(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Waiting => Self::Waiting,
            TaskStatus::Running => Self::Running,
            TaskStatus::Succeeded => Self::Succeeded,
            TaskStatus::Failed => Self::Failed,
            TaskStatus::Skipped => Self::Skipped,
            TaskStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// The progress that an agent reported.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowProgress {
    /// The progress so far.
    pub value: f64,
    /// The value at completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// The current activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The number of rows by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// All of them.
    pub total: usize,
    /// Those that have not started.
    pub waiting: usize,
    /// Those in progress.
    pub running: usize,
    /// Those that wait for a person.
    pub asking: usize,
    /// Those that pause before their next attempt.
    pub retrying: usize,
    /// Those with a result.
    pub succeeded: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that never started.
    pub skipped: usize,
    /// Those that were cancelled.
    pub cancelled: usize,
}

impl RowCounts {
    /// Counts one more row.
    pub(super) fn add(&mut self, state: RowState) {
        self.total += 1;
        *self.of_state(state) += 1;
    }

    /// Counts one row less, which was counted with this state.
    pub(super) fn remove(&mut self, state: RowState) {
        self.total -= 1;
        *self.of_state(state) -= 1;
    }

    fn of_state(&mut self, state: RowState) -> &mut usize {
        match state {
            RowState::Waiting | RowState::Queued => &mut self.waiting,
            RowState::Running | RowState::Model => &mut self.running,
            RowState::Asking => &mut self.asking,
            RowState::Retrying => &mut self.retrying,
            RowState::Succeeded => &mut self.succeeded,
            RowState::Failed => &mut self.failed,
            RowState::Skipped => &mut self.skipped,
            RowState::Cancelled => &mut self.cancelled,
        }
    }
}

/// Returns the route of a task that has only one.
pub(super) fn only_route(task: &Task) -> Option<(AgentId, Arc<str>)> {
    match task.routes() {
        [route] => Some((route.agent.clone(), Arc::clone(&route.tool))),
        _ => None,
    }
}
