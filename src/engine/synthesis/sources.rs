//! Collects the sources of a synthesis: the results of all other planned tasks.

use std::borrow::Cow;

use serde_json::Value;

use super::answer::{SourceResult, SynthesisSource};
use super::unfinished::UnfinishedTask;
use crate::engine::state::run_state::State;
use crate::engine::state::task::TaskState;
use crate::model::{Node, NodeIndex, NodeKind, Outcome, SkipReason};

impl State {
    /// Returns the results of the planned tasks in their order. The synthesis at `node`, tasks that a replan removed, and
    /// resources that expressions read are not included.
    pub(crate) fn synthesis_sources(&self, node: NodeIndex) -> Vec<SynthesisSource<'_>> {
        let is_replaced = |node: NodeIndex| {
            matches!(&self.tasks[node.index()].state, TaskState::Ended(Outcome::Skipped(SkipReason::Replanned)))
        };
        self.other_planned_tasks(node)
            .filter(|(index, other)| !is_replaced(*index) && !other.id.is_resource_read())
            .map(|(index, other)| SynthesisSource {
                id: other.id.as_str(),
                title: other.task.title.as_deref(),
                result: self.source_result(index),
            })
            .collect()
    }

    fn other_planned_tasks(&self, node: NodeIndex) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.graph.nodes().filter(move |(index, other)| {
            *index != node && other.kind == NodeKind::Planned && other.task.hook.is_none()
        })
    }

    /// Returns the tasks that the answer of the synthesis at `node` must not describe as done.
    pub(crate) fn unfinished_tasks(&self, node: NodeIndex) -> Vec<UnfinishedTask> {
        self.other_planned_tasks(node)
            .filter_map(|(index, other)| match &self.tasks[index.index()].state {
                TaskState::Ended(Outcome::Succeeded(_)) => None,
                TaskState::Ended(Outcome::Failed(failure)) => Some(UnfinishedTask::failed(&other.id, failure)),
                TaskState::Ended(Outcome::Skipped(reason)) => UnfinishedTask::skipped(&other.id, reason),
                _ => Some(UnfinishedTask::cancelled(&other.id)),
            })
            .collect()
    }

    /// Returns the reason to skip a synthesis: no task has a result.
    pub(crate) fn synthesis_skip_reason(&self, node: NodeIndex) -> Option<SkipReason> {
        let sources = self.synthesis_sources(node);
        let first =
            sources.first().filter(|_| sources.iter().all(|source| matches!(source.result, SourceResult::NoResult(_))));
        first.map(|source| SkipReason::NeedFailed { task: source.id.into() })
    }

    /// Returns the result of one task.
    pub(crate) fn source_result(&self, node: NodeIndex) -> SourceResult<'_> {
        let entry = &self.tasks[node.index()];
        if !entry.items.is_empty() {
            return self.items_source_result(node);
        }
        match &entry.state {
            TaskState::Ended(Outcome::Succeeded(output)) => SourceResult::Succeeded(match output.structured {
                Some(ref value) => Cow::Owned(value.to_string()),
                None => output.text(),
            }),
            TaskState::Ended(Outcome::Failed(failure)) => SourceResult::NoResult(failure.message.clone()),
            TaskState::Ended(Outcome::Skipped(reason)) => SourceResult::NoResult(format!("skipped: {reason}")),
            _ => SourceResult::NoResult("it was not run".to_owned()),
        }
    }

    /// Returns the outputs of the successful items as a list, or the failure of the task if it has none.
    fn items_source_result(&self, node: NodeIndex) -> SourceResult<'_> {
        let entry = &self.tasks[node.index()];
        let outputs: Vec<Value> = self.tasks[entry.items.clone()]
            .iter()
            .filter_map(|item| Some(item.output()?.value().into_owned()))
            .collect();
        match entry.failure() {
            Some(failure) if outputs.is_empty() => SourceResult::NoResult(failure.message.clone()),
            _ => SourceResult::Succeeded(Cow::Owned(Value::Array(outputs).to_string())),
        }
    }
}
