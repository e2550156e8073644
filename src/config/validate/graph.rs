//! Finds dependency cycles in a plan. The search is not recursive, because a cycle may be as long as the plan.

use std::sync::Arc;

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::yaml::document::NodeLocation;
use crate::model::{GraphError, Task, TaskGraph, TaskId};

/// The maximum number of cycles that are reported: each costs a walk over the whole plan.
const MAX_REPORTED_CYCLES: usize = 16;
/// The maximum number of edges that a message names.
const MAX_NAMED_EDGES: usize = 6;

/// A dependency on another task, and its position in the file.
#[derive(Debug, Clone)]
pub(super) struct DependencyEdge<'n> {
    /// The index of the other task in its scope.
    pub(super) needs: usize,
    /// The number of scopes between this one and that of the other task; 0 within the same scope.
    pub(super) level: usize,
    /// The location of the entry of `needs`, or of the reference.
    pub(super) location: NodeLocation<'n>,
}

/// Reports each cycle at the edge that closes it. `edges[i]` are the edges of `tasks[i]`.
pub(super) fn check_cycles(tasks: &[Arc<Task>], edges: &[Vec<DependencyEdge<'_>>], sink: &mut DiagnosticSink) {
    for (index, (task, edges)) in tasks.iter().zip(edges).enumerate() {
        if let Some(edge) = edges.iter().find(|edge| edge.needs == index) {
            let message = format!("task `{}` depends on itself and can never start", task.id);
            let error = sink.error("cycle", edge.location.span(sink), message);
            error.help("a task cannot use its own result: refer to another task, or remove this");
        }
    }
    let mut tasks: Vec<Arc<Task>> = tasks.iter().map(without_self_dependency).collect();
    for _ in 0..MAX_REPORTED_CYCLES {
        // IDs are unique and dependencies are known, so a cycle is the only possible error.
        let Err(GraphError::Cycle(cycle)) = TaskGraph::new(&tasks) else { return };
        let indices = task_indices(&tasks, &cycle);
        report_cycle(&tasks, edges, &indices, sink);
        let (last, first) = (indices[indices.len() - 1], indices[0]);
        let first = tasks[first].id.clone();
        Arc::make_mut(&mut tasks[last]).needs.retain(|needs| *needs != first);
    }
}

fn without_self_dependency(task: &Arc<Task>) -> Arc<Task> {
    let mut task = Arc::clone(task);
    if task.needs.contains(&task.id) {
        let id = task.id.clone();
        Arc::make_mut(&mut task).needs.retain(|needs| *needs != id);
    }
    task
}

/// Returns the indices of a cycle's tasks, starting with the first one in the file.
fn task_indices(tasks: &[Arc<Task>], cycle: &[TaskId]) -> Vec<usize> {
    let by_id: std::collections::HashMap<&TaskId, usize> =
        tasks.iter().enumerate().map(|(index, task)| (&task.id, index)).collect();
    let mut indices: Vec<usize> = cycle.iter().filter_map(|id| by_id.get(id).copied()).collect();
    let first = (0..indices.len()).min_by_key(|&at| indices[at]).unwrap_or(0);
    indices.rotate_left(first);
    indices
}

fn report_cycle(tasks: &[Arc<Task>], edges: &[Vec<DependencyEdge<'_>>], indices: &[usize], sink: &mut DiagnosticSink) {
    let next = |at: usize| indices[(at + 1) % indices.len()];
    let edge = |at: usize| edges[indices[at]].iter().find(|edge| edge.needs == next(at)).map(|edge| &edge.location);
    let mut named = Vec::new();
    let mut lines = Vec::new();
    for at in 0..indices.len() {
        // A long cycle is clear from its first edges and the one that closes it.
        if at + 1 < indices.len() && at >= MAX_NAMED_EDGES - 1 {
            continue;
        }
        if at + 1 == indices.len() && indices.len() > MAX_NAMED_EDGES {
            named.push(format!("… {} more …", indices.len() - MAX_NAMED_EDGES));
        }
        let (task, needs) = (&tasks[indices[at]].id, &tasks[next(at)].id);
        named.push(format!("`{task}` needs `{needs}`"));
        if let Some(location) = edge(at) {
            lines.push(sink.source.line(location.span(sink)).to_string());
        }
    }
    let last = indices.len() - 1;
    let (closing, first) = (&tasks[indices[last]].id, &tasks[indices[0]].id);
    let at = edge(last).map_or_else(SourceSpan::default, |location| location.span(sink));
    let error = sink.error("cycle", at, format!("tasks depend on each other: {}", named.join(", ")));
    error.label(format!("`{closing}` needs `{first}` here"));
    error.help(format!("remove one of these dependencies: lines {}", lines.join(", ")));
}
