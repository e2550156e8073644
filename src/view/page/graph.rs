//! The graph of the planned tasks, with the places of nodes and edges.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use super::graph_task::GraphTask;
use super::grouping::grouped;
use crate::model::{Plan, TaskId};
use crate::view::text::truncated;

/// The size of a node, and the space between two nodes and two layers, in pixels.
const NODE_SIZE: (f64, f64) = (190.0, 48.0);
const NODE_GAP: f64 = 24.0;
const LAYER_GAP: f64 = 44.0;

/// A drawn graph. Equal plans have equal places, whatever the states of their tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PageGraph {
    /// The width in pixels.
    pub width: f64,
    /// The height in pixels.
    pub height: f64,
    /// The nodes.
    pub nodes: Vec<GraphNode>,
    /// The edges.
    pub edges: Vec<GraphEdge>,
}

impl PageGraph {
    /// Draws the tasks of a plan.
    pub fn of_plan(plan: &Plan) -> Self {
        let tasks: Vec<GraphTask<'_>> = plan.tasks.iter().map(|task| GraphTask::of(task)).collect();
        page_graph(&tasks)
    }
}

/// A task, or several tasks of a large plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GraphNode {
    /// The ID of the first task.
    pub id: TaskId,
    /// The left edge.
    pub x: f64,
    /// The upper edge.
    pub y: f64,
    /// The width.
    pub w: f64,
    /// The height.
    pub h: f64,
    /// The tasks, if it has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<TaskId>,
    /// The name, if it has several tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// An edge from a task to one that depends on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GraphEdge {
    /// The ID of the first node.
    pub from: TaskId,
    /// The ID of the second node.
    pub to: TaskId,
    /// The points that it passes.
    #[serde(serialize_with = "serialize_points")]
    pub points: Vec<(f64, f64)>,
    /// Set if the second task has a condition.
    #[serde(rename = "dashed", skip_serializing_if = "std::ops::Not::not")]
    pub is_dashed: bool,
}

fn serialize_points<S: Serializer>(points: &[(f64, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(points.iter().map(|(x, y)| [x, y]))
}

/// Draws the graph of these tasks of one scope.
pub(super) fn page_graph(tasks: &[GraphTask<'_>]) -> PageGraph {
    let indexes: HashMap<&TaskId, usize> =
        tasks.iter().enumerate().map(|(index, task)| (&task.task.id, index)).collect();
    let needs = tasks.iter().enumerate().flat_map(|(to, task)| task.task.needs.iter().map(move |need| (need, to)));
    let edges: Vec<(usize, usize)> = needs.filter_map(|(need, to)| Some((*indexes.get(need)?, to))).collect();
    let groups = grouped(tasks, &edges);
    let mut node_of = vec![0; tasks.len()];
    for (node, members) in groups.iter().enumerate() {
        members.iter().for_each(|member| node_of[*member] = node);
    }
    let mut drawn: Vec<(usize, usize, bool)> = edges
        .iter()
        .map(|&(from, to)| (node_of[from], node_of[to], tasks[to].is_conditional()))
        .filter(|(from, to, _)| from != to)
        .collect();
    let mut seen = std::collections::HashSet::new();
    drawn.retain(|(from, to, _)| seen.insert((*from, *to)));
    let pairs: Vec<(usize, usize)> = drawn.iter().map(|(from, to, _)| (*from, *to)).collect();
    let Places { width, height, corners, paths } = place(groups.len(), &pairs);
    let id = |node: usize| tasks[groups[node][0]].task.id.clone();
    let nodes = groups.iter().zip(corners).enumerate().map(|(node, (members, (x, y)))| {
        let is_group = members.len() > 1;
        let name = || {
            let first = &tasks[members[0]];
            let what = if first.work().is_empty() { first.task.id.to_string() } else { first.work() };
            truncated(&format!("{} × {what}", members.len()))
        };
        let members =
            if is_group { members.iter().map(|member| tasks[*member].task.id.clone()).collect() } else { Vec::new() };
        let name = is_group.then(name);
        GraphNode { id: id(node), x, y, w: NODE_SIZE.0, h: NODE_SIZE.1, members, name }
    });
    let nodes = nodes.collect();
    let edges = drawn.iter().zip(paths).map(|(&(from, to, is_dashed), points)| GraphEdge {
        from: id(from),
        to: id(to),
        points,
        is_dashed,
    });
    PageGraph { width, height, nodes, edges: edges.collect() }
}

/// The places of nodes of one size.
struct Places {
    width: f64,
    height: f64,
    /// The upper left corner of each node.
    corners: Vec<(f64, f64)>,
    /// The points of each edge.
    paths: Vec<Vec<(f64, f64)>>,
}

/// Places nodes in layers: each below everything that it depends on, in the order of the plan.
fn place(count: usize, edges: &[(usize, usize)]) -> Places {
    let (width, height) = NODE_SIZE;
    let mut layers = vec![0_usize; count];
    // A valid plan has no cycle, so its longest chain has fewer edges than there are nodes.
    for _ in 0..count {
        let mut has_moved = false;
        for &(from, to) in edges {
            if layers[to] <= layers[from] {
                layers[to] = layers[from] + 1;
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
    let mut columns: Vec<usize> = Vec::new();
    let corners: Vec<(f64, f64)> = layers
        .iter()
        .map(|&layer| {
            columns.resize(columns.len().max(layer + 1), 0);
            let column = columns[layer];
            columns[layer] += 1;
            (column as f64 * (width + NODE_GAP), layer as f64 * (height + LAYER_GAP))
        })
        .collect();
    let max_columns = columns.iter().copied().max().unwrap_or_default();
    let path = |&(from, to): &(usize, usize)| {
        let (start, end) = (corners[from], corners[to]);
        vec![(start.0 + width / 2.0, start.1 + height), (end.0 + width / 2.0, end.1)]
    };
    let paths = edges.iter().map(path).collect();
    let extent = |count: usize, size: f64, gap: f64| (count as f64 * (size + gap) - gap).max(0.0);
    Places {
        width: extent(max_columns, width, NODE_GAP),
        height: extent(columns.len(), height, LAYER_GAP),
        corners,
        paths,
    }
}
