//! Gathers what a synthesis works from: what came of every other task of the plan.
//! Never asks the model; a synthesis is a prompt, and `prompt` decides about those.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    model::{NodeIndex, Outcome, Part, SkipReason},
    synthesizer::{
        answer::{Finding, Source},
        not_done::NotDone,
    },
};

use super::run::{State, TaskState};

impl State {
    /// What came of the tasks of the plan, in its order, without the synthesis itself at `node` and without those
    /// that a replan removed.
    pub(super) fn sources(&self, node: NodeIndex) -> Vec<Source<'_>> {
        let removed = |node: NodeIndex| {
            matches!(&self.tasks[node.index()].state, TaskState::Ended(Outcome::Skipped(SkipReason::Replanned)))
        };
        let planned = (self.graph.nodes())
            .filter(|(index, other)| *index != node && other.part == Part::Planned && !removed(*index));
        planned
            .map(|(index, other)| Source {
                id: other.id.as_str(),
                title: other.task.title.as_deref(),
                result: self.finding(index),
            })
            .collect()
    }

    /// Returns the tasks that the answer of the synthesis at `node` must not claim to be done.
    pub(super) fn not_done(&self, node: NodeIndex) -> Vec<NotDone> {
        let others = self.graph.nodes().filter(|(index, other)| *index != node && other.part == Part::Planned);
        others
            .filter_map(|(index, other)| match &self.tasks[index.index()].state {
                TaskState::Ended(Outcome::Succeeded(_)) => None,
                TaskState::Ended(Outcome::Failed(failure)) => Some(NotDone::failed(&other.id, failure)),
                TaskState::Ended(Outcome::Skipped(reason)) => NotDone::skipped(&other.id, reason),
                _ => Some(NotDone::cancelled(&other.id)),
            })
            .collect()
    }

    /// Why there is nothing to write an answer from: no task has a result.
    pub(super) fn nothing_to_synthesize(&self, node: NodeIndex) -> Option<SkipReason> {
        let sources = self.sources(node);
        let first =
            sources.first().filter(|_| sources.iter().all(|source| matches!(source.result, Finding::Missing(_))));
        first.map(|source| SkipReason::NeedFailed { task: source.id.into() })
    }

    /// What came of one task.
    pub(super) fn finding(&self, node: NodeIndex) -> Finding<'_> {
        let entry = &self.tasks[node.index()];
        if !entry.items.is_empty() {
            return self.finding_of_items(node);
        }
        match &entry.state {
            TaskState::Ended(Outcome::Succeeded(output)) => Finding::Said(match output.structured {
                Some(ref value) => Cow::Owned(value.to_string()),
                None => output.text(),
            }),
            TaskState::Ended(Outcome::Failed(failure)) => Finding::Missing(failure.message.clone()),
            TaskState::Ended(Outcome::Skipped(reason)) => Finding::Missing(format!("skipped: {reason}")),
            _ => Finding::Missing("it was not run".to_owned()),
        }
    }

    /// The outputs of the items that succeeded, as a list; missing when none did.
    fn finding_of_items(&self, node: NodeIndex) -> Finding<'_> {
        let entry = &self.tasks[node.index()];
        let outputs: Vec<Value> = self.tasks[entry.items.clone()]
            .iter()
            .filter_map(|item| match &item.state {
                TaskState::Ended(Outcome::Succeeded(output)) => Some(output.value().into_owned()),
                _ => None,
            })
            .collect();
        match &entry.state {
            TaskState::Ended(Outcome::Failed(failure)) if outputs.is_empty() => {
                Finding::Missing(failure.message.clone())
            }
            _ => Finding::Said(Cow::Owned(Value::Array(outputs).to_string())),
        }
    }
}
