//! The work in progress, for the live view and for the words about an event.

use std::sync::Arc;

use serde_json::Value;

use crate::model::{AgentId, AttemptId, Outcome, Progress, Timestamp};
use crate::view::text::{format_elapsed, route_name};

/// A call in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningCall {
    /// The number of the attempt, over all routes.
    pub attempt: u32,
    /// The agent and the tool; `None` for a request to the language model.
    pub route: Option<(AgentId, Arc<str>)>,
    /// The start time.
    pub started_at: Timestamp,
    /// The number of calls that started before it.
    pub order: u64,
    /// The highest progress so far.
    pub progress: Option<Progress>,
    /// The data of its latest log message, unless progress with a message came later.
    pub latest_log: Option<Value>,
    /// The party that the call waits for.
    pub waiting_for: WaitingOn,
    /// Set if it has waited for a person, so that its time says nothing about other calls.
    pub asked_person: bool,
}

impl RunningCall {
    /// Returns `agent.tool`, escaped.
    pub fn route_name(&self) -> String {
        match &self.route {
            Some((agent, tool)) => route_name(agent, tool),
            None => "the language model".to_owned(),
        }
    }

    /// Formats the call at its end: `agent.tool, 1.2s`, with the attempt number if it was not the first.
    pub(crate) fn summary(&self, ended_at: Timestamp) -> String {
        let mut text = self.route_name();
        text.push_str(", ");
        text.push_str(&format_elapsed(ended_at.since(self.started_at)));
        if self.attempt > 1 {
            text.push_str(&format!(", attempt {}", self.attempt));
        }
        text
    }

    /// Returns whether the agent reported this progress out of order, or for another attempt.
    pub(crate) fn is_outdated(&self, attempt: &AttemptId, progress: &Progress) -> bool {
        self.attempt != attempt.number
            || self.progress.as_ref().is_some_and(|highest| highest.progress > progress.progress)
    }
}

/// A call that ended, until the next event of its task states the consequence.
#[derive(Debug, Clone)]
pub(in crate::view) struct EndedCall {
    /// The call.
    pub(in crate::view) call: RunningCall,
    /// The time of its end.
    pub(in crate::view) ended_at: Timestamp,
    /// The message of its failure, if an event reported it.
    pub(in crate::view) failure: Option<String>,
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

/// The number of tasks by outcome. Items of a `foreach` task do not count separately, and neither does a successful
/// synthesis or resource read, for which the plan file has no task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Tasks with an output.
    pub succeeded: usize,
    /// Tasks without an output.
    pub failed: usize,
    /// Tasks that never started.
    pub skipped: usize,
    /// Tasks that a person ended.
    pub cancelled: usize,
}

impl OutcomeCounts {
    /// Returns the number of ended tasks.
    pub fn ended(&self) -> usize {
        self.succeeded + self.failed + self.skipped + self.cancelled
    }

    /// Counts one more outcome.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Succeeded(_) => &mut self.succeeded,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Skipped(_) => &mut self.skipped,
            Outcome::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

impl std::fmt::Display for OutcomeCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            (self.succeeded, "succeeded"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.cancelled, "cancelled"),
        ];
        let counted = parts.iter().filter(|(number, _)| *number > 0);
        let texts: Vec<_> = counted.map(|(number, outcome)| format!("{number} {outcome}")).collect();
        if texts.is_empty() { f.write_str("nothing ended") } else { f.write_str(&texts.join(", ")) }
    }
}
