//! Computes the outcome and the outputs of a run.

use indexmap::IndexMap;
use serde_json::Value;

use crate::expression::{self, Scope};
use crate::model::{EndCause, Event, FailureKind, NodeKind, OnFailure, RunStatus, StopStatus};

use super::state::run_state::{RunStop, State};

impl State {
    /// Returns the event that ends the run now. `paused` is true if the run waits only for deferred questions.
    pub(super) fn end_event(&self, paused: bool) -> Event {
        let (status, cause) = self.status_and_cause(paused);
        if let Some(RunStop::Stopped { outputs, .. }) = &self.stop_reason
            && !paused
        {
            return Event::RunEnded { status, cause, outputs: outputs.clone(), output_errors: IndexMap::new() };
        }
        if matches!(status, RunStatus::Paused | RunStatus::Cancelled | RunStatus::Interrupted) {
            return Event::RunEnded { status, cause, outputs: None, output_errors: IndexMap::new() };
        }
        let (outputs, output_errors) = self.evaluate_outputs();
        // An output that cannot be evaluated makes a successful run partial.
        let is_partial = status == RunStatus::Succeeded && !output_errors.is_empty();
        Event::RunEnded { status: if is_partial { RunStatus::Partial } else { status }, cause, outputs, output_errors }
    }

    /// Returns the status of a run that ends now, and its cause.
    pub(super) fn status_and_cause(&self, paused: bool) -> (RunStatus, Option<EndCause>) {
        match &self.stop_reason {
            _ if paused => (RunStatus::Paused, None),
            Some(RunStop::Failed(cause @ EndCause::BudgetSpent { .. })) if self.has_partial_success() => {
                (RunStatus::Partial, Some(cause.clone()))
            }
            Some(RunStop::Failed(cause)) => (RunStatus::Failed, Some(cause.clone())),
            Some(RunStop::Stopped { status, cause, .. }) => {
                let status = match status {
                    StopStatus::Succeeded => RunStatus::Succeeded,
                    StopStatus::Failed => RunStatus::Failed,
                };
                (status, Some(cause.clone()))
            }
            Some(RunStop::Cancelled) => (RunStatus::Cancelled, None),
            Some(RunStop::Interrupted) => (RunStatus::Interrupted, None),
            None => self.tasks_outcome(),
        }
    }

    fn has_partial_success(&self) -> bool {
        self.tasks.iter().any(|entry| entry.output().is_some())
    }

    pub(super) fn tasks_outcome(&self) -> (RunStatus, Option<EndCause>) {
        // A replanned failure does not fail a run that has any result.
        let is_excused = |node| self.replans.superseded.contains(&node) && self.has_partial_success();
        let failures = self.tasks.iter().zip(self.graph.nodes()).filter_map(|(entry, (index, node))| {
            // The failures of items are counted with their `foreach` task.
            let failure = entry.failure().filter(|_| node.kind == NodeKind::Planned && !is_excused(index))?;
            Some((failure.kind, node.task.on_failure))
        });
        let (fatal, tolerated): (Vec<_>, Vec<_>) =
            failures.partition(|(_, policy)| matches!(policy, OnFailure::Fail | OnFailure::Replan));
        if fatal.is_empty() {
            let is_complete =
                tolerated.is_empty() && self.missing_part().is_none() && !self.has_tolerated_failure_in_group();
            return (if is_complete { RunStatus::Succeeded } else { RunStatus::Partial }, None);
        }
        let denied = fatal.iter().all(|(kind, _)| *kind == FailureKind::Denied);
        (RunStatus::Failed, denied.then_some(EndCause::Denied))
    }

    /// Returns whether a task of a group failed and the group succeeded nevertheless.
    fn has_tolerated_failure_in_group(&self) -> bool {
        self.tasks.iter().zip(self.graph.nodes()).any(|(entry, (_, node))| {
            let is_tolerated = matches!(node.task.on_failure, OnFailure::Continue | OnFailure::SkipDependents);
            is_tolerated && entry.failure().is_some() && matches!(node.kind, NodeKind::Member(_))
        })
    }

    /// Evaluates the plan's outputs. An output that cannot be evaluated is null, and the error is returned with it.
    fn evaluate_outputs(&self) -> (Option<IndexMap<String, Value>>, IndexMap<String, String>) {
        let mut errors = IndexMap::new();
        let Some(templates) = &self.plan.outputs else { return (None, errors) };
        let scope = Scope { run: self.run_values(self.last_event_at), ..Scope::new(&self.inputs, self) };
        let values = templates
            .iter()
            .map(|(name, template)| {
                let value = expression::render(template, &scope).unwrap_or_else(|error| {
                    errors.insert(name.clone(), error.to_string());
                    Value::Null
                });
                (name.clone(), value)
            })
            .collect();
        (Some(values), errors)
    }
}
