//! Tells a run in lines, one event after the other, and knows what is under way.
//! Never knows more than the events say, and never reads a clock.

mod replan;
mod tell;

pub(in crate::report) use tell::how_far;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;

use super::text::elapsed;
use crate::model::{
    AgentId, IdHashMap, Outcome, Plan, Progress, Question, QuestionId, RequestId, RunId, RunStatus, Sampler, Task,
    TaskId, Timestamp,
};

/// A line of the story. All text in it is harmless and on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What kind of news it is.
    pub mark: Mark,
    /// Whom it is about: a task, an agent or the plan.
    pub subject: String,
    /// What happened.
    pub text: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Kinds of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The run began or goes on.
    Run,
    /// An agent is connecting, or a call began.
    Began,
    /// A call made progress.
    Progressed,
    /// An agent is connected, or a detail of a call.
    Noted,
    /// An agent sent a log message.
    Logged,
    /// Something will be tried again.
    Retried,
    /// A person is asked.
    Asked,
    /// A person, or a rule, answered.
    Answered,
    /// Nobody here can answer.
    LeftOpen,
    /// It ended well.
    Succeeded,
    /// It failed.
    Failed,
    /// It never started.
    Skipped,
    /// It was cancelled.
    Cancelled,
    /// The run ended.
    Ended(RunStatus),
}

/// A call that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Which try it is, over all agents.
    pub number: u32,
    /// `agent.tool`, harmless.
    pub place: String,
    /// When it began.
    pub since: Timestamp,
    /// How many calls began before it.
    pub order: u64,
    /// How far it is, at most.
    pub progress: Option<Progress>,
    /// Whom it waits for.
    pub waits: Waits,
}

/// Whom a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The agent.
    Agent,
    /// A person.
    Person,
    /// The language model.
    Model,
}

/// Tasks that will be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrying {
    /// When.
    pub at: Timestamp,
    /// The agent, where only one can be called.
    pub agent: Option<AgentId>,
}

/// How many tasks of the plan ended how; items of a `foreach` task do not count by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// With an output.
    pub succeeded: usize,
    /// Without one.
    pub failed: usize,
    /// Never started.
    pub skipped: usize,
    /// Ended by a person.
    pub cancelled: usize,
}

impl Tally {
    /// All that ended.
    pub fn ended(&self) -> usize {
        self.succeeded + self.failed + self.skipped + self.cancelled
    }

    fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Succeeded(_) => &mut self.succeeded,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Skipped(_) => &mut self.skipped,
            Outcome::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} succeeded, {} failed, {} skipped", self.succeeded, self.failed, self.skipped)?;
        if self.cancelled > 0 { write!(f, ", {} cancelled", self.cancelled) } else { Ok(()) }
    }
}

/// What the events have told so far.
#[derive(Debug)]
pub struct Story {
    run: RunId,
    plan: Option<Arc<Plan>>,
    /// The tasks that replans added to those of the plan.
    added: Vec<Arc<Task>>,
    started: Timestamp,
    tally: Tally,
    connecting: Vec<AgentId>,
    running: IdHashMap<TaskId, Running>,
    /// How many calls began.
    begun: u64,
    /// Attempts that failed and whose consequence the next event tells.
    failed: IdHashMap<TaskId, Ended>,
    retrying: BTreeMap<TaskId, Retrying>,
    /// How many items a `foreach` task has, and since when.
    parents: HashMap<TaskId, (usize, Timestamp)>,
    questions: IndexMap<QuestionId, Arc<Question>>,
    sampling: HashMap<RequestId, Sampler>,
    /// The replan that the planner is asked for.
    replanning: Option<u32>,
}

/// An attempt that ended.
#[derive(Debug)]
struct Ended {
    number: u32,
    place: String,
    time: Duration,
}

impl Ended {
    fn of(running: Running, at: Timestamp) -> Self {
        Self { number: running.number, place: running.place, time: at.since(running.since) }
    }
}

impl std::fmt::Display for Ended {
    /// `agent.tool, 1.2s`, and the attempt where it was not the first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.place, elapsed(self.time))?;
        if self.number > 1 { write!(f, ", attempt {}", self.number) } else { Ok(()) }
    }
}

impl Story {
    /// The story of a run of which nothing is known yet.
    pub fn new(run: RunId) -> Self {
        Self {
            run,
            plan: None,
            added: Vec::new(),
            started: Timestamp::default(),
            tally: Tally::default(),
            connecting: Vec::new(),
            running: IdHashMap::default(),
            begun: 0,
            failed: IdHashMap::default(),
            retrying: BTreeMap::new(),
            parents: HashMap::new(),
            questions: IndexMap::new(),
            sampling: HashMap::new(),
            replanning: None,
        }
    }

    /// When the run began.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// How many tasks the plan has.
    pub fn tasks(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| plan.tasks.len()) + self.added.len()
    }

    /// The plan's own tasks, those that replans added included, without items.
    fn planned(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.plan.iter().flat_map(|plan| &plan.tasks).chain(&self.added)
    }

    /// The replan that the planner is asked for, if it is.
    pub fn replanning(&self) -> Option<u32> {
        self.replanning
    }

    /// How many of them ended, and how.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The agents that are being connected to.
    pub fn connecting(&self) -> &[AgentId] {
        &self.connecting
    }

    /// The calls under way, oldest first.
    pub fn running(&self) -> Vec<(&TaskId, &Running)> {
        let mut running: Vec<_> = self.running.iter().collect();
        running.sort_unstable_by_key(|(_, running)| running.order);
        running
    }

    /// The tasks that will be tried again.
    pub fn retrying(&self) -> &BTreeMap<TaskId, Retrying> {
        &self.retrying
    }

    /// The questions that wait for an answer.
    pub fn questions(&self) -> impl Iterator<Item = &Question> {
        self.questions.values().map(AsRef::as_ref)
    }
}

#[cfg(test)]
pub(in crate::report) mod examples;
