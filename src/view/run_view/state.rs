//! The state of a run, and how it is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::Value;

use super::activity::{EndedCall, OutcomeCounts, RunningCall, ScheduledRetry};
use super::history::RunHistory;
use super::progress::{RunProgress, is_counted};
use super::questions::AskedQuestion;
use super::tasks::TaskResults;
use crate::engine::{Ledger, SpendingTotals};
use crate::model::{
    AgentId, AgentInfo, Failure, IdHashMap, Outcome, Plan, QuestionId, Record, RequestId, RunId, SamplingOrigin,
    SkipReason, Task, TaskId, Timestamp,
};
use crate::view::drawing::DrawnTask;
use crate::view::run_result::{RunResult, TaskResult, TaskStatus};
use crate::view::text::truncated;

/// The state of the connection to an agent.
#[derive(Debug, Clone)]
pub enum AgentConnection {
    /// A connection is being opened.
    Connecting,
    /// It is connected.
    Connected(Arc<AgentInfo>),
    /// It cannot be used in this run.
    Unavailable(Failure),
}

/// The state of a run as far as the events show it.
#[derive(Debug, Clone, Default)]
pub struct RunView {
    pub(super) results: TaskResults,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) inputs: Option<Arc<Value>>,
    /// The tasks that replans added to those of the plan.
    pub(super) added_tasks: Vec<Arc<Task>>,
    /// The run that this one repeats a part of.
    pub(super) earlier_run: Option<RunId>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) last_event_at: Timestamp,
    pub(super) ledger: Ledger<SpendingTotals>,
    pub(super) counts: OutcomeCounts,
    pub(super) progress: RunProgress,
    pub(super) agents: IndexMap<AgentId, AgentConnection>,
    pub(super) connecting: Vec<AgentId>,
    pub(in crate::view) running: IdHashMap<TaskId, RunningCall>,
    /// The number of calls that started.
    pub(super) started_calls: u64,
    /// The calls whose consequence is in the next event of the task.
    pub(in crate::view) failed_calls: IdHashMap<TaskId, EndedCall>,
    pub(super) retrying: BTreeMap<TaskId, ScheduledRetry>,
    /// The tasks that wait for a time.
    pub(super) timers: BTreeMap<TaskId, Timestamp>,
    /// The number of items of each `foreach` task, and when it started.
    pub(in crate::view) foreach_tasks: IdHashMap<TaskId, (usize, Timestamp)>,
    /// The questions, in the order in which they were first asked.
    pub(super) questions: IndexMap<QuestionId, AskedQuestion>,
    /// The requests to the language model that have no reply yet.
    pub(in crate::view) samplings: IdHashMap<RequestId, SamplingOrigin>,
    /// The number of the replan that the planner is working on.
    pub(super) replanning: Option<u32>,
    /// Empty unless it is recorded.
    pub(super) history: RunHistory,
    pub(super) records_history: bool,
}

/// Returns the result of the run with these events, which may be incomplete.
pub fn run_result<'a>(run: &RunId, records: impl IntoIterator<Item = &'a Record>) -> RunResult {
    let mut view = RunView::new(run);
    for record in records {
        view.apply(record);
    }
    view.into_result()
}

impl RunView {
    /// Creates the view of a run without events.
    pub fn new(run: &RunId) -> Self {
        let mut view = Self::default();
        view.results.result.run = run.clone();
        view
    }

    /// Creates the view of a run without events, which also records what only the history of a run shows.
    pub fn with_history(run: &RunId) -> Self {
        Self { records_history: true, ..Self::new(run) }
    }

    /// Returns the ID of the run.
    pub fn run(&self) -> &RunId {
        &self.result().run
    }

    /// Returns the result so far.
    pub fn result(&self) -> &RunResult {
        &self.results.result
    }

    /// Returns the result so far of a task, an item, or a task in a group; also of a call of a prompt, if the history is
    /// recorded.
    pub fn task_result(&self, id: &TaskId) -> Option<&TaskResult> {
        self.results.calls.get(id).or_else(|| self.result().task(id))
    }

    /// Returns the result so far, to complete it.
    pub fn result_mut(&mut self) -> &mut RunResult {
        &mut self.results.result
    }

    /// Returns the final result.
    pub fn into_result(self) -> RunResult {
        self.results.result
    }

    /// Returns what only the history of a run shows; empty unless created with [`RunView::with_history`].
    pub fn history(&self) -> &RunHistory {
        &self.history
    }

    /// Returns the plan and the inputs of the run.
    pub fn start(&self) -> Option<(&Plan, &Value)> {
        Some((self.plan.as_deref()?, self.inputs.as_deref()?))
    }

    /// Returns the name of the plan; empty before the run has started.
    pub fn plan_name(&self) -> &str {
        self.plan.as_ref().map_or("", |plan| &plan.name)
    }

    /// Returns the run that this one repeats a part of, if any.
    pub fn earlier_run(&self) -> Option<&RunId> {
        self.earlier_run.as_ref()
    }

    /// Returns the start time of the run.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// Returns the end time of the run, unless it was resumed since.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.ended_at
    }

    /// Returns the time of the last event.
    pub fn last_event_at(&self) -> Timestamp {
        self.last_event_at
    }

    /// Returns the number of tasks that the plan file and replans have, without a synthesis.
    pub fn task_count(&self) -> usize {
        self.planned_tasks().filter(|task| is_counted(task)).count()
    }

    /// Returns the number of tasks that have not ended, with the synthesis.
    pub fn unfinished_count(&self) -> usize {
        let is_unfinished = |status| matches!(status, TaskStatus::Waiting | TaskStatus::Running);
        self.result().tasks.values().filter(|task| is_unfinished(task.status)).count()
    }

    /// Returns the work so far, in tasks and items.
    pub fn progress(&self) -> &RunProgress {
        &self.progress
    }

    /// Returns the time since the start of the run during which a process drove it.
    pub fn elapsed(&self, now: Timestamp) -> Duration {
        now.since(self.started_at.unwrap_or(now)).saturating_sub(self.progress.downtime())
    }

    /// Returns the title of a task, or else its ID, escaped. Items and calls have their index or number behind it.
    pub fn task_name(&self, id: &str) -> String {
        let (planned, part) = id.split_at(TaskId::planned_task_name(id).len());
        match self.result().tasks.get(planned).and_then(|task| task.title.as_deref()) {
            Some(title) if part.is_empty() => truncated(title),
            Some(title) => truncated(&format!("{title} {part}")),
            None => truncated(id),
        }
    }

    /// Returns the tasks of the plan, including those that replans added, without items.
    pub(crate) fn planned_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.plan.iter().flat_map(|plan| &plan.tasks).chain(&self.added_tasks)
    }

    /// Returns whether the latest replan is a check of the goal: no failure triggered it.
    pub fn is_goal_check(&self) -> bool {
        self.results.replan_causes.is_empty()
    }

    /// Returns the number of the replan in progress, if there is one.
    pub fn replanning(&self) -> Option<u32> {
        self.replanning
    }

    /// Returns the number of ended tasks by outcome.
    pub fn counts(&self) -> OutcomeCounts {
        self.counts
    }

    /// Returns the agents of the run, in the order of their first connection.
    pub fn agents(&self) -> &IndexMap<AgentId, AgentConnection> {
        &self.agents
    }

    /// Returns the agents that are being connected.
    pub fn connecting(&self) -> &[AgentId] {
        &self.connecting
    }

    /// Returns the running calls, oldest first.
    pub fn running(&self) -> Vec<(&TaskId, &RunningCall)> {
        let mut running: Vec<_> = self.running.iter().collect();
        running.sort_unstable_by_key(|(_, running)| running.order);
        running
    }

    /// Returns the tasks with a scheduled retry.
    pub fn retrying(&self) -> &BTreeMap<TaskId, ScheduledRetry> {
        &self.retrying
    }

    /// Returns the tasks that wait for a time, each with that time.
    pub fn timers(&self) -> &BTreeMap<TaskId, Timestamp> {
        &self.timers
    }

    /// Returns the definition of a task, of an item, or of a task in a group.
    pub fn task_definition(&self, id: &str) -> Option<&Arc<Task>> {
        let mut parts = id.split('.').map(|part| part.split(['[', '/']).next().unwrap_or(part));
        let first = parts.next()?;
        let planned = self.planned_tasks().find(|task| task.id.as_str() == first)?;
        parts.try_fold(planned, |group, name| group.members().iter().find(|member| member.id.as_str() == name))
    }

    /// Returns the state of the box of a task in a drawing; `None` for a task in a group that has not started, and for one
    /// in each item of a list.
    pub fn drawn_status(&self, drawn: &DrawnTask) -> Option<TaskStatus> {
        if drawn.members.is_empty() {
            return Some(self.result().task(&TaskId::from(drawn.id.as_str()))?.status);
        }
        let statuses = || drawn.members.iter().filter_map(|id| Some(self.result().tasks.get(id)?.status));
        let first = [TaskStatus::Failed, TaskStatus::Running, TaskStatus::Waiting, TaskStatus::Cancelled]
            .into_iter()
            .find(|status| statuses().any(|member| member == *status));
        let succeeded = || statuses().find(|member| *member == TaskStatus::Succeeded);
        first.or_else(succeeded).or_else(|| statuses().next())
    }

    /// Returns all questions, in the order in which they were first asked.
    pub fn questions(&self) -> impl Iterator<Item = &AskedQuestion> {
        self.questions.values()
    }

    /// Returns the questions that wait for an answer.
    pub fn open_questions(&self) -> impl Iterator<Item = &AskedQuestion> {
        self.questions.values().filter(|asked| asked.is_open())
    }

    /// Returns a question by its ID.
    pub fn question(&self, question: &str) -> Option<&AskedQuestion> {
        self.questions.get(question)
    }

    /// Counts the outcome of a task of the plan; items are not counted.
    pub(super) fn count(&mut self, task: &TaskId, outcome: &Outcome) {
        if matches!(outcome, Outcome::Skipped(SkipReason::NotTriggered)) {
            return;
        }
        let is_written = !task.is_resource_read() && self.result().synthesis.as_ref() != Some(task);
        if task.is_planned() && (is_written || !matches!(outcome, Outcome::Succeeded(_))) {
            self.counts.add(outcome);
        }
    }
}
