//! What the graph shows of a task.

use super::task_row::RowKind;
use crate::model::Task;

/// What the graph shows of a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct GraphTask<'t> {
    pub(super) task: &'t Task,
    pub(super) kind: RowKind,
}

impl<'t> GraphTask<'t> {
    pub(super) fn of(task: &'t Task) -> Self {
        Self { task, kind: RowKind::of_task(task) }
    }

    /// Returns the name of what it does, which the tasks of a group share.
    pub(super) fn work(&self) -> String {
        let routes: Vec<String> =
            self.task.routes().iter().map(|route| format!("{}.{}", route.agent, route.tool)).collect();
        routes.join(" or ")
    }

    pub(super) fn is_conditional(&self) -> bool {
        self.task.condition.is_some() || self.task.hook.is_some()
    }
}
