//! Finds the static errors and the references of an expression.

use std::borrow::Cow;
use std::ops::Range;

use super::error::{ExpressionError, ExpressionErrorKind};
use super::jinja;
use super::scan::{self, ExpressionPath, PathSegment, ResourceCall, ScannedExpression};
use super::scope::{RUN_OBJECTS, TIME_FUNCTION};
use crate::model::Expression;

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
    /// `inputs.NAME`.
    Input(Cow<'e, str>),
    /// `resource(AGENT, URI)`.
    Resource {
        /// The agent.
        agent: &'e str,
        /// The expression of the URI.
        uri: &'e str,
        /// The offset of `uri` in the expression.
        offset: usize,
    },
    /// A value that describes the run: a field of `run`, `plan`, or `env`, or `now()`.
    Run {
        /// The object, or `now()`.
        object: &'e str,
        /// The literal step after it.
        field: Option<Cow<'e, str>>,
        /// True if a missing value is not an error.
        is_optional: bool,
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

    /// Returns the root and the first literal step of each path, with the range of the path.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&'e str, Option<Cow<'e, str>>, Range<usize>)> {
        let first = |path: &ExpressionPath<'e>| path.segments.first().map(PathSegment::text);
        self.0.paths.iter().map(move |path| (path.root, first(path), path.range.clone()))
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
    for resource in scanned.paths.iter().filter_map(|path| path.resource.as_deref()) {
        check_uri(resource).map_err(|error| error.shifted_by(resource.uri_offset))?;
    }
    if scanned.single_path().is_none() {
        jinja::check(&scanned)?;
    }
    Ok(CheckedExpression(scanned))
}

/// Checks the expression of a URI. It cannot read another resource, so that the nesting is bounded.
fn check_uri(resource: &ResourceCall<'_>) -> Result<(), ExpressionError> {
    let scanned = scan::scan(resource.uri)?;
    if let Some(nested) = scanned.paths.iter().find(|path| path.resource.is_some()) {
        let message = "the URI of a resource cannot contain `resource()`";
        let error = ExpressionError::new(ExpressionErrorKind::InvalidSyntax, message, nested.range.clone());
        return Err(error.with_help("read the other resource in a task with `read`"));
    }
    if scanned.single_path().is_none() { jinja::check(&scanned) } else { Ok(()) }
}

/// Returns all references of an expression in order. Also finds static errors: invalid syntax, and unknown filters,
/// tests, and functions.
///
/// # Errors
/// Returns the first such error.
pub fn references(expression: &Expression) -> Result<Vec<Reference<'_>>, ExpressionError> {
    Ok(check(&expression.0)?.references().map(|(reference, _)| reference).collect())
}

/// Returns whether an expression uses an input. An invalid expression may use any input.
pub(crate) fn uses_input(expression: &str, name: &str) -> bool {
    let Ok(checked) = check(expression) else { return true };
    let is_use = |reference: Reference<'_>| match reference {
        Reference::Input(used) => used == name,
        Reference::Resource { uri, .. } => uses_input(uri, name),
        Reference::Task { .. } | Reference::Run { .. } | Reference::Name(_) => false,
    };
    checked.uses_all_inputs() || checked.references().any(|(reference, _)| is_use(reference))
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

/// Returns the reference of a path; `None` for `inputs` as a whole.
fn path_reference<'e>(path: &ExpressionPath<'e>) -> Option<Reference<'e>> {
    if let Some(ResourceCall { agent, uri, uri_offset }) = path.resource.as_deref() {
        return Some(Reference::Resource { agent, uri, offset: *uri_offset });
    }
    let mut names = path.segments.iter().map(PathSegment::text);
    Some(match path.root {
        "tasks" => Reference::Task { id: names.next()?, path: names.collect() },
        "inputs" => Reference::Input(names.next()?),
        object if object == TIME_FUNCTION || RUN_OBJECTS.contains(&object) => {
            Reference::Run { object, field: names.next(), is_optional: path.is_optional }
        }
        root => Reference::Name(root),
    })
}
