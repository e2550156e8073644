//! The validated plan as a directed acyclic graph. Edges run from dependency to dependent. Indices are valid within a
//! process only; persistent data refers to tasks by `TaskId`.

use std::collections::HashMap;
use std::sync::Arc;

use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::Value;

use crate::model::{IdHashMap, JsonObject, Task, TaskId};

/// A task of the plan, an item of a `foreach` task, or a tool call of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The ID: the task's own, or `TASK[index]`.
    pub id: TaskId,
    /// The planned task. An item shares its parent's task, and a model's call has its own.
    pub task: Arc<Task>,
    /// The kind of node.
    pub kind: NodeKind,
}

impl Node {
    /// Returns the item, if this node is one.
    pub fn item(&self) -> Option<&Item> {
        match &self.kind {
            NodeKind::Item(item) => Some(item),
            NodeKind::Planned | NodeKind::Member(_) | NodeKind::Iteration(_) | NodeKind::ToolCall(_) => None,
        }
    }

    /// Returns the iteration, if this node is one.
    pub fn iteration(&self) -> Option<&Iteration> {
        match &self.kind {
            NodeKind::Iteration(iteration) => Some(iteration),
            _ => None,
        }
    }

    /// Returns the `foreach` or `repeat` task that this node is a part of, if it is one.
    pub fn list_parent(&self) -> Option<NodeIndex> {
        match &self.kind {
            NodeKind::Item(item) => Some(item.parent),
            NodeKind::Iteration(iteration) => Some(iteration.parent),
            NodeKind::Planned | NodeKind::Member(_) | NodeKind::ToolCall(_) => None,
        }
    }

    /// Returns whether it is a call that a model requested, or the request for the prompt of an agent.
    pub fn is_tool_call(&self) -> bool {
        matches!(self.kind, NodeKind::ToolCall(_))
    }

    /// Returns the node that it is a part of: a list, a group, or a prompt.
    pub fn parent(&self) -> Option<NodeIndex> {
        match &self.kind {
            NodeKind::Planned => None,
            NodeKind::Member(group) => Some(*group),
            NodeKind::Item(item) => Some(item.parent),
            NodeKind::Iteration(iteration) => Some(iteration.parent),
            NodeKind::ToolCall(call) => Some(call.parent),
        }
    }

    /// Returns whether this node stands for the whole list of a `foreach` or `repeat` task.
    pub fn is_list(&self) -> bool {
        self.list_parent().is_none()
            && !matches!(self.kind, NodeKind::ToolCall(_))
            && (self.task.foreach.is_some() || self.task.repeat.is_some())
    }
}

/// The kind of a node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NodeKind {
    /// A task of the plan, outside of groups.
    Planned,
    /// A task of the group at this node.
    Member(NodeIndex),
    /// An item of a `foreach` task.
    Item(Item),
    /// An iteration of a `repeat` task.
    Iteration(Iteration),
    /// A tool call of a model.
    ToolCall(Box<ToolCallNode>),
}

/// A tool call of the model that answers a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCallNode {
    /// The prompt.
    pub parent: NodeIndex,
    /// The arguments from the model: data, never a template.
    pub arguments: JsonObject,
}

/// The position of an item in its `foreach` task.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The `foreach` task.
    pub parent: NodeIndex,
    /// The index, from 0.
    pub index: usize,
    /// All items; the value of this one is at `index`.
    pub values: Arc<Vec<Value>>,
}

/// The position of an iteration in its `repeat` task.
#[derive(Debug, Clone, PartialEq)]
pub struct Iteration {
    /// The `repeat` task.
    pub parent: NodeIndex,
    /// The index, from 0.
    pub index: usize,
    /// The output of the iteration before this one; null for the first.
    pub previous: Arc<Value>,
}

/// The graph. An edge from an item to its `foreach` task makes the task end after its items.
#[derive(Debug, Clone, Default)]
pub struct TaskGraph {
    graph: DiGraph<Node, ()>,
    by_id: IdHashMap<TaskId, NodeIndex>,
}

/// The reason why tasks do not form a valid graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Two tasks have the same ID.
    #[error("two tasks are called `{0}`")]
    Duplicate(TaskId),
    /// A task depends on an unknown task.
    #[error("task `{task}` needs `{dependency}`, which is not in the plan")]
    Unknown {
        /// The task.
        task: TaskId,
        /// The unknown dependency.
        dependency: TaskId,
    },
    /// A dependency cycle; each task needs the next, and the last needs the first.
    #[error("tasks depend on each other: {}", .0.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" needs "))]
    Cycle(Vec<TaskId>),
}

impl TaskGraph {
    /// Builds the graph of a plan's tasks, in their order.
    ///
    /// # Errors
    /// Returns the first duplicate, otherwise the first unknown dependency, otherwise one cycle.
    pub fn new(tasks: &[Arc<Task>]) -> Result<Self, GraphError> {
        let mut built = Self::default();
        built.add_tasks(tasks)?;
        Ok(built)
    }

    /// Adds tasks to the plan. They may depend on each other and on existing tasks.
    ///
    /// # Errors
    /// As [`TaskGraph::new`]. The graph must not be used after an error.
    pub fn add_tasks(&mut self, tasks: &[Arc<Task>]) -> Result<Vec<NodeIndex>, GraphError> {
        let first = self.graph.node_count();
        self.graph.reserve_nodes(tasks.len());
        self.graph.reserve_edges(tasks.iter().map(|task| task.needs.len()).sum());
        for task in tasks {
            let node =
                self.graph.add_node(Node { id: task.id.clone(), task: Arc::clone(task), kind: NodeKind::Planned });
            if self.by_id.insert(task.id.clone(), node).is_some() {
                return Err(GraphError::Duplicate(task.id.clone()));
            }
        }
        // The last dependent of each node, so that a repeated dependency becomes one edge.
        let mut latest = vec![NodeIndex::end(); self.graph.node_count()];
        let mut each_after_its_needs = true;
        for (index, task) in tasks.iter().enumerate() {
            let node = NodeIndex::new(first + index);
            for needs in &task.needs {
                let Some(&from) = self.by_id.get(needs) else {
                    return Err(GraphError::Unknown { task: task.id.clone(), dependency: needs.clone() });
                };
                if std::mem::replace(&mut latest[from.index()], node) != node {
                    self.graph.add_edge(from, node, ());
                }
                each_after_its_needs &= from < node;
            }
        }
        if !each_after_its_needs && let Some(cycle) = self.find_cycle() {
            return Err(GraphError::Cycle(cycle));
        }
        Ok((first..first + tasks.len()).map(NodeIndex::new).collect())
    }

    /// Adds `node` as a dependency of `dependent`.
    pub fn add_dependency(&mut self, dependent: NodeIndex, node: NodeIndex) {
        self.graph.update_edge(node, dependent, ());
    }

    /// Adds the items of the `foreach` task at `parent`.
    pub fn add_items(
        &mut self,
        parent: NodeIndex,
        values: &Arc<Vec<Value>>,
    ) -> impl Iterator<Item = NodeIndex> + use<> {
        let first = self.graph.node_count();
        let Node { id, task, .. } = self.graph[parent].clone();
        for index in 0..values.len() {
            let item = Item { parent, index, values: Arc::clone(values) };
            let id = id.item(index);
            let node =
                self.graph.add_node(Node { id: id.clone(), task: Arc::clone(&task), kind: NodeKind::Item(item) });
            self.by_id.insert(id, node);
            self.graph.add_edge(node, parent, ());
        }
        (first..self.graph.node_count()).map(NodeIndex::new)
    }

    /// Adds the next iteration of the `repeat` task at `parent`.
    pub fn add_iteration(&mut self, parent: NodeIndex, index: usize, previous: Arc<Value>) -> NodeIndex {
        let Node { id, task, .. } = self.graph[parent].clone();
        let kind = NodeKind::Iteration(Iteration { parent, index, previous });
        self.add_child(parent, Node { id: id.item(index), task, kind })
    }

    /// Adds the tasks of the group at `parent`, which ends after them.
    pub fn add_members(&mut self, parent: NodeIndex) -> Vec<NodeIndex> {
        let Node { id, task, .. } = self.graph[parent].clone();
        let members = task.members();
        let add = |member: &Arc<Task>| {
            let kind = NodeKind::Member(parent);
            self.add_child(parent, Node { id: id.member(&member.id), task: Arc::clone(member), kind })
        };
        let nodes: Vec<NodeIndex> = members.iter().map(add).collect();
        let by_name: HashMap<&TaskId, NodeIndex> =
            members.iter().map(|task| &task.id).zip(nodes.iter().copied()).collect();
        for (task, node) in members.iter().zip(&nodes) {
            for need in task.needs.iter().filter_map(|need| by_name.get(need)) {
                self.graph.update_edge(*need, *node, ());
            }
            // A hook of the whole group runs after all of its other tasks.
            if task.is_plan_hook() {
                for (_, before) in members.iter().zip(&nodes).filter(|(other, _)| !other.is_plan_hook()) {
                    self.graph.update_edge(*before, *node, ());
                }
            }
        }
        nodes
    }

    fn add_child(&mut self, parent: NodeIndex, child: Node) -> NodeIndex {
        let id = child.id.clone();
        let node = self.graph.add_node(child);
        self.by_id.insert(id, node);
        self.graph.add_edge(node, parent, ());
        node
    }

    /// Returns the group that a node belongs to, directly or as an item, an iteration, or a call.
    pub fn group_of(&self, mut node: NodeIndex) -> Option<NodeIndex> {
        loop {
            if let NodeKind::Member(group) = &self.graph[node].kind {
                return Some(*group);
            }
            node = self.graph[node].parent()?;
        }
    }

    /// Adds a tool call of the model that answers the prompt at `parent`.
    pub fn add_tool_call(&mut self, parent: NodeIndex, task: Task, arguments: JsonObject) -> NodeIndex {
        let id = task.id.clone();
        let kind = NodeKind::ToolCall(Box::new(ToolCallNode { parent, arguments }));
        self.add_child(parent, Node { id, task: Arc::new(task), kind })
    }

    /// Returns all nodes in order of insertion.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.graph.node_indices().map(|index| (index, &self.graph[index]))
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Returns whether the graph has no nodes.
    pub fn is_empty(&self) -> bool {
        self.graph.node_count() == 0
    }

    /// Returns the node with this ID.
    pub fn node_index(&self, id: &str) -> Option<NodeIndex> {
        self.by_id.get(id).copied()
    }

    /// Returns the nodes that must end before `node`.
    pub fn dependencies(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> {
        self.graph.neighbors_directed(node, petgraph::Direction::Incoming)
    }

    /// Returns the nodes that wait for `node`.
    pub fn dependents(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> {
        self.graph.neighbors_directed(node, petgraph::Direction::Outgoing)
    }

    /// Returns the tasks of one cycle, each needing the next. Not recursive, so the length of a cycle is unlimited.
    fn find_cycle(&self) -> Option<Vec<TaskId>> {
        if petgraph::algo::toposort(&self.graph, None).is_ok() {
            return None;
        }
        let component = petgraph::algo::kosaraju_scc(&self.graph)
            .into_iter()
            .find(|nodes| nodes.len() > 1 || self.graph.contains_edge(nodes[0], nodes[0]))?;
        let within: std::collections::HashSet<_> = component.iter().copied().collect();
        // Every node of a strongly connected component has a dependency inside it, so a walk along dependencies
        // revisits a node.
        let mut path = vec![component[0]];
        let mut positions = HashMap::from([(component[0], 0)]);
        loop {
            let here = path[path.len() - 1];
            let next = self.dependencies(here).find(|node| within.contains(node))?;
            if let Some(&start) = positions.get(&next) {
                return Some(path[start..].iter().map(|&node| self.graph[node].id.clone()).collect());
            }
            positions.insert(next, path.len());
            path.push(next);
        }
    }
}

impl PartialEq for TaskGraph {
    /// Compares nodes and edges; the index by ID is derived from them.
    fn eq(&self, other: &Self) -> bool {
        let edges = |graph: &Self| {
            graph.graph.raw_edges().iter().map(|edge| (edge.source(), edge.target())).collect::<Vec<_>>()
        };
        self.nodes().eq(other.nodes()) && edges(self) == edges(other)
    }
}

impl std::ops::Index<NodeIndex> for TaskGraph {
    type Output = Node;
    fn index(&self, index: NodeIndex) -> &Node {
        &self.graph[index]
    }
}
