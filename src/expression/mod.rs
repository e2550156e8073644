//! Evaluates `${{ }}` over the state of a run. Pure: no clock, no IO, and no change of its inputs.
//!
//! An expression is a path (`tasks.find-hotels.output.results[0].url`, `inputs.topic`, the name that `foreach` binds)
//! or any other expression in Jinja's syntax over paths. Paths are found and resolved here, so that IDs may contain
//! hyphens, errors name the missing part, and a plain path copies only its value. Only expressions that are more than a
//! path use `minijinja`.

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

/// The fields of a task in expressions: `tasks.ID.FIELD`.
pub const TASK_FIELDS: [&str; 11] =
    ["output", "text", "content", "resources", "status", "agent", "error", "succeeded", "failed", "skipped", "outputs"];

/// The additional field of a `foreach` task, besides [`TASK_FIELDS`].
pub const ITEMS_FIELD: &str = "items";

/// Reserved names, which `foreach` cannot bind.
pub const RESERVED_NAMES: [&str; 17] = [
    "inputs", "tasks", "and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None",
    "loop", "self",
];

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

/// The values of names in an expression.
pub struct Scope<'a> {
    /// The inputs of the run: an object with defaults filled in.
    pub inputs: &'a Value,
    /// The current item of a `foreach` task.
    pub item: Option<LoopItem<'a>>,
    /// The ended tasks.
    pub tasks: &'a dyn TaskLookup,
}

/// The subject of an expression.
enum EvalContext<'a> {
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
    fn get(&self, index: usize) -> Option<TaskView<'a>> {
        self.lookup.item(self.indices.clone().nth(index)?)
    }

    fn iter(&self) -> impl Iterator<Item = TaskView<'a>> {
        self.indices.clone().filter_map(|place| self.lookup.item(place))
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

/// The reason why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// The kind of problem.
    pub kind: ExpressionErrorKind,
    /// The problem and its place in the expression: lowercase, no final period.
    pub message: String,
    /// A suggested fix.
    pub help: Option<String>,
    /// The range of the problem, in bytes of the expression or of the string that contains it.
    pub range: Option<Range<usize>>,
}

/// The kind of an [`ExpressionError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpressionErrorKind {
    /// The text is not an expression or a template.
    InvalidSyntax,
    /// A filter, test, or function does not exist.
    UnknownFunction,
    /// A name is not bound.
    UnknownName,
    /// The plan does not have the input.
    UnknownInput,
    /// The task does not exist, or has not ended.
    UnknownTask,
    /// A task, an object, or a value without members does not have the key.
    UnknownKey,
    /// A list does not have the index.
    IndexOutOfRange,
    /// The task has no output.
    NoOutput,
    /// A part of the expression has no value.
    Undefined,
    /// An operation does not support its operands, or its result is not JSON.
    InvalidOperation,
    /// The expression or its value exceeds a limit.
    LimitExceeded,
}

impl ExpressionErrorKind {
    /// Returns the stable code of the kind.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidSyntax => "expression::invalid_syntax",
            Self::UnknownFunction => "expression::unknown_function",
            Self::UnknownName => "expression::unknown_name",
            Self::UnknownInput => "expression::unknown_input",
            Self::UnknownTask => "expression::unknown_task",
            Self::UnknownKey => "expression::unknown_key",
            Self::IndexOutOfRange => "expression::index_out_of_range",
            Self::NoOutput => "expression::no_output",
            Self::Undefined => "expression::undefined",
            Self::InvalidOperation => "expression::invalid_operation",
            Self::LimitExceeded => "expression::limit_exceeded",
        }
    }
}

impl ExpressionError {
    fn new(kind: ExpressionErrorKind, message: impl Into<String>, range: Range<usize>) -> Self {
        Self { kind, message: message.into(), help: None, range: Some(range) }
    }

    fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Returns the same error for a text that contains the expression at byte `offset`.
    fn shifted_by(mut self, offset: usize) -> Self {
        self.range = self.range.map(|range| range.start + offset..range.end + offset);
        self
    }
}

/// A reference of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference<'e> {
    /// `tasks.ID` and the literal steps after it.
    Task {
        /// The ID of the task.
        id: Cow<'e, str>,
        /// `output`, followed by keys and indices.
        path: Vec<Cow<'e, str>>,
    },
    /// `inputs.NAME` and the steps after it.
    Input {
        /// The name of the input.
        name: Cow<'e, str>,
        /// Keys and indices.
        path: Vec<Cow<'e, str>>,
    },
    /// Any other name: bound by `foreach`, or unknown.
    Name(&'e str),
}

/// An expression without static errors.
pub(crate) struct CheckedExpression<'e>(ScannedExpression<'e>);

impl<'e> CheckedExpression<'e> {
    /// Returns all references in order, each with its range in the expression.
    pub(crate) fn references(&self) -> impl Iterator<Item = (Reference<'e>, Range<usize>)> {
        self.0.paths.iter().filter_map(|path| Some((path_reference(path)?, path.range.clone())))
    }

    /// Returns whether it uses `inputs` as a whole, and therefore possibly all inputs.
    pub(crate) fn uses_all_inputs(&self) -> bool {
        self.0.paths.iter().any(|path| path.root == "inputs" && path.segments.is_empty())
    }
}

/// Checks an expression for static errors: invalid syntax, and unknown filters, tests, and functions.
///
/// # Errors
/// Returns the first such error.
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
/// Returns an error if the expression is invalid, refers to a missing value, or cannot be evaluated.
pub fn evaluate(expression: &Expression, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    evaluate_text(&expression.0, &EvalContext::Run(scope))
}

/// Returns whether an expression is truthy: anything except `false`, `null`, 0, and empty values.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_condition(expression: &Expression, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
    evaluate(expression, scope).map(|value| is_truthy(&value))
}

/// Returns whether an expression about a document is truthy. The keys of an object are names, and [`RESOURCE_NAME`] is
/// the whole document. A missing key is null.
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

/// Returns the template with every `${{ }}` replaced by its value. Values are not rendered again.
///
/// # Errors
/// As [`evaluate`]; the range is relative to the string that contains the expression.
pub fn render(template: &Template, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    template::render(&template.0, scope)
}

/// Returns all references of an expression in order. Also finds static errors: invalid syntax, and unknown filters,
/// tests, and functions.
///
/// # Errors
/// Returns the first such error.
pub fn references(expression: &Expression) -> Result<Vec<Reference<'_>>, ExpressionError> {
    Ok(check(&expression.0)?.references().map(|(reference, _)| reference).collect())
}

/// Returns all references of a template's expressions, in order.
///
/// # Errors
/// As [`references`].
pub fn template_references(template: &Template) -> Result<Vec<Reference<'_>>, ExpressionError> {
    let mut found = Vec::new();
    template::collect_references(&template.0, &mut found)?;
    Ok(found)
}

/// Returns whether an expression refers to the outcome of a task, rather than its output. Such a condition itself
/// decides what happens after a dependency failed or was skipped.
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

/// Returns the value of an expression: a borrowed value for a path, otherwise a computed one.
fn resolve_or_evaluate<'v>(text: &str, context: &EvalContext<'v>) -> Result<ResolvedValue<'v>, ExpressionError> {
    let scanned = scan::scan(text)?;
    match scanned.whole_path() {
        Some(path) => resolve::resolve(path, text, context),
        None => evaluator::evaluate(&scanned, context).map(ResolvedValue::Owned),
    }
}

/// Returns the reference of a path; `None` for `inputs` as a whole.
fn path_reference<'e>(path: &ExpressionPath<'e>) -> Option<Reference<'e>> {
    let mut names = path.segments.iter().map(PathSegment::text);
    Some(match path.root {
        "tasks" => Reference::Task { id: names.next()?, path: names.collect() },
        "inputs" => Reference::Input { name: names.next()?, path: names.collect() },
        root => Reference::Name(root),
    })
}

/// Returns the name closest to `target`, if at most a third of it differs.
pub(crate) fn closest_match<'n>(target: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let length = target.chars().count();
    names
        .into_iter()
        .filter_map(|name| {
            let other = name.chars().count();
            let allowed = length.max(other) / 3;
            // The difference in length is a lower bound of the distance, and far cheaper.
            let distance = (length.abs_diff(other) <= allowed).then(|| strsim::damerau_levenshtein(target, name))?;
            (distance <= allowed).then_some((distance, name))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}
