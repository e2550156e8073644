//! The values that the expressions of a task can use, and the failures of expressions.

use std::sync::Arc;

use super::state::run_state::State;
use super::state::task::{TaskEntry, TaskState};
use crate::expression::{ExpressionError, ForeachItems, LoopItem, Scope, TaskLookup, TaskView};
use crate::model::{Failure, FailureKind, NodeIndex, Outcome};

impl State {
    /// Returns the names that the expressions of `node` can use.
    pub(super) fn scope(&self, node: NodeIndex) -> Scope<'_> {
        let node = &self.graph[node];
        let item = node.item().zip(node.task.foreach.as_ref());
        Scope {
            inputs: &self.inputs,
            item: item.map(|(item, foreach)| LoopItem {
                name: &foreach.binding,
                value: &item.values[item.index],
                index: item.index,
                length: item.values.len(),
            }),
            tasks: self,
        }
    }
}

impl TaskLookup for State {
    fn task(&self, id: &str) -> Option<TaskView<'_>> {
        let node = self.graph.node_index(id)?;
        let entry = &self.tasks[node.index()];
        let mut view = entry.view()?;
        if self.graph[node].task.foreach.is_some() {
            view.items = Some(ForeachItems { lookup: self, indices: entry.items.clone() });
        }
        Some(view)
    }

    fn item(&self, index: usize) -> Option<TaskView<'_>> {
        self.tasks.get(index)?.view()
    }
}

impl TaskEntry {
    /// Returns the view of an ended node for expressions.
    fn view(&self) -> Option<TaskView<'_>> {
        let TaskState::Ended(outcome) = &self.state else { return None };
        let (status, output, error) = match outcome {
            Outcome::Succeeded(output) => ("succeeded", Some(Arc::as_ref(output)), None),
            Outcome::Failed(failure) => ("failed", None, Some(failure.message.as_str())),
            Outcome::Skipped(_) => ("skipped", None, None),
            Outcome::Cancelled => ("cancelled", None, None),
        };
        Some(TaskView { status, agent: self.agent.as_ref().map(|agent| agent.as_str()), error, output, items: None })
    }
}

/// Returns the failure of a task whose expression under `key` cannot be evaluated.
pub(super) fn expression_failure(key: &str, error: &ExpressionError) -> Failure {
    let failure = Failure::new(FailureKind::Expression, format!("`{key}`: {error}"));
    match &error.help {
        Some(help) => failure.with_help(help.clone()),
        None => failure,
    }
}
