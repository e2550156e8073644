//! The validated plan as a directed acyclic graph; edges run dependency → dependent.
//! Never persisted by index: outside a process, a task is known by its `TaskId`.

use std::{collections::HashMap, sync::Arc};

use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::Value;

use super::{IdHashMap, JsonObject, Task, TaskId};

/// A task of the plan, one item of a `foreach` task, or one call that a model asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its id: the task's own, or `TASK[index]`.
    pub id: TaskId,
    /// The task as planned; an item shares its parent's, and a model's call has one of its own.
    pub task: Arc<Task>,
    /// What part of the graph it is.
    pub kind: NodeKind,
}

impl Node {
    /// The item that it is, if it is one.
    pub fn item(&self) -> Option<&Item> {
        match &self.kind {
            NodeKind::Item(item) => Some(item),
            NodeKind::Planned | NodeKind::ToolCall(_) => None,
        }
    }
}

/// What part of a graph a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// A task of the plan.
    Planned,
    /// An item of a `foreach` task.
    Item(Item),
    /// A call that a model asked for.
    ToolCall(Box<ToolCallNode>),
}

/// A call that a model asked for, in answer to a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCallNode {
    /// The prompt.
    pub parent: NodeIndex,
    /// The arguments, as the model gave them: data, never a template.
    pub arguments: JsonObject,
}

/// An item's place under its `foreach` task.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The `foreach` task.
    pub parent: NodeIndex,
    /// 0 for the first.
    pub index: usize,
    /// All the items; this one's value is at `index`.
    pub values: Arc<Vec<Value>>,
}

/// The graph. An edge from an item to its `foreach` task says that the task ends after its items.
#[derive(Debug, Clone, Default)]
pub struct TaskGraph {
    graph: DiGraph<Node, ()>,
    by_id: IdHashMap<TaskId, NodeIndex>,
}

/// Why tasks are no graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two tasks have one id.
    #[error("two tasks are called `{0}`")]
    Duplicate(TaskId),
    /// A task needs one that is not there.
    #[error("task `{task}` needs `{dependency}`, which is not in the plan")]
    Unknown {
        /// The task.
        task: TaskId,
        /// What it needs.
        dependency: TaskId,
    },
    /// Tasks wait for each other; each needs the next, and the last needs the first.
    #[error("tasks wait for each other: {}", .0.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" needs "))]
    Cycle(Vec<TaskId>),
}

impl TaskGraph {
    /// Builds the graph of a plan's tasks, in their order.
    ///
    /// # Errors
    /// The first duplicate, else the first unknown need, else one cycle.
    pub fn new(tasks: &[Arc<Task>]) -> Result<Self, GraphError> {
        let mut built = Self::default();
        built.add_tasks(tasks)?;
        Ok(built)
    }

    /// Adds further tasks of the plan, which may need each other and those that are there.
    ///
    /// # Errors
    /// As [`TaskGraph::new`]; then the graph is of no use any more.
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
        // Who needed each node last, so that a need that is told twice is one edge.
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

    /// Makes `dependent` wait for `node` too.
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

    /// Adds a call that the model asked for in answer to the prompt at `parent`.
    pub fn add_tool_call(&mut self, parent: NodeIndex, task: Task, arguments: JsonObject) -> NodeIndex {
        let id = task.id.clone();
        let part = NodeKind::ToolCall(Box::new(ToolCallNode { parent, arguments }));
        let node = self.graph.add_node(Node { id: id.clone(), task: Arc::new(task), kind: part });
        self.by_id.insert(id, node);
        self.graph.add_edge(node, parent, ());
        node
    }

    /// Every node, in the order of the plan and then of expansion.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.graph.node_indices().map(|index| (index, &self.graph[index]))
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.graph.node_count() == 0
    }

    /// The node of that id.
    pub fn node_index(&self, id: &str) -> Option<NodeIndex> {
        self.by_id.get(id).copied()
    }

    /// What must end before `node`.
    pub fn dependencies(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> {
        self.graph.neighbors_directed(node, petgraph::Direction::Incoming)
    }

    /// What waits for `node`.
    pub fn dependents(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> {
        self.graph.neighbors_directed(node, petgraph::Direction::Outgoing)
    }

    /// The tasks of one cycle, each needing the next. Not recursive: a cycle of any length is found.
    fn find_cycle(&self) -> Option<Vec<TaskId>> {
        if petgraph::algo::toposort(&self.graph, None).is_ok() {
            return None;
        }
        let component = petgraph::algo::kosaraju_scc(&self.graph)
            .into_iter()
            .find(|nodes| nodes.len() > 1 || self.graph.contains_edge(nodes[0], nodes[0]))?;
        let within: std::collections::HashSet<_> = component.iter().copied().collect();
        // Every node of a strongly connected component has a dependency inside it, so walking along them
        // must come back to a node that was seen.
        let mut path = vec![component[0]];
        let mut place = HashMap::from([(component[0], 0)]);
        loop {
            let here = path[path.len() - 1];
            let next = self.dependencies(here).find(|node| within.contains(node))?;
            if let Some(&start) = place.get(&next) {
                return Some(path[start..].iter().map(|&node| self.graph[node].id.clone()).collect());
            }
            place.insert(next, path.len());
            path.push(next);
        }
    }
}

impl PartialEq for TaskGraph {
    /// Compares nodes and edges; the index by id follows from them.
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
