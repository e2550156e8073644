//! Tells a run in lines, one event after the other, and knows what is under way.
//! Never knows more than the events say, and never reads a clock.

mod apply;
mod replan;

pub(in crate::report) use apply::progress_text;

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

/// A line of the story. All text in it is harmless and on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// What kind of news it is.
    pub kind: LineKind,
    /// Whom it is about: a task, an agent or the plan.
    pub subject: String,
    /// What happened.
    pub text: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Kinds of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// The run began or goes on.
    Run,
    /// An agent is connecting, or a call began.
    Started,
    /// A call made progress.
    Progress,
    /// An agent is connected, or a detail of a call.
    Info,
    /// An agent sent a log message.
    Log,
    /// Something will be tried again.
    Retrying,
    /// A person is asked.
    Asked,
    /// A person, or a rule, answered.
    Answered,
    /// Nobody here can answer.
    Deferred,
    /// It ended well.
    Succeeded,
    /// It failed.
    Failed,
    /// It never started.
    Skipped,
    /// It was cancelled.
    Canceled,
    /// The run ended.
    Ended(RunStatus),
}

/// A call that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningCall {
    /// Which try it is, over all agents.
    pub attempt: u32,
    /// `agent.tool`, harmless.
    pub route_name: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How many calls began before it.
    pub order: u64,
    /// How far it is, at most.
    pub progress: Option<Progress>,
    /// Whom it waits for.
    pub waiting_for: WaitingOn,
}

/// Whom a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingOn {
    /// The agent.
    Agent,
    /// A person.
    Person,
    /// The language model.
    Model,
}

/// Tasks that will be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRetry {
    /// When.
    pub at: Timestamp,
    /// The agent, where only one can be called.
    pub agent: Option<AgentId>,
}

/// How many tasks of the plan ended how; items of a `foreach` task do not count by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// With an output.
    pub succeeded: usize,
    /// Without one.
    pub failed: usize,
    /// Never started.
    pub skipped: usize,
    /// Ended by a person.
    pub canceled: usize,
}

impl OutcomeCounts {
    /// All that ended.
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

/// What the events have told so far.
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
    /// How many calls began.
    started_calls: u64,
    /// Attempts that failed and whose consequence the next event tells.
    failed_attempts: IdHashMap<TaskId, FinishedAttempt>,
    retrying: BTreeMap<TaskId, ScheduledRetry>,
    /// How many items a `foreach` task has, and since when.
    foreach_tasks: HashMap<TaskId, (usize, Timestamp)>,
    questions: IndexMap<QuestionId, Arc<Question>>,
    samplings: HashMap<RequestId, SamplingOrigin>,
    /// The replan that the planner is asked for.
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
    /// `agent.tool, 1.2s`, and the attempt where it was not the first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.route_name, format_elapsed(self.time))?;
        if self.attempt > 1 { write!(f, ", attempt {}", self.attempt) } else { Ok(()) }
    }
}

impl RunView {
    /// The story of a run of which nothing is known yet.
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

    /// When the run began.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How many tasks the plan has.
    pub fn task_count(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.tasks.len()) + self.added_tasks.len()
    }

    /// The plan's own tasks, those that replans added included, without items.
    fn planned_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.plan.iter().flat_map(|plan| &plan.tasks).chain(&self.added_tasks)
    }

    /// The replan that the planner is asked for, if it is.
    pub fn replanning(&self) -> Option<u32> {
        self.replanning
    }

    /// How many of them ended, and how.
    pub fn counts(&self) -> OutcomeCounts {
        self.counts
    }

    /// The agents that are being connected to.
    pub fn connecting(&self) -> &[AgentId] {
        &self.connecting
    }

    /// The calls under way, oldest first.
    pub fn running(&self) -> Vec<(&TaskId, &RunningCall)> {
        let mut running: Vec<_> = self.running.iter().collect();
        running.sort_unstable_by_key(|(_, running)| running.order);
        running
    }

    /// The tasks that will be tried again.
    pub fn retrying(&self) -> &BTreeMap<TaskId, ScheduledRetry> {
        &self.retrying
    }

    /// The questions that wait for an answer.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.questions.values().map(AsRef::as_ref)
    }
}

#[cfg(test)]
pub(in crate::report) mod examples;
