//! The drawing of a task graph: boxes with places, and the paths of the edges between them.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::grouping::{Cluster, clusters};
use super::layout::{LayoutEdge, NodeSize, Point, ScopeLayout, layout_scope};
use super::scope_metrics::ScopeMetrics;
use crate::model::text::truncate_chars;
use crate::model::{Task, TaskId};
use crate::view::text::{count_text, work_text};

/// The maximum length of a line in a box, in characters.
const MAX_LINE_CHARS: usize = 30;
/// The number of tasks of a scope from which equal siblings and chains become one box each.
const MAX_SINGLE_TASKS: usize = 300;

/// A task graph with the places of everything, in pixels from the upper left corner.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlanDrawing {
    /// The total width.
    pub width: f64,
    /// The total height.
    pub height: f64,
    /// The boxes; that of a group comes before those of its tasks.
    #[serde(rename = "nodes")]
    pub tasks: Vec<DrawnTask>,
    /// The dependencies.
    pub edges: Vec<DrawnEdge>,
}

/// The box of a task, of a group with the boxes of its tasks in it, or of several tasks that are drawn as one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrawnTask {
    /// The ID of the task: that of a task in a group has the ID of the group before it, as in `each.get`.
    pub id: String,
    /// The title, or else the ID.
    pub name: String,
    /// What the task does.
    pub detail: String,
    /// The distance from the left edge.
    pub x: f64,
    /// The distance from the upper edge.
    pub y: f64,
    /// The width.
    #[serde(rename = "w")]
    pub width: f64,
    /// The height.
    #[serde(rename = "h")]
    pub height: f64,
    /// Set for a group whose tasks are drawn in the box.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_group: bool,
    /// Set for a task with several calls: `foreach` or `repeat`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_repeated: bool,
    /// The IDs of the tasks that the box stands for; empty unless there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<TaskId>,
}

/// A dependency between two boxes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrawnEdge {
    /// The ID of the dependency.
    pub from: String,
    /// The ID of the dependent.
    pub to: String,
    /// The points that the edge passes.
    pub points: Vec<Point>,
    /// Set if the dependent does not always run: it has a condition, or is a hook.
    #[serde(rename = "dashed", skip_serializing_if = "std::ops::Not::not")]
    pub is_conditional: bool,
}

impl PlanDrawing {
    /// Draws tasks. Equal tasks give equal places, whatever the state of the run.
    pub fn new<'t>(tasks: impl IntoIterator<Item = &'t Arc<Task>>) -> Self {
        Self::with_metrics(tasks, &ScopeMetrics::PIXELS)
    }

    /// Draws tasks with other sizes than those of a picture.
    pub(super) fn with_metrics<'t>(tasks: impl IntoIterator<Item = &'t Arc<Task>>, metrics: &ScopeMetrics) -> Self {
        let tasks: Vec<&Task> = tasks.into_iter().map(|task| &**task).collect();
        draw_scope(&tasks, "", metrics)
    }

    /// Moves everything.
    fn shift(&mut self, by: Point) {
        for task in &mut self.tasks {
            task.x += by.x;
            task.y += by.y;
        }
        for point in self.edges.iter_mut().flat_map(|edge| &mut edge.points) {
            point.x += by.x;
            point.y += by.y;
        }
    }
}

fn draw_scope(tasks: &[&Task], prefix: &str, metrics: &ScopeMetrics) -> PlanDrawing {
    let clusters = clusters(tasks, MAX_SINGLE_TASKS);
    let mut cluster_of: HashMap<&TaskId, usize> = HashMap::new();
    for (index, cluster) in clusters.iter().enumerate() {
        cluster_of.extend(cluster.tasks.iter().map(|task| (&tasks[*task].id, index)));
    }
    let mut scopes: Vec<Option<PlanDrawing>> = Vec::with_capacity(clusters.len());
    let mut boxes = Vec::with_capacity(clusters.len());
    for cluster in &clusters {
        let (drawn, inside) = draw_cluster(tasks, cluster, prefix, metrics);
        boxes.push(drawn);
        scopes.push(inside);
    }
    let (edges, conditional) = scope_edges(tasks, &clusters, &cluster_of);
    let hidden = edges_to_plan_hooks(tasks, &clusters, &edges);
    let sizes: Vec<NodeSize> =
        boxes.iter().map(|drawn| NodeSize { width: drawn.width, height: drawn.height }).collect();
    let all: Vec<LayoutEdge> = edges.iter().chain(&hidden).copied().collect();
    let ScopeLayout { width, height, corners, paths } = layout_scope(metrics, &sizes, &all);

    let ids: Vec<String> = boxes.iter().map(|drawn| drawn.id.clone()).collect();
    let mut drawing = PlanDrawing { width, height, ..PlanDrawing::default() };
    drawing.edges = edges
        .iter()
        .zip(paths)
        .zip(conditional)
        .map(|((edge, points), is_conditional)| DrawnEdge {
            from: ids[edge.from].clone(),
            to: ids[edge.to].clone(),
            points,
            is_conditional,
        })
        .collect();
    for ((mut drawn, inside), corner) in boxes.into_iter().zip(scopes).zip(corners) {
        (drawn.x, drawn.y) = (corner.x, corner.y);
        drawing.tasks.push(drawn);
        if let Some(mut inside) = inside {
            inside.shift(Point { x: corner.x + metrics.group_padding, y: corner.y + metrics.heading_height });
            drawing.tasks.extend(inside.tasks);
            drawing.edges.extend(inside.edges);
        }
    }
    drawing
}

/// Returns the box of a cluster, and the drawing in it if it is a group.
fn draw_cluster(
    tasks: &[&Task],
    cluster: &Cluster,
    prefix: &str,
    metrics: &ScopeMetrics,
) -> (DrawnTask, Option<PlanDrawing>) {
    let task = tasks[cluster.tasks[0]];
    let name = task.title.as_deref().unwrap_or(task.id.as_str());
    let mut drawn = DrawnTask {
        id: format!("{prefix}{}", task.id),
        name: truncate_chars(name, MAX_LINE_CHARS).into_owned(),
        detail: truncate_chars(&work_text(task), MAX_LINE_CHARS).into_owned(),
        x: 0.0,
        y: 0.0,
        width: 0.0,
        height: metrics.task_height,
        is_group: false,
        is_repeated: task.foreach.is_some() || task.repeat.is_some(),
        members: Vec::new(),
    };
    if cluster.tasks.len() > 1 {
        drawn.members = cluster.tasks.iter().map(|index| tasks[*index].id.clone()).collect();
        drawn.name = count_text(drawn.members.len(), "task");
        drawn.detail = truncate_chars(&format!("{}: {}", cluster.kind, work_text(task)), MAX_LINE_CHARS).into_owned();
    }
    let text_width = |text: &str, char_width, padding| text.width() as f64 * char_width + padding;
    let name_width = text_width(&drawn.name, metrics.char_widths.0, metrics.text_paddings.0);
    let detail_width = text_width(&drawn.detail, metrics.char_widths.1, metrics.text_paddings.1);
    let (least, greatest) = metrics.task_widths;
    let width = name_width.max(detail_width).clamp(least, greatest);
    drawn.width = (width / metrics.width_unit).round() * metrics.width_unit;
    if metrics.opens_groups && drawn.members.is_empty() && !task.members().is_empty() {
        let members: Vec<&Task> = task.members().iter().map(|member| &**member).collect();
        let inside = draw_scope(&members, &format!("{}.", drawn.id), metrics);
        drawn.is_group = true;
        drawn.width = drawn.width.max(inside.width + 2.0 * metrics.group_padding);
        drawn.height = inside.height + metrics.heading_height + metrics.group_padding;
        return (drawn, Some(inside));
    }
    (drawn, None)
}

/// Returns the dependencies between clusters without repetition, and whether each dependent does not always run.
fn scope_edges(
    tasks: &[&Task],
    clusters: &[Cluster],
    cluster_of: &HashMap<&TaskId, usize>,
) -> (Vec<LayoutEdge>, Vec<bool>) {
    let (mut edges, mut conditional) = (Vec::new(), Vec::new());
    for (to, cluster) in clusters.iter().enumerate() {
        let mut known = Vec::new();
        for task in cluster.tasks.iter().map(|index| tasks[*index]) {
            for from in task.needs.iter().filter_map(|need| cluster_of.get(need).copied()) {
                if from != to && !known.contains(&from) {
                    known.push(from);
                    edges.push(LayoutEdge { from, to });
                    conditional.push(task.condition.is_some() || task.hook.is_some());
                }
            }
        }
    }
    (edges, conditional)
}

/// Returns edges from everything that nothing depends on to the hooks of the plan, which run at the end.
fn edges_to_plan_hooks(tasks: &[&Task], clusters: &[Cluster], edges: &[LayoutEdge]) -> Vec<LayoutEdge> {
    let is_hook = |cluster: usize| tasks[clusters[cluster].tasks[0]].is_plan_hook();
    let mut has_dependent = vec![false; clusters.len()];
    edges.iter().filter(|edge| !is_hook(edge.to)).for_each(|edge| has_dependent[edge.from] = true);
    let last: Vec<usize> = (0..clusters.len()).filter(|node| !is_hook(*node) && !has_dependent[*node]).collect();
    let first_hooks = (0..clusters.len())
        .filter(|node| is_hook(*node) && !edges.iter().any(|edge| edge.to == *node && is_hook(edge.from)));
    first_hooks.flat_map(|to| last.iter().map(move |from| LayoutEdge { from: *from, to })).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(id: &str, needs: &[&str]) -> Arc<Task> {
        let call = json!({"routes": [{"agent": "a", "tool": "go"}], "with": {}});
        let task = json!({"id": id, "needs": needs, "work": {"call": call}});
        Arc::new(serde_json::from_value(task).expect("a task"))
    }

    #[test]
    fn group_contains_its_tasks() {
        let members = [json!(*task("get", &[])), json!(*task("put", &["get"]))];
        let group = json!({"id": "each", "needs": ["find"], "work": {"group": {"tasks": members}}});
        let tasks =
            [task("find", &[]), Arc::new(serde_json::from_value(group).expect("a group")), task("end", &["each"])];
        let drawing = PlanDrawing::new(&tasks);
        let ids: Vec<&str> = drawing.tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["find", "each", "each.get", "each.put", "end"]);
        let (group, member) = (&drawing.tasks[1], &drawing.tasks[3]);
        assert!(group.is_group && member.x >= group.x && member.y >= group.y);
        assert!(member.x + member.width <= group.x + group.width && member.y + member.height <= group.y + group.height);
        let edges: Vec<(&str, &str)> =
            drawing.edges.iter().map(|edge| (edge.from.as_str(), edge.to.as_str())).collect();
        assert_eq!(edges, [("find", "each"), ("each", "end"), ("each.get", "each.put")]);
    }

    #[test]
    fn hooks_of_the_plan_are_below_everything_else() {
        let mut hook = (*task("tidy", &[])).clone();
        hook.hook = Some(Box::new(serde_json::from_value(json!({"on": "always"})).expect("a hook")));
        let tasks = [Arc::new(hook), task("a", &[]), task("b", &["a"])];
        let drawing = PlanDrawing::new(&tasks);
        let top = |id: &str| drawing.tasks.iter().find(|task| task.id == id).expect("it is drawn").y;
        assert!(top("tidy") > top("b"));
        assert_eq!(drawing.edges.len(), 1);
    }

    #[test]
    fn large_flat_plans_are_drawn_with_few_boxes() {
        let mut tasks = vec![task("first", &[])];
        tasks.extend((0..2_000).map(|index| task(&format!("t{index}"), &["first"])));
        tasks.push(task("last", &["t0", "t1"]));
        let drawing = PlanDrawing::new(&tasks);
        let shown: Vec<_> = drawing.tasks.iter().map(|task| (task.name.as_str(), task.members.len())).collect();
        assert_eq!(shown, [("first", 0), ("2 tasks", 2), ("1998 tasks", 1998), ("last", 0)]);
    }
}
