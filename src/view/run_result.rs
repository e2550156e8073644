//! Folds the events of a run into its result. The same events always give the same result. Results share the outputs of
//! events and do not copy them.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    engine::{Ledger, SpendingTotals, synthesis::unfinished::UnfinishedTask},
    model::{
        AgentId, EndCause, Event, Failure, IdHashMap, IdMap, Outcome, Record, RunId, RunStatus, SkipReason, Task,
        TaskId, ToolOutput,
    },
};

/// The result of a run: the object that `--output json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunResult {
    /// The run.
    pub run: RunId,
    /// The final status, or `running`.
    pub status: RunStatus,
    /// The cause, unless the status is self-explanatory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<EndCause>,
    /// The plan's `outputs` by name; empty if it has none.
    pub outputs: IndexMap<String, Value>,
    /// The outputs that could not be evaluated, each with the reason.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub output_errors: IndexMap<String, String>,
    /// The other tasks without a result, in a run that ends in a synthesis.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_done: Vec<UnfinishedTask>,
    /// The total spending of the run.
    pub spent: SpendingTotals,
    /// The task that synthesizes one answer from all others, if any.
    #[serde(skip)]
    pub synthesis: Option<TaskId>,
    /// The plan's tasks, in its order.
    pub tasks: IdMap<TaskId, TaskResult>,
}

impl RunResult {
    /// Returns whether the answer of the run is JSON from its synthesis.
    pub fn has_structured_synthesis(&self) -> bool {
        let output = self.synthesis.as_ref().and_then(|id| self.tasks.get(id)?.output.as_ref());
        output.is_some_and(|output| output.structured.is_some())
    }
}

/// The result of a task, or of one item of a `foreach` task.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TaskResult {
    /// The heading of its answer; the ID is used if absent.
    #[serde(skip)]
    pub title: Option<String>,
    /// The status.
    pub status: TaskStatus,
    /// The agent of its latest attempt; absent without an attempt, and for a `foreach` task.
    pub agent: Option<AgentId>,
    /// The tool of its latest attempt.
    pub tool: Option<Arc<str>>,
    /// The number of attempts; for a `foreach` task, those of all its items.
    pub attempts: u32,
    /// True if the answer is from an earlier run, and this run made no attempt.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    /// The answer, if it succeeded; serialized as the value of `tasks.X.output`.
    #[serde(serialize_with = "serialize_value")]
    pub output: Option<Arc<ToolOutput>>,
    /// The violation of the tool's output schema, if the agents file accepts such results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<Box<str>>,
    /// The failure, if it failed.
    pub error: Option<Box<Failure>>,
    /// The reason for skipping, if it was skipped.
    #[serde(serialize_with = "serialize_reason")]
    pub skipped_because: Option<SkipReason>,
    /// The number of the replan that its failure triggered, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replanned: Option<u32>,
    /// The items of a `foreach` task, in order; absent for any other task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<TaskResult>>,
}

/// The status of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// No attempt is in progress: it waits for other tasks, for its next attempt, or for a person.
    #[default]
    Waiting,
    /// An attempt is in progress.
    Running,
    /// It has an answer.
    Succeeded,
    /// It failed.
    Failed,
    /// It never started.
    Skipped,
    /// The run was cancelled before it ended.
    Cancelled,
}

impl std::fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Returns the result of the run with these events, which may be incomplete.
pub fn run_result<'a>(run: &RunId, records: impl IntoIterator<Item = &'a Record>) -> RunResult {
    let mut merge = RunResultBuilder::new(run);
    for record in records {
        merge.apply_record(record);
    }
    merge.into_result()
}

/// The incremental fold behind [`run_result()`].
#[derive(Debug, Clone)]
pub struct RunResultBuilder {
    result: RunResult,
    /// Items by ID, each with its task and its index.
    items: IdHashMap<TaskId, (TaskId, usize)>,
    ledger: Ledger<SpendingTotals>,
    /// The failures that triggered the last replan.
    replan_causes: Vec<TaskId>,
}

impl RunResultBuilder {
    /// Returns a builder without events.
    pub fn new(run: &RunId) -> Self {
        let result = RunResult {
            run: run.clone(),
            status: RunStatus::Running,
            cause: None,
            outputs: IndexMap::new(),
            output_errors: IndexMap::new(),
            not_done: Vec::new(),
            spent: SpendingTotals::default(),
            synthesis: None,
            tasks: IdMap::default(),
        };
        Self { result, items: IdHashMap::default(), ledger: Ledger::default(), replan_causes: Vec::new() }
    }

    /// Applies the next event.
    pub fn apply_record(&mut self, record: &Record) {
        self.ledger.apply(&record.event);
        self.result.spent = *self.ledger.spending();
        match &record.event {
            Event::RunStarted { plan, .. } => {
                self.result.tasks = unstarted_results(&plan.tasks).collect();
                self.result.synthesis = plan.synthesis().map(|task| task.id.clone());
            }
            Event::TasksAdded { parent, items } => self.add_items(parent, items.len()),
            Event::AttemptStarted { attempt, agent, tool } => {
                let Some(task) = self.task_mut(&attempt.task) else { return };
                let more = attempt.number.saturating_sub(task.attempts);
                task.status = TaskStatus::Running;
                task.attempts += more;
                task.agent = Some(agent.clone());
                task.tool = Some(Arc::clone(tool));
                if let Some(parent) = self.parent_mut(&attempt.task) {
                    parent.attempts += more;
                }
            }
            Event::ModelAsked { attempt, .. } => {
                let Some(task) = self.task_mut(&attempt.task) else { return };
                let more = attempt.number.saturating_sub(task.attempts);
                task.status = TaskStatus::Running;
                task.attempts += more;
                if let Some(parent) = self.parent_mut(&attempt.task) {
                    parent.attempts += more;
                }
            }
            Event::AttemptSucceeded { attempt, output } => {
                let Some(task) = self.task_mut(&attempt.task) else { return };
                task.status = TaskStatus::Succeeded;
                task.warning.clone_from(&output.warning);
                task.output = Some(Arc::clone(output));
            }
            Event::TaskReused { task, agent, output } => {
                let Some(task) = self.task_mut(task) else { return };
                task.agent.clone_from(agent);
                task.reused = true;
                set_outcome(task, &Outcome::Succeeded(Arc::clone(output)));
            }
            Event::AttemptFailed { attempt, .. } => {
                let Some(task) = self.task_mut(&attempt.task) else { return };
                task.status = TaskStatus::Waiting;
            }
            Event::TaskEnded { task, outcome } => {
                let Some(task) = self.task_mut(task) else { return };
                set_outcome(task, outcome);
            }
            Event::ReplanStarted { failed, .. } => self.replan_causes.clone_from(failed),
            Event::Replanned { number, result: Ok(patch) } => {
                self.add_planned(&patch.added);
                for id in std::mem::take(&mut self.replan_causes) {
                    if let Some(task) = self.result.tasks.get_mut(&id) {
                        task.replanned = Some(*number);
                    }
                }
            }
            Event::RunEnded { status, cause, outputs, output_errors } => {
                self.result.status = *status;
                self.result.cause.clone_from(cause);
                self.result.outputs = outputs.clone().unwrap_or_default();
                self.result.output_errors.clone_from(output_errors);
                self.result.not_done = self.unfinished_tasks();
            }
            Event::RunResumed { .. } => {
                self.result.status = RunStatus::Running;
                self.result.cause = None;
                self.result.outputs.clear();
                self.result.not_done.clear();
                self.result.output_errors.clear();
            }
            Event::GoalPlanned(_)
            | Event::AgentConnecting { .. }
            | Event::QuestionAskedAgain { .. }
            | Event::RunRerun { .. }
            | Event::AgentConnected { .. }
            | Event::AgentUnavailable { .. }
            | Event::AttemptProgressed { .. }
            | Event::InputRequired { .. }
            | Event::ModelReplied { .. }
            | Event::ToolCallsAdded { .. }
            | Event::BudgetSpent { .. }
            | Event::ReplanProposed { .. }
            | Event::Replanned { result: Err(_), .. }
            | Event::RetryScheduled { .. }
            | Event::QuestionAsked { .. }
            | Event::QuestionAnswered { .. }
            | Event::QuestionLeftOpen { .. }
            | Event::SamplingStarted { .. }
            | Event::SamplingFinished { .. }
            | Event::AgentLogged { .. }
            | Event::RequestRefused { .. }
            | Event::ResultsKept { .. }
            | Event::RestApproved { .. }
            | Event::CancelRequested { .. }
            | Event::InterruptRequested => {}
        }
    }

    /// Returns the result so far.
    pub fn result(&self) -> &RunResult {
        &self.result
    }

    /// Returns the final result.
    pub fn into_result(self) -> RunResult {
        self.result
    }

    /// Returns the tasks that a synthesis must not claim to be done.
    fn unfinished_tasks(&self) -> Vec<UnfinishedTask> {
        let Some(synthesis) = &self.result.synthesis else { return Vec::new() };
        let others = self.result.tasks.iter().filter(|(id, _)| *id != synthesis);
        others
            .filter_map(|(id, task)| match (&task.error, &task.skipped_because) {
                _ if task.status == TaskStatus::Succeeded => None,
                (Some(failure), _) => Some(UnfinishedTask::failed(id, failure)),
                (_, Some(reason)) => UnfinishedTask::skipped(id, reason),
                _ => Some(UnfinishedTask::cancelled(id)),
            })
            .collect()
    }

    /// Adds the tasks of a patch; a synthesis stays last.
    fn add_planned(&mut self, added: &[Arc<Task>]) {
        let RunResult { tasks, synthesis, .. } = &mut self.result;
        tasks.extend(unstarted_results(added));
        if let Some(index) = synthesis.as_ref().and_then(|id| tasks.get_index_of(id)) {
            tasks.move_index(index, tasks.len() - 1);
        }
    }

    fn add_items(&mut self, parent: &TaskId, count: usize) {
        if let Some(task) = self.result.tasks.get_mut(parent) {
            task.status = TaskStatus::Running;
            task.items = Some(vec![TaskResult::default(); count]);
            self.items.extend((0..count).map(|index| (parent.item(index), (parent.clone(), index))));
        }
    }

    /// Returns a task or an item; `None` for an unknown ID.
    fn task_mut(&mut self, id: &TaskId) -> Option<&mut TaskResult> {
        match self.items.get(id) {
            Some((parent, index)) => self.result.tasks.get_mut(parent)?.items.as_mut()?.get_mut(*index),
            None => self.result.tasks.get_mut(id),
        }
    }

    /// Returns the task that the item belongs to.
    fn parent_mut(&mut self, item: &TaskId) -> Option<&mut TaskResult> {
        self.result.tasks.get_mut(&self.items.get(item)?.0)
    }
}

/// Returns the results of tasks that have not started.
fn unstarted_results(tasks: &[Arc<Task>]) -> impl Iterator<Item = (TaskId, TaskResult)> {
    let unstarted = |title: &Option<String>, foreach: bool| TaskResult {
        title: title.clone(),
        items: foreach.then(Vec::new),
        ..TaskResult::default()
    };
    tasks.iter().map(move |task| (task.id.clone(), unstarted(&task.title, task.foreach.is_some())))
}

fn set_outcome(task: &mut TaskResult, outcome: &Outcome) {
    match outcome {
        Outcome::Succeeded(output) => {
            task.status = TaskStatus::Succeeded;
            // The answers of a `foreach` task are those of its items.
            task.output = task.items.is_none().then(|| Arc::clone(output));
            task.warning.clone_from(&output.warning);
        }
        Outcome::Failed(failure) => {
            task.status = TaskStatus::Failed;
            task.error = Some(Box::new(failure.clone()));
        }
        Outcome::Skipped(reason) => {
            task.status = TaskStatus::Skipped;
            task.skipped_because = Some(reason.clone());
        }
        Outcome::Cancelled => task.status = TaskStatus::Cancelled,
    }
}

/// Serializes [`ToolOutput::value`] without copying it.
fn serialize_value<S: Serializer>(output: &Option<Arc<ToolOutput>>, serializer: S) -> Result<S::Ok, S::Error> {
    match output {
        None => serializer.serialize_none(),
        Some(output) => match &output.structured {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(&output.text()),
        },
    }
}

fn serialize_reason<S: Serializer>(reason: &Option<SkipReason>, serializer: S) -> Result<S::Ok, S::Error> {
    match reason {
        None => serializer.serialize_none(),
        Some(reason) => serializer.collect_str(reason),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::samples;

    #[test]
    fn run_result_serializes_events() {
        let result = run_result(&samples::sample_run_id(), &samples::sample_run());
        let expected = json!({
            "run": "01990000-0000-7000-8000-00000000abcd",
            "status": "cancelled",
            "outputs": {"hotel": 7},
            "output_errors": {"pages": "`read` failed"},
            "spent": {
                "llm_calls": 1, "tool_calls": 4, "input_tokens": 20, "output_tokens": 3, "untold_replies": 0,
                "cost_usd": 0.0,
            },
            "tasks": {
                "book": {
                    "status": "succeeded", "agent": "travel", "tool": "book", "attempts": 2,
                    "output": {"id": 7}, "error": null, "skipped_because": null,
                },
                "read": {
                    "status": "failed", "agent": null, "tool": null, "attempts": 2, "output": null,
                    "error": {
                        "kind": "items_failed", "message": "1 of 2 items failed",
                        "help": "`on_failure: continue` goes on",
                    },
                    "skipped_because": null,
                    "items": [
                        {
                            "status": "failed", "agent": "research", "tool": "fetch", "attempts": 1, "output": null,
                            "error": {"kind": "tool_error", "message": "no such page"}, "skipped_because": null,
                        },
                        {
                            "status": "succeeded", "agent": "research", "tool": "fetch", "attempts": 1,
                            "output": "second page", "error": null, "skipped_because": null,
                        },
                    ],
                },
                "file": {
                    "status": "skipped", "agent": null, "tool": null, "attempts": 0, "output": null, "error": null,
                    "skipped_because": "its condition `false` is false",
                },
                "post": {
                    "status": "cancelled", "agent": null, "tool": null, "attempts": 0, "output": null, "error": null,
                    "skipped_because": null,
                },
            },
        });
        assert_eq!(serde_json::to_string(&result).expect("serializes"), expected.to_string());
    }

    #[test]
    fn running_run_reports_task_progress() {
        let events = samples::sample_run();
        let statuses = |until: usize| -> Vec<_> {
            run_result(&samples::sample_run_id(), &events[..until]).tasks.values().map(|task| task.status).collect()
        };
        use TaskStatus::{Running, Succeeded, Waiting};
        assert_eq!(statuses(0), []);
        assert_eq!(statuses(1), [Waiting; 4]);
        assert_eq!(statuses(5), [Running, Waiting, Waiting, Waiting]);
        assert_eq!(statuses(10), [Waiting; 4]);
        assert_eq!(statuses(15), [Succeeded, Running, Waiting, Waiting]);
    }

    #[test]
    fn result_shares_outputs_with_events() {
        let events = samples::sample_run();
        let result = run_result(&samples::sample_run_id(), &events);
        let shared = events.iter().any(|record| match &record.event {
            Event::AttemptSucceeded { output, .. } => {
                result.tasks["book"].output.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, output))
            }
            _ => false,
        });
        assert!(shared);
    }

    #[test]
    fn replanned_tasks_precede_synthesis() {
        let synthesis = json!({"work": {"synthesis": {"prompt": "Sum up", "max_turns": 1, "max_tokens": 9}}});
        let planned = json!([samples::sample_task("a", json!({})), samples::sample_task("answer", synthesis)]);
        let patch = json!({"added": [samples::sample_task("b", json!({}))]});
        let events = samples::records_from_events(json!([
            samples::run_started_event(planned),
            {"type": "replan_started", "number": 1, "failed": ["a"]},
            {"type": "replanned", "number": 1, "result": {"Ok": patch}},
        ]));
        let result = run_result(&samples::sample_run_id(), &events);
        let tasks: Vec<_> = result.tasks.iter().map(|(id, task)| (id.as_str(), task.replanned)).collect();
        assert_eq!(tasks, [("a", Some(1)), ("b", None), ("answer", None)]);
    }

    #[test]
    fn events_of_unknown_tasks_are_ignored() {
        let mut events = samples::sample_run();
        let before = run_result(&samples::sample_run_id(), &events);
        events.extend(samples::records_from_events(json!([
            {"type": "attempt_started", "attempt": {"task": "ghost", "number": 1}, "agent": "travel", "tool": "book"},
            {"type": "tasks_added", "parent": "ghost", "items": [1]},
            {"type": "task_ended", "task": "read[9]", "outcome": "cancelled"},
        ])));
        let after = run_result(&samples::sample_run_id(), &events);
        assert_eq!(RunResult { spent: before.spent, ..after }, before);
    }
}
