//! The names in an expression, and the values that they stand for.

use std::borrow::Cow;
use std::ops::Range;

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::names::list_names;
use crate::model::{Timestamp, ToolOutput};

/// The fields of a task in expressions: `tasks.ID.FIELD`.
pub const TASK_FIELDS: [&str; 12] = [
    "output",
    "text",
    "content",
    "resources",
    "saved",
    "status",
    "agent",
    "error",
    "succeeded",
    "failed",
    "skipped",
    "outputs",
];

/// The additional field of a `foreach` task, besides [`TASK_FIELDS`].
pub const ITEMS_FIELD: &str = "items";

/// Reserved names, which `foreach` cannot bind.
pub const RESERVED_NAMES: [&str; 20] = [
    "inputs", "tasks", "run", "plan", "env", "and", "or", "not", "in", "is", "if", "else", "true", "false", "none",
    "True", "False", "None", "loop", "self",
];

/// The objects that describe the run, its plan, and its environment.
pub const RUN_OBJECTS: [&str; 3] = ["run", "plan", "env"];

/// The function that returns the time of a decision.
pub const TIME_FUNCTION: &str = "now()";

/// The fields of [`RUN_OBJECTS`]; those of `env` are the variables.
pub(crate) const RUN_FIELDS: [(&str, &[&str]); 2] = [("run", &["id", "started_at"]), ("plan", &["name"])];

/// The name of a whole document, in an expression about it.
pub const RESOURCE_NAME: &str = "resource";

/// The name of the object that describes the position of the current item, such as `loop.index`.
pub const LOOP_NAME: &str = "loop";

/// The name of the output of the iteration before this one, in a `repeat` task.
pub const PREVIOUS_NAME: &str = "previous";

/// The names of the result of an iteration, in the condition that ends a `repeat` task.
pub const ITERATION_NAMES: [&str; 2] = ["output", "text"];

/// A name that a task binds, such as the current item of `foreach`.
#[derive(Debug, Clone)]
pub struct Binding<'a> {
    /// The name.
    pub name: &'a str,
    /// The value.
    pub value: Cow<'a, Value>,
}

impl<'a> Binding<'a> {
    /// Creates a binding of a value that is stored elsewhere.
    pub fn borrowed(name: &'a str, value: &'a Value) -> Self {
        Self { name, value: Cow::Borrowed(value) }
    }
}

/// The position of an item or an iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopPosition {
    /// The index, from 0.
    pub index: usize,
    /// The number of items; unknown for iterations.
    pub length: Option<usize>,
}

impl LoopPosition {
    /// Returns the value of [`LOOP_NAME`], with the members of Jinja's loops.
    pub(super) fn value(self) -> Value {
        let mut value = json!({"index": self.index + 1, "index0": self.index, "first": self.index == 0});
        if let Some(length) = self.length {
            value["length"] = length.into();
            value["last"] = (self.index + 1 == length).into();
        }
        value
    }
}

/// The values of names in an expression.
pub struct Scope<'a> {
    /// The inputs of the run, or of the plan that runs as a task: an object with defaults filled in.
    pub inputs: &'a Value,
    /// The names that `foreach` and `repeat` tasks bind, outermost first.
    pub bindings: Vec<Binding<'a>>,
    /// The position of the innermost item or iteration.
    pub position: Option<LoopPosition>,
    /// The ended tasks.
    pub tasks: &'a dyn TaskLookup,
    /// The groups around the expression.
    pub groups: EnclosingGroups<'a>,
    /// The values that describe the run.
    pub run: RunValues<'a>,
}

/// The values that describe a run. They never change, so an expression has the same value after a restart.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunValues<'a> {
    /// The ID of the run; empty in journals of earlier versions.
    pub id: &'a str,
    /// The time at which the run started.
    pub started_at: Timestamp,
    /// The time of the decision, the value of `now()`.
    pub time: Timestamp,
    /// The name of the plan.
    pub plan: &'a str,
    /// The environment variables that the plan uses and that were set.
    pub env: Option<&'a IndexMap<String, String>>,
}

impl RunValues<'_> {
    /// Returns the object with one of the names of [`RUN_OBJECTS`].
    pub(super) fn object(&self, name: &str) -> Option<Value> {
        match name {
            "run" => Some(json!({"id": self.id, "started_at": self.started_at.to_rfc3339()})),
            "plan" => Some(json!({"name": self.plan})),
            "env" => Some(json!(self.env)),
            _ => None,
        }
    }
}

/// Returns the help for an unknown field of `run` or `plan`.
pub(crate) fn run_field_help(name: &str, fields: &[&str]) -> String {
    list_names(fields.iter().copied(), (&format!("`{name}` has"), ""))
}

/// The groups around an expression, which determine what a task ID in it refers to.
#[derive(Debug, Clone, Default)]
pub struct EnclosingGroups<'a> {
    /// The IDs of the groups, innermost first.
    pub ids: Vec<&'a str>,
    /// True if the outermost of them is a plan of its own, so that tasks outside of it are not visible.
    pub is_isolated: bool,
}

impl<'a> Scope<'a> {
    /// Creates a scope outside of groups, items, and iterations.
    pub fn new(inputs: &'a Value, tasks: &'a dyn TaskLookup) -> Self {
        Self {
            inputs,
            bindings: Vec::new(),
            position: None,
            tasks,
            groups: EnclosingGroups::default(),
            run: RunValues::default(),
        }
    }

    /// Returns the task that an ID refers to, if it has ended: one of the innermost group that has such a task.
    pub(super) fn task(&self, id: &str) -> Option<TaskView<'a>> {
        for group in &self.groups.ids {
            let id = format!("{group}.{id}");
            if self.tasks.has_task(&id) {
                return self.tasks.task(&id);
            }
        }
        if self.groups.is_isolated { None } else { self.tasks.task(id) }
    }

    /// Returns the value of a name that a task binds.
    pub(super) fn binding(&self, name: &str) -> Option<Cow<'_, Value>> {
        let bound = self.bindings.iter().rev().find(|binding| binding.name == name);
        match bound {
            Some(binding) => Some(Cow::Borrowed(&*binding.value)),
            None if name == LOOP_NAME => self.position.map(|position| Cow::Owned(position.value())),
            None => None,
        }
    }
}

/// The subject of an expression.
pub(super) enum EvalContext<'a> {
    /// A run.
    Run(&'a Scope<'a>),
    /// One document.
    Document(&'a Value),
}

/// The tasks that are visible to an expression.
pub trait TaskLookup {
    /// Returns the task with this ID, if it has ended.
    fn task(&self, id: &str) -> Option<TaskView<'_>>;

    /// Returns whether a task has this ID, whether or not it has ended.
    fn has_task(&self, id: &str) -> bool {
        self.task(id).is_some()
    }

    /// Returns the item at an index of [`ForeachItems`], if it has ended.
    fn item(&self, index: usize) -> Option<TaskView<'_>>;
}

/// The items of an ended `foreach` task, in order. There can be many, so views are created on demand.
#[derive(Clone)]
pub struct ForeachItems<'a> {
    /// The lookup of the items.
    pub lookup: &'a dyn TaskLookup,
    /// Their indices in [`TaskLookup::item`].
    pub indices: Range<usize>,
}

impl<'a> ForeachItems<'a> {
    pub(super) fn get(&self, index: usize) -> Option<TaskView<'a>> {
        self.lookup.item(self.indices.clone().nth(index)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = TaskView<'a>> {
        self.indices.clone().filter_map(|index| self.lookup.item(index))
    }
}

/// The part of a task, or of one item of a `foreach` task, that is visible to an expression.
#[derive(Clone)]
pub struct TaskView<'a> {
    /// The status: `succeeded`, `failed`, `skipped`, or `cancelled`.
    pub status: &'static str,
    /// The agent of the last attempt.
    pub agent: Option<&'a str>,
    /// The reason for its failure or skipping.
    pub error: Option<&'a str>,
    /// The output.
    pub output: Option<&'a ToolOutput>,
    /// The items of a `foreach` task.
    pub items: Option<ForeachItems<'a>>,
}
