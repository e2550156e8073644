//! Evaluates `${{ }}` over what is known of a run. Pure.
//! Never reads a clock, a file or a socket, and never changes what it is shown.
//!
//! An expression is a path (`tasks.find-hotels.output.results[0].url`, `inputs.topic`, the name that `foreach`
//! binds) or anything larger that Jinja's expression syntax can say over paths. Paths are found and resolved
//! here, so that ids may hold hyphens, so that what is missing is named, and so that a plain path copies
//! nothing but the value it gives. Only what is larger than a path goes through `minijinja`.

mod evaluator;
mod resolve;
mod scan;
mod template;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, ops::Range};

use serde_json::Value;

use resolve::ResolvedValue;
pub(crate) use resolve::{format_names, hyphenated_key_help, json_type_name};
pub use template::{TemplatePart, split_template};

use crate::model::{Expression, Template, ToolOutput};
use scan::{ExpressionPath, PathSegment, ScannedExpression};

/// What a task's expressions may ask of it: `tasks.ID.FIELD`.
pub const TASK_FIELDS: [&str; 11] =
    ["output", "text", "content", "resources", "status", "agent", "error", "succeeded", "failed", "skipped", "outputs"];

/// What only a `foreach` task has beside [`TASK_FIELDS`].
pub const ITEMS_FIELD: &str = "items";

/// Names with a meaning of their own, which no `foreach` may bind.
pub const RESERVED_NAMES: [&str; 17] = [
    "inputs", "tasks", "and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None",
    "loop", "self",
];

/// All of a document, in an expression about it.
pub const RESOURCE_NAME: &str = "resource";

/// What describes the current item beside its value: `loop.index` and others.
pub const LOOP_NAME: &str = "loop";

/// The current item of a `foreach` task.
#[derive(Debug, Clone, Copy)]
pub struct LoopItem<'a> {
    /// The name that `foreach` binds.
    pub name: &'a str,
    /// The item's value.
    pub value: &'a Value,
    /// Its number, from 0.
    pub index: usize,
    /// How many items there are.
    pub length: usize,
}

impl LoopItem<'_> {
    /// Returns what [`LOOP_NAME`] means, with the members that Jinja's loops have.
    fn loop_value(self) -> Value {
        serde_json::json!({
            "index": self.index + 1,
            "index0": self.index,
            "length": self.length,
            "first": self.index == 0,
            "last": self.index + 1 == self.length,
        })
    }
}

/// What names mean where an expression is evaluated.
pub struct Scope<'a> {
    /// The run's inputs: an object, defaults filled in.
    pub inputs: &'a Value,
    /// The current item of a `foreach` task.
    pub item: Option<LoopItem<'a>>,
    /// The tasks that have ended.
    pub tasks: &'a dyn TaskLookup,
}

/// What an expression is about.
enum EvalContext<'a> {
    /// A run.
    Run(&'a Scope<'a>),
    /// One document.
    Document(&'a Value),
}

/// The tasks that an expression can see.
pub trait TaskLookup {
    /// Returns the task of that id, if it has ended.
    fn task(&self, id: &str) -> Option<TaskView<'_>>;

    /// Returns the item at a place of [`ForeachItems`], if it has ended.
    fn item(&self, index: usize) -> Option<TaskView<'_>>;
}

/// The items of a `foreach` task that has ended, in order. There can be many, so only what is looked at is viewed.
#[derive(Clone)]
pub struct ForeachItems<'a> {
    /// Those that know them.
    pub lookup: &'a dyn TaskLookup,
    /// Their places among all that [`TaskLookup::item`] knows.
    pub indices: Range<usize>,
}

impl<'a> ForeachItems<'a> {
    fn get(&self, index: usize) -> Option<TaskView<'a>> {
        self.lookup.item(self.indices.clone().nth(index)?)
    }

    fn iter(&self) -> impl Iterator<Item = TaskView<'a>> {
        self.indices.clone().filter_map(|place| self.lookup.item(place))
    }
}

/// What an expression can see of a task, or of one item of a `foreach` task.
#[derive(Clone)]
pub struct TaskView<'a> {
    /// `succeeded`, `failed`, `skipped` or `cancelled`.
    pub status: &'static str,
    /// The agent that ran it last.
    pub agent: Option<&'a str>,
    /// Why it did not succeed.
    pub error: Option<&'a str>,
    /// What it returned.
    pub output: Option<&'a ToolOutput>,
    /// For a `foreach` task, its items.
    pub items: Option<ForeachItems<'a>>,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// What is wrong, and where in the expression: lowercase, no full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The bytes of the expression, or of the string that it stands in, that are at fault.
    pub range: Option<Range<usize>>,
}

impl ExpressionError {
    fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        Self { message: message.into(), help: None, range: Some(range) }
    }

    fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Returns the same error in a text in which the expression starts at byte `offset`.
    fn shifted_by(mut self, offset: usize) -> Self {
        self.range = self.range.map(|range| range.start + offset..range.end + offset);
        self
    }
}

/// Something outside of an expression that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference<'e> {
    /// `tasks.ID` and what follows it, as far as it is written literally.
    Task {
        /// The task's id.
        id: Cow<'e, str>,
        /// `output`, then keys and indices.
        path: Vec<Cow<'e, str>>,
    },
    /// `inputs.NAME` and what follows it.
    Input {
        /// The input's name.
        name: Cow<'e, str>,
        /// Keys and indices.
        path: Vec<Cow<'e, str>>,
    },
    /// Any other name: what `foreach` binds, or a mistake.
    Name(&'e str),
}

/// An expression without a mistake that shows without values.
pub(crate) struct CheckedExpression<'e>(ScannedExpression<'e>);

impl<'e> CheckedExpression<'e> {
    /// Returns all that it refers to, in order, each with the bytes of the expression that it stands at.
    pub(crate) fn references(&self) -> impl Iterator<Item = (Reference<'e>, Range<usize>)> {
        self.0.paths.iter().filter_map(|path| Some((path_reference(path)?, path.range.clone())))
    }

    /// Returns whether it takes `inputs` as a whole, so that it may use any of them.
    pub(crate) fn uses_all_inputs(&self) -> bool {
        self.0.paths.iter().any(|path| path.root == "inputs" && path.segments.is_empty())
    }
}

/// Finds every mistake of an expression that shows without values: syntax, and filters, tests and functions that do
/// not exist.
///
/// # Errors
/// The first such mistake.
pub(crate) fn check(expression: &str) -> Result<CheckedExpression<'_>, ExpressionError> {
    let scanned = scan::scan(expression)?;
    if scanned.whole_path().is_none() {
        evaluator::check(&scanned)?;
    }
    Ok(CheckedExpression(scanned))
}

/// Returns the value of an expression.
///
/// # Errors
/// When it is no expression, refers to what is not there, or cannot be computed.
pub fn evaluate(expression: &Expression, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    evaluate_text(&expression.0, &EvalContext::Run(scope))
}

/// Returns whether an expression holds: `false`, `null`, 0 and what is empty do not.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_condition(expression: &Expression, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
    evaluate(expression, scope).map(|value| is_truthy(&value))
}

/// Returns whether an expression about a document holds: where that is an object, its keys are names, and
/// [`RESOURCE_NAME`] is all of it. A key that is not there is null.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_document_condition(expression: &Expression, document: &Value) -> Result<bool, ExpressionError> {
    evaluate_text(&expression.0, &EvalContext::Document(document)).map(|value| is_truthy(&value))
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_none_or(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Returns the template with every `${{ }}` replaced by its value. Values are never looked into for further ones.
///
/// # Errors
/// As [`evaluate`]; the range counts from the start of the string that holds the expression.
pub fn render(template: &Template, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    template::render(&template.0, scope)
}

/// Returns all that an expression refers to, in order. Also finds every mistake that shows without values: syntax,
/// and filters, tests and functions that do not exist.
///
/// # Errors
/// The first such mistake.
pub fn references(expression: &Expression) -> Result<Vec<Reference<'_>>, ExpressionError> {
    Ok(check(&expression.0)?.references().map(|(reference, _)| reference).collect())
}

/// Returns all that the expressions of a template refer to, in order.
///
/// # Errors
/// As [`references`].
pub fn template_references(template: &Template) -> Result<Vec<Reference<'_>>, ExpressionError> {
    let mut found = Vec::new();
    template::collect_references(&template.0, &mut found)?;
    Ok(found)
}

/// Returns whether an expression asks how a task ended, rather than what it returned. Such a condition decides for
/// itself what becomes of its task when a need failed or was skipped.
pub fn has_outcome_reference(expression: &Expression) -> bool {
    const OUTCOME_FIELDS: [&str; 5] = ["status", "error", "succeeded", "failed", "skipped"];
    scan::scan(&expression.0).is_ok_and(|scanned| {
        scanned.paths.iter().any(|path| {
            path.root == "tasks" && path.segments.get(1).is_some_and(|field| OUTCOME_FIELDS.contains(&&*field.text()))
        })
    })
}

fn evaluate_text(text: &str, context: &EvalContext<'_>) -> Result<Value, ExpressionError> {
    resolve_or_evaluate(text, context).map(ResolvedValue::into_value)
}

/// What an expression means: what a path leads to where it is one, else a value that is made.
fn resolve_or_evaluate<'v>(text: &str, context: &EvalContext<'v>) -> Result<ResolvedValue<'v>, ExpressionError> {
    let scanned = scan::scan(text)?;
    match scanned.whole_path() {
        Some(path) => resolve::resolve(path, text, context),
        None => evaluator::evaluate(&scanned, context).map(ResolvedValue::Owned),
    }
}

/// What a path refers to; nothing where it is `inputs` as a whole.
fn path_reference<'e>(path: &ExpressionPath<'e>) -> Option<Reference<'e>> {
    let mut names = path.segments.iter().map(PathSegment::text);
    Some(match path.root {
        "tasks" => Reference::Task { id: names.next()?, path: names.collect() },
        "inputs" => Reference::Input { name: names.next()?, path: names.collect() },
        root => Reference::Name(root),
    })
}

/// Returns the name closest to `wanted`, if one is close enough to be meant: at most a third of it differs.
pub(crate) fn closest_match<'n>(target: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let length = target.chars().count();
    names
        .into_iter()
        .filter_map(|name| {
            let other = name.chars().count();
            let allowed = length.max(other) / 3;
            // The distance is at least the difference in length, which is far cheaper to know.
            let distance = (length.abs_diff(other) <= allowed).then(|| strsim::damerau_levenshtein(target, name))?;
            (distance <= allowed).then_some((distance, name))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}
