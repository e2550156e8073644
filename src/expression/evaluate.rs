//! Evaluates expressions: a plain path by resolving it, any other expression with `minijinja`.

use serde_json::Value;

use super::error::ExpressionError;
use super::resolve::{self, ResolvedValue};
use super::scope::{EvalContext, Scope};
use super::{jinja, scan};
use crate::model::Expression;

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

/// Returns whether an expression about a document is truthy. The keys of an object are names, and [`RESOURCE_NAME`](super::RESOURCE_NAME) is
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

fn evaluate_text(text: &str, context: &EvalContext<'_>) -> Result<Value, ExpressionError> {
    resolve_or_evaluate(text, context).map(ResolvedValue::into_value)
}

/// Returns the value of an expression: a borrowed value for a path, otherwise a computed one.
pub(super) fn resolve_or_evaluate<'v>(
    text: &str,
    context: &EvalContext<'v>,
) -> Result<ResolvedValue<'v>, ExpressionError> {
    let scanned = scan::scan(text)?;
    match scanned.single_path() {
        Some(path) => resolve::resolve(path, text, context),
        None => jinja::evaluate(&scanned, context).map(ResolvedValue::Owned),
    }
}
