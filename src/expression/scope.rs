//! The names in an expression, and the values that they stand for.

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

/// The current item of a `foreach` task.
#[derive(Debug, Clone, Copy)]
pub struct LoopItem<'a> {
    /// The name that `foreach` binds.
    pub name: &'a str,
    /// The value.
    pub value: &'a Value,
    /// The index, from 0.
    pub index: usize,
    /// The number of items.
    pub length: usize,
}

impl LoopItem<'_> {
    /// Returns the value of [`LOOP_NAME`], with the members of Jinja's loops.
    pub(super) fn loop_value(self) -> Value {
        json!({
            "index": self.index + 1,
            "index0": self.index,
            "length": self.length,
            "first": self.index == 0,
            "last": self.index + 1 == self.length,
        })
    }
}

/// The values of names in an expression.
pub struct Scope<'a> {
    /// The inputs of the run: an object with defaults filled in.
    pub inputs: &'a Value,
    /// The current item of a `foreach` task.
    pub item: Option<LoopItem<'a>>,
    /// The ended tasks.
    pub tasks: &'a dyn TaskLookup,
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
