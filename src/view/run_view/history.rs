//! What only the history of a run shows: times, failures of attempts, requests to language models, and payers.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;

use crate::engine::Ledger;
use crate::model::{
    AgentId, AttemptId, ChatError, ChatReply, Event, Failure, GoalPlanning, IdHashMap, LogMessage, Origin, Record,
    RequestId, SamplingOrigin, TaskId, Timestamp, Usage,
};
use crate::view::spending::SpendingBreakdown;

/// The details that a view records if it was created with [`RunView::with_history`](super::RunView::with_history).
#[derive(Debug, Clone, Default)]
pub struct RunHistory {
    /// The times of tasks and items, in the order of their first event.
    pub times: IndexMap<TaskId, TaskTimes>,
    /// The calls, and the requests of prompts to language models, in the order of their start.
    pub attempts: IndexMap<AttemptId, AttemptHistory>,
    /// The latest attempt of each task.
    latest_attempts: IdHashMap<TaskId, AttemptId>,
    /// The log messages of agents, in order.
    pub logs: Vec<LoggedMessage>,
    /// The requests to language models, in order.
    pub samplings: IndexMap<RequestId, SamplingSummary>,
    /// The goal of the plan and the exchanges of the planner.
    pub planning: Option<GoalPlanning>,
    pub(super) ledger: Ledger<SpendingBreakdown>,
}

impl RunHistory {
    /// Returns the spending by payer.
    pub fn spending(&self) -> &SpendingBreakdown {
        self.ledger.spending()
    }

    /// Returns the latest attempt of a task.
    pub fn latest_attempt(&self, task: &TaskId) -> Option<&AttemptHistory> {
        self.attempts.get(self.latest_attempts.get(task)?)
    }

    pub(super) fn apply(&mut self, record: &Record) {
        let at = record.at;
        self.ledger.apply(&record.event);
        match &record.event {
            Event::GoalPlanned(planning) => self.planning = Some(planning.clone()),
            Event::TasksAdded { parent: task, .. }
            | Event::GroupStarted { task, .. }
            | Event::IterationAdded { parent: task, .. }
            | Event::TimerStarted { task, .. }
            | Event::SignalAwaited { task, .. }
            | Event::WatchStarted { task, .. } => self.task_started(task, at),
            // A result of an earlier run took no time in this one.
            Event::TaskReused { task, .. } => {
                self.times.shift_remove(task);
            }
            Event::AttemptStarted { attempt, agent, tool } => {
                self.attempt_started(attempt, Some((agent.clone(), Arc::clone(tool))), at);
            }
            Event::ModelRequested { attempt, .. } => {
                self.attempt_started(attempt, None, at);
                let summary = SamplingSummary::new(attempt.task.as_str(), Some(&attempt.task));
                self.samplings.insert(RequestId::from(attempt.to_string()), summary);
            }
            Event::ModelReplied { attempt, result } => {
                self.attempt_ended(attempt, at);
                self.model_replied(&RequestId::from(attempt.to_string()), result);
            }
            Event::AttemptFailed { attempt, failure } => {
                if let Some(attempt) = self.attempt_ended(attempt, at) {
                    attempt.failure = Some(failure.clone());
                }
            }
            Event::RetryScheduled { task, ready_at, agent, reason } => {
                let latest = self.latest_attempts.get(task).and_then(|latest| self.attempts.get_mut(latest));
                if let Some(attempt) = latest {
                    let (agent, reason) = (agent.clone(), reason.clone());
                    attempt.next = Some(NextAttempt { ready_at: *ready_at, agent, reason });
                }
            }
            Event::AttemptSucceeded { attempt, .. } => {
                self.attempt_ended(attempt, at);
                self.times.entry(attempt.task.clone()).or_default().ended = Some(at);
            }
            Event::TaskEnded { task, .. } => self.times.entry(task.clone()).or_default().ended = Some(at),
            Event::AgentLogged { origin, message } => {
                self.logs.push(LoggedMessage { at, origin: origin.clone(), message: message.clone() });
            }
            Event::SamplingStarted { request, origin, .. } => {
                let asker = match origin {
                    SamplingOrigin::Agent(origin) => origin.agent.to_string(),
                    SamplingOrigin::Planner { replan } => format!("replan {replan}"),
                };
                let task = origin.attempt().map(|attempt| &attempt.task);
                self.samplings.insert(request.clone(), SamplingSummary::new(&asker, task));
            }
            Event::SamplingFinished { request, result } => self.model_replied(request, result),
            _ => {}
        }
    }

    fn attempt_started(&mut self, attempt: &AttemptId, route: Option<(AgentId, Arc<str>)>, at: Timestamp) {
        self.task_started(&attempt.task, at);
        self.latest_attempts.insert(attempt.task.clone(), attempt.clone());
        let history = AttemptHistory { route, started: at, ended: None, failure: None, next: None };
        self.attempts.insert(attempt.clone(), history);
    }

    fn attempt_ended(&mut self, attempt: &AttemptId, at: Timestamp) -> Option<&mut AttemptHistory> {
        let attempt = self.attempts.get_mut(attempt)?;
        attempt.ended = Some(at);
        Some(attempt)
    }

    fn task_started(&mut self, task: &TaskId, at: Timestamp) {
        self.times.entry(task.clone()).or_default().started.get_or_insert(at);
    }

    fn model_replied(&mut self, request: &RequestId, result: &Result<ChatReply, ChatError>) {
        let Some(sampling) = self.samplings.get_mut(request) else { return };
        match result {
            Ok(reply) => {
                sampling.model = Some(reply.model.clone());
                sampling.stop_reason = Some(reply.stop_reason.clone());
                sampling.usage = reply.usage;
            }
            Err(error) => sampling.error = Some(error.to_string()),
        }
    }
}

/// A call, or a request of a prompt to the language model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptHistory {
    /// The agent and the tool; `None` for a request to the language model.
    #[serde(skip)]
    pub route: Option<(AgentId, Arc<str>)>,
    /// The start.
    pub started: Timestamp,
    /// The end; absent while it is in progress, and after its process died.
    pub ended: Option<Timestamp>,
    /// The failure, if it failed.
    #[serde(skip)]
    pub failure: Option<Failure>,
    /// The attempt that was scheduled after its failure.
    pub next: Option<NextAttempt>,
}

/// A scheduled attempt of a task that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NextAttempt {
    /// The time from which on it may start.
    pub ready_at: Timestamp,
    /// The agent, if only one was eligible.
    pub agent: Option<AgentId>,
    /// The reason for another attempt.
    pub reason: String,
}

/// A log message of an agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoggedMessage {
    /// The time.
    pub at: Timestamp,
    /// The agent, and the attempt if known.
    #[serde(skip)]
    pub origin: Origin,
    /// The message.
    #[serde(flatten)]
    pub message: LogMessage,
}

/// The start of a task's first attempt, and the end of the task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TaskTimes {
    /// The start of its first attempt.
    pub started: Option<Timestamp>,
    /// The end of the task.
    pub ended: Option<Timestamp>,
}

/// A request to the language model and its outcome. The text is only in the events.
#[derive(Debug, Clone, Serialize)]
pub struct SamplingSummary {
    /// The agent that requested sampling, or the task with the prompt.
    pub asker: String,
    /// The task that caused the request, or `None` if the agent did not name a call.
    pub task: Option<TaskId>,
    /// The model, as reported by the endpoint.
    pub model: Option<String>,
    /// MCP's `stopReason`.
    pub stop_reason: Option<String>,
    /// The number of tokens used, if reported.
    pub usage: Option<Usage>,
    /// The reason why the reply is missing.
    pub error: Option<String>,
}

impl SamplingSummary {
    fn new(asker: &str, task: Option<&TaskId>) -> Self {
        let asker = asker.to_owned();
        Self { asker, task: task.cloned(), model: None, stop_reason: None, usage: None, error: None }
    }

    /// Returns the requester, and the task if it differs.
    pub fn requester(&self) -> String {
        match &self.task {
            Some(task) if task.as_str() != self.asker => format!("{}, for {task}", self.asker),
            _ => self.asker.clone(),
        }
    }
}
