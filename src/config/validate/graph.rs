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
    /// The index of the other task in the plan.
    pub(super) needs: usize,
    /// The location of the entry of `needs`, or of the reference.
    pub(super) location: NodeLocation<'n>,
}

/// Reports each cycle at the edge that closes it. `edges[i]` are the edges of `tasks[i]`.
pub(super) fn check_cycles(tasks: &[Arc<Task>], edges: &[Vec<DependencyEdge<'_>>], findings: &mut DiagnosticSink) {
    for (index, (task, edges)) in tasks.iter().zip(edges).enumerate() {
        if let Some(edge) = edges.iter().find(|edge| edge.needs == index) {
            let message = format!("task `{}` depends on itself and can never start", task.id);
            let found = findings.error("cycle", edge.location.span(findings), message);
            found.help("a task cannot use its own result: refer to another task, or remove this");
        }
    }
    let mut tasks: Vec<Arc<Task>> = tasks.iter().map(without_self_dependency).collect();
    for _ in 0..MAX_REPORTED_CYCLES {
        // IDs are unique and dependencies are known, so a cycle is the only possible error.
        let Err(GraphError::Cycle(cycle)) = TaskGraph::new(&tasks) else { return };
        let places = task_indices(&tasks, &cycle);
        report_cycle(&tasks, edges, &places, findings);
        let (last, first) = (places[places.len() - 1], places[0]);
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
    let mut places: Vec<usize> = cycle.iter().filter_map(|id| by_id.get(id).copied()).collect();
    let first = (0..places.len()).min_by_key(|&at| places[at]).unwrap_or(0);
    places.rotate_left(first);
    places
}

fn report_cycle(
    tasks: &[Arc<Task>],
    edges: &[Vec<DependencyEdge<'_>>],
    places: &[usize],
    findings: &mut DiagnosticSink,
) {
    let next = |at: usize| places[(at + 1) % places.len()];
    let edge = |at: usize| edges[places[at]].iter().find(|edge| edge.needs == next(at)).map(|edge| &edge.location);
    let mut named = Vec::new();
    let mut lines = Vec::new();
    for at in 0..places.len() {
        // A long cycle is clear from its first edges and the one that closes it.
        if at + 1 < places.len() && at >= MAX_NAMED_EDGES - 1 {
            continue;
        }
        if at + 1 == places.len() && places.len() > MAX_NAMED_EDGES {
            named.push(format!("… {} more …", places.len() - MAX_NAMED_EDGES));
        }
        let (task, needs) = (&tasks[places[at]].id, &tasks[next(at)].id);
        named.push(format!("`{task}` needs `{needs}`"));
        if let Some(spot) = edge(at) {
            lines.push(findings.source.line(spot.span(findings)).to_string());
        }
    }
    let last = places.len() - 1;
    let (closing, first) = (&tasks[places[last]].id, &tasks[places[0]].id);
    let at = edge(last).map_or_else(SourceSpan::default, |spot| spot.span(findings));
    let found = findings.error("cycle", at, format!("tasks depend on each other: {}", named.join(", ")));
    found.label(format!("`{closing}` needs `{first}` here"));
    found.help(format!("remove one of these dependencies: lines {}", lines.join(", ")));
}
