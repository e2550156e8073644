//! The values that the expressions of a task can use, the items of its list, and the failures of expressions.

use std::sync::Arc;

use serde_json::Value;

use super::state::run_state::State;
use super::state::task::{TaskEntry, TaskState};
use crate::expression::{
    self, Binding, ExpressionError, ForeachItems, LoopPosition, PREVIOUS_NAME, RunValues, Scope, TaskLookup, TaskView,
    json_type_name,
};
use crate::model::{
    Failure, FailureKind, Foreach, JsonObject, Node, NodeIndex, NodeKind, Outcome, SavedFile, Timestamp,
};

impl State {
    /// Returns the names that the expressions of `node` can use.
    pub(super) fn scope(&self, node: NodeIndex) -> Scope<'_> {
        let mut scope = self.plan_scope(node);
        self.add_enclosing(node, &mut scope);
        scope.bindings.reverse();
        scope
    }

    /// Returns the names that every expression of the plan can use.
    fn plan_scope(&self, node: NodeIndex) -> Scope<'_> {
        let run = self.run_values(self.tasks[node.index()].ready_at);
        Scope { run, ..Scope::new(&self.inputs, self) }
    }

    /// Returns the names that the outputs of the group at `node` can use: those of its tasks.
    pub(super) fn group_scope(&self, node: NodeIndex) -> Scope<'_> {
        let mut scope = self.plan_scope(node);
        if !self.enter_group(node, &mut scope) {
            self.add_enclosing(node, &mut scope);
        }
        scope.bindings.reverse();
        scope
    }

    /// Adds what the items, iterations, and groups around `node` bind, innermost first.
    fn add_enclosing<'s>(&'s self, mut node: NodeIndex, scope: &mut Scope<'s>) {
        loop {
            let Node { kind, task, .. } = &self.graph[node];
            node = match kind {
                NodeKind::Planned => return,
                NodeKind::Item(item) => {
                    let position = LoopPosition { index: item.index, length: Some(item.values.len()) };
                    scope.position.get_or_insert(position);
                    let name = task.foreach.as_ref().map(|foreach| foreach.binding.as_str());
                    scope.bindings.extend(name.map(|name| Binding::borrowed(name, &item.values[item.index])));
                    item.parent
                }
                NodeKind::Iteration(iteration) => {
                    scope.position.get_or_insert(LoopPosition { index: iteration.index, length: None });
                    scope.bindings.push(Binding::borrowed(PREVIOUS_NAME, &iteration.previous));
                    iteration.parent
                }
                NodeKind::ToolCall(call) => call.parent,
                NodeKind::Member(group) => {
                    if self.enter_group(*group, scope) {
                        return;
                    }
                    *group
                }
            };
        }
    }

    /// Adds the tasks of a group. Returns whether nothing outside of the group is visible.
    fn enter_group<'s>(&'s self, group: NodeIndex, scope: &mut Scope<'s>) -> bool {
        scope.groups.ids.push(self.graph[group].id.as_str());
        let Some(inputs) = self.tasks[group.index()].inputs.as_deref() else { return false };
        scope.inputs = inputs;
        scope.groups.is_isolated = true;
        true
    }

    /// Returns the values that describe the run, for a decision at `time`.
    pub(super) fn run_values(&self, time: Timestamp) -> RunValues<'_> {
        RunValues {
            id: self.id.as_ref().map_or("", |id| id.as_str()),
            started_at: self.started_at,
            time,
            plan: &self.plan.name,
            env: Some(&self.plan.env),
        }
    }

    /// Returns the items of a `foreach` task.
    ///
    /// # Errors
    /// Returns a failure if the list cannot be evaluated, is not a list, or exceeds a limit.
    pub(super) fn foreach_items(&self, node: NodeIndex, foreach: &Foreach) -> Result<Vec<Value>, Failure> {
        let failure = |message: String| Failure::new(FailureKind::Expression, message);
        let given = || foreach.items.text();
        let rendered = expression::render(&foreach.items, &self.scope(node));
        let rendered = rendered.map_err(|error| expression_failure("foreach", &error))?;
        let (count, bytes) = match (&rendered, foreach.is_matrix) {
            (Value::Array(items), false) => (items.len(), values_bytes(items)),
            (Value::Object(lists), true) => matrix_size(lists).map_err(failure)?,
            (other, _) => {
                let kind = json_type_name(other);
                return Err(failure(format!("`foreach` expects a list, but `{}` is {kind}", given())));
            }
        };
        if count > MAX_ITEMS {
            let message = format!("`foreach` supports at most {MAX_ITEMS} items, but `{}` has {count}", given());
            let help = "split the list over several tasks, or pass the whole list to a tool";
            return Err(failure(message).with_help(help));
        }
        if bytes > MAX_ITEM_BYTES {
            let message = format!(
                "the items of `foreach` can have at most {MAX_ITEM_BYTES} bytes in total, but the {count} of `{}` have \
                 more",
                given()
            );
            let help = "list names or URIs of large data, and let the tool of each item read it";
            return Err(failure(message).with_help(help));
        }
        Ok(match rendered {
            Value::Array(items) => items,
            Value::Object(lists) => matrix_items(&lists, count),
            _ => Vec::new(),
        })
    }
}

/// Limits the items of one `foreach` task. Each item is a node of the graph and has rows in the journal.
const MAX_ITEMS: usize = 100_000;
/// Limits the items of one `foreach` task, in bytes of JSON. One event holds all items, and they stay in memory until
/// the run ends.
const MAX_ITEM_BYTES: usize = 32 * 1024 * 1024;

/// Returns the approximate number of bytes of values as JSON, or a larger number than [`MAX_ITEM_BYTES`]. Numbers count
/// as eight bytes; escapes are ignored.
fn values_bytes(values: &[Value]) -> usize {
    let (mut bytes, mut open) = (0, values.iter().collect::<Vec<_>>());
    while let Some(value) = open.pop() {
        bytes += match value {
            Value::Null | Value::Bool(_) => 5,
            Value::Number(_) => 8,
            Value::String(text) => text.len() + 3,
            Value::Array(list) => {
                open.extend(list);
                3
            }
            Value::Object(map) => {
                open.extend(map.values());
                3 + map.keys().map(|key| key.len() + 3).sum::<usize>()
            }
        };
        if bytes > MAX_ITEM_BYTES {
            break;
        }
    }
    bytes
}

/// Returns the number of items of a matrix, and their bytes, without creating them.
///
/// # Errors
/// Returns a message if a value is not a list.
fn matrix_size(lists: &JsonObject) -> Result<(usize, usize), String> {
    let mut sizes = Vec::with_capacity(lists.len());
    for (name, list) in lists {
        let Value::Array(list) = list else {
            let kind = json_type_name(list);
            return Err(format!("`{name}` of the `matrix` of `foreach` expects a list, but is {kind}"));
        };
        sizes.push((name.len(), list.len(), values_bytes(list)));
    }
    let count = sizes.iter().fold(1_usize, |count, (_, length, _)| count.saturating_mul(*length));
    let bytes = sizes.iter().filter(|_| count > 0).fold(count.saturating_mul(3), |total, (name, length, bytes)| {
        let repeated = (count / length).saturating_mul(*bytes);
        total.saturating_add(repeated).saturating_add(count.saturating_mul(name + 3))
    });
    Ok((count, bytes))
}

/// Returns the `count` combinations of the elements of lists, each as an object with their keys. The last key changes
/// fastest.
fn matrix_items(lists: &JsonObject, count: usize) -> Vec<Value> {
    let lists: Vec<(&String, &[Value])> =
        lists.iter().map(|(name, list)| (name, list.as_array().map_or(&[][..], Vec::as_slice))).collect();
    let item = |index: usize| {
        let mut remaining = index;
        let mut fields: Vec<(String, Value)> = Vec::with_capacity(lists.len());
        for (name, list) in lists.iter().rev() {
            fields.push(((*name).clone(), list[remaining % list.len()].clone()));
            remaining /= list.len();
        }
        Value::Object(fields.into_iter().rev().collect())
    };
    (0..count).map(item).collect()
}

impl TaskLookup for State {
    fn task(&self, id: &str) -> Option<TaskView<'_>> {
        let node = self.graph.node_index(id)?;
        let entry = &self.tasks[node.index()];
        let mut view = entry.view()?;
        if self.graph[node].task.foreach.is_some() && self.graph[node].is_list() {
            view.items = Some(ForeachItems { lookup: self, indices: entry.items.clone() });
        }
        Some(view)
    }

    fn has_task(&self, id: &str) -> bool {
        self.graph.node_index(id).is_some()
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

/// Checks that the value of `key`, which a model reads, has no text that is only in a file.
///
/// # Errors
/// Returns the failure of the task.
pub(super) fn check_has_no_large_text(key: &str, value: &Value) -> Result<(), Failure> {
    let Some(file) = SavedFile::find_text(value) else { return Ok(()) };
    let message =
        format!("`{key}` cannot contain the output in the file `{}`, which has {} bytes", file.name, file.bytes);
    let help = "have a task before it select what matters, such as a command that gets the output as `stdin`";
    Err(Failure::new(FailureKind::Expression, message).with_help(help))
}

/// Returns the failure of a task whose expression under `key` cannot be evaluated.
pub(super) fn expression_failure(key: &str, error: &ExpressionError) -> Failure {
    let failure = Failure::new(FailureKind::Expression, format!("`{key}`: {error}"));
    match &error.help {
        Some(help) => failure.with_help(help.clone()),
        None => failure,
    }
}
