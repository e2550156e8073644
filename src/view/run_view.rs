//! Converts the events of a run to lines, and tracks the work in progress.
//! It uses only the events and has no clock.

mod apply;
mod replan;

pub(crate) use apply::progress_text;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;

use super::text::format_elapsed;
use crate::model::{
    AgentId, IdHashMap, Outcome, Plan, Progress, Question, QuestionId, RequestId, RunId, RunStatus, SamplingOrigin,
    Task, TaskId, Timestamp,
};

/// A line of the report. All of its text is escaped and on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// The kind of line.
    pub kind: LineKind,
    /// The subject: a task, an agent, or the plan.
    pub subject: String,
    /// The description.
    pub text: String,
    /// The advice for the user.
    pub help: Option<String>,
}

/// The kind of a report line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// The run started or resumed.
    Run,
    /// An agent is connecting, or a call started.
    Started,
    /// A call made progress.
    Progress,
    /// An agent is connected, or a detail of a call.
    Info,
    /// An agent sent a log message.
    Log,
    /// A retry or reroute is scheduled.
    Retrying,
    /// A question was asked.
    Asked,
    /// A person, or a rule, answered.
    Answered,
    /// The question cannot be answered here.
    Deferred,
    /// Success.
    Succeeded,
    /// Failure.
    Failed,
    /// The task never started.
    Skipped,
    /// The task was cancelled.
    Canceled,
    /// The run ended.
    Ended(RunStatus),
}

/// A call in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningCall {
    /// The number of the attempt, over all routes.
    pub attempt: u32,
    /// `agent.tool`, escaped.
    pub route_name: String,
    /// The start time.
    pub started_at: Timestamp,
    /// The number of calls that started before it.
    pub order: u64,
    /// The highest progress so far.
    pub progress: Option<Progress>,
    /// The party that the call waits for.
    pub waiting_for: WaitingOn,
}

/// The party that a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingOn {
    /// The agent.
    Agent,
    /// A person.
    Person,
    /// The language model.
    Model,
}

/// A scheduled retry of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRetry {
    /// The time of the retry.
    pub at: Timestamp,
    /// The agent, if only one is eligible.
    pub agent: Option<AgentId>,
}

/// The number of tasks by outcome. Items of a `foreach` task do not count separately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Tasks with an output.
    pub succeeded: usize,
    /// Tasks without an output.
    pub failed: usize,
    /// Tasks that never started.
    pub skipped: usize,
    /// Tasks that a person ended.
    pub canceled: usize,
}

impl OutcomeCounts {
    /// Returns the number of ended tasks.
    pub fn ended(&self) -> usize {
        self.succeeded + self.failed + self.skipped + self.canceled
    }

    fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Succeeded(_) => &mut self.succeeded,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Skipped(_) => &mut self.skipped,
            Outcome::Cancelled => &mut self.canceled,
        } += 1;
    }
}

impl std::fmt::Display for OutcomeCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} succeeded, {} failed, {} skipped", self.succeeded, self.failed, self.skipped)?;
        if self.canceled > 0 { write!(f, ", {} cancelled", self.canceled) } else { Ok(()) }
    }
}

/// The state of a run as far as the events show it.
#[derive(Debug)]
pub struct RunView {
    run: RunId,
    plan: Option<Arc<Plan>>,
    /// The tasks that replans added to those of the plan.
    added_tasks: Vec<Arc<Task>>,
    started_at: Timestamp,
    counts: OutcomeCounts,
    connecting: Vec<AgentId>,
    running: IdHashMap<TaskId, RunningCall>,
    /// The number of calls that started.
    started_calls: u64,
    /// Failed attempts whose consequence is in the next event of the task.
    failed_attempts: IdHashMap<TaskId, FinishedAttempt>,
    retrying: BTreeMap<TaskId, ScheduledRetry>,
    /// The number of items of each `foreach` task, and when it started.
    foreach_tasks: HashMap<TaskId, (usize, Timestamp)>,
    questions: IndexMap<QuestionId, Arc<Question>>,
    samplings: HashMap<RequestId, SamplingOrigin>,
    /// The number of the replan that the planner is working on.
    replanning: Option<u32>,
}

/// An attempt that ended.
#[derive(Debug)]
struct FinishedAttempt {
    attempt: u32,
    route_name: String,
    time: Duration,
}

impl FinishedAttempt {
    fn new(running: RunningCall, at: Timestamp) -> Self {
        Self { attempt: running.attempt, route_name: running.route_name, time: at.since(running.started_at) }
    }
}

impl std::fmt::Display for FinishedAttempt {
    /// Formats `agent.tool, 1.2s`, with the attempt number if it was not the first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.route_name, format_elapsed(self.time))?;
        if self.attempt > 1 { write!(f, ", attempt {}", self.attempt) } else { Ok(()) }
    }
}

impl RunView {
    /// Creates the view of a run without events.
    pub fn new(run: RunId) -> Self {
        Self {
            run,
            plan: None,
            added_tasks: Vec::new(),
            started_at: Timestamp::default(),
            counts: OutcomeCounts::default(),
            connecting: Vec::new(),
            running: IdHashMap::default(),
            started_calls: 0,
            failed_attempts: IdHashMap::default(),
            retrying: BTreeMap::new(),
            foreach_tasks: HashMap::new(),
            questions: IndexMap::new(),
            samplings: HashMap::new(),
            replanning: None,
        }
    }

    /// Returns the start time of the run.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Returns the number of tasks in the plan, including those that replans added.
    pub fn task_count(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.tasks.len()) + self.added_tasks.len()
    }

    /// Returns the tasks of the plan, including those that replans added, without items.
    fn planned_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.plan.iter().flat_map(|plan| &plan.tasks).chain(&self.added_tasks)
    }

    /// Returns the number of the replan that the planner is working on, if any.
    pub fn replanning(&self) -> Option<u32> {
        self.replanning
    }

    /// Returns the number of ended tasks by outcome.
    pub fn counts(&self) -> OutcomeCounts {
        self.counts
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

    /// Returns the questions that wait for an answer.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.questions.values().map(AsRef::as_ref)
    }
}

#[cfg(test)]
pub(crate) mod examples;
