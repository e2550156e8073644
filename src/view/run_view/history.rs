//! What only the history of a run shows: times, failures of attempts, requests to language models, and payers.

use indexmap::IndexMap;
use serde::Serialize;

use crate::engine::Ledger;
use crate::model::{
    AttemptId, ChatError, ChatReply, Event, Failure, GoalPlanning, IdHashMap, Record, RequestId, SamplingOrigin,
    TaskId, Timestamp, Usage,
};
use crate::view::spending::SpendingBreakdown;

/// The details that a view records if it was created with [`RunView::with_history`](super::RunView::with_history).
#[derive(Debug, Clone, Default)]
pub struct RunHistory {
    /// The times of tasks and items, in the order of their first event.
    pub times: IndexMap<TaskId, TaskTimes>,
    /// The failures of attempts.
    pub failures: IdHashMap<AttemptId, Failure>,
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

    pub(super) fn apply(&mut self, record: &Record) {
        let at = record.at;
        self.ledger.apply(&record.event);
        match &record.event {
            Event::GoalPlanned(planning) => self.planning = Some(planning.clone()),
            Event::TasksAdded { parent: task, .. } | Event::AttemptStarted { attempt: AttemptId { task, .. }, .. } => {
                self.task_started(task, at)
            }
            Event::ModelRequested { attempt, .. } => {
                self.task_started(&attempt.task, at);
                let summary = SamplingSummary::new(attempt.task.as_str(), Some(&attempt.task));
                self.samplings.insert(RequestId::from(attempt.to_string()), summary);
            }
            Event::ModelReplied { attempt, result } => {
                self.model_replied(&RequestId::from(attempt.to_string()), result);
            }
            Event::AttemptFailed { attempt, failure } => {
                self.failures.insert(attempt.clone(), failure.clone());
            }
            Event::AttemptSucceeded { attempt: AttemptId { task, .. }, .. } | Event::TaskEnded { task, .. } => {
                self.times.entry(task.clone()).or_default().ended = Some(at);
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
