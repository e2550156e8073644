//! Checks and evaluates an expression, with a placeholder for each path.

use std::error::Error as _;
use std::ops::Range;
use std::sync::Arc;

use minijinja::value::{Object, Serde, Value as Computed};
use minijinja::{Error, ErrorKind};
use serde_json::Value;

use super::budget::{LimitExceeded, PathSteps, invalid_operation};
use super::builtins::{self, ENVIRONMENT};
use super::json::to_json;
use super::operators::Bounded;
use crate::expression::error::{ExpressionError, ExpressionErrorKind};
use crate::expression::names::did_you_mean;
use crate::expression::resolve::{self, ResolvedValue};
use crate::expression::scan::{Invocation, InvocationKind, ScannedExpression, USE_A_TOOL};
use crate::expression::scope::EvalContext;
use crate::model::SavedFile;

/// Finds errors that do not depend on values.
pub(in crate::expression) fn check(scanned: &ScannedExpression<'_>) -> Result<(), ExpressionError> {
    PreparedExpression::new(scanned).compile().map(drop)
}

fn check_call(call: &Invocation<'_>) -> Result<(), ExpressionError> {
    let known = builtins::names(call.kind);
    if known.clone().any(|name| name == call.name) {
        return Ok(());
    }
    let kind = match call.kind {
        InvocationKind::Filter => "filter",
        InvocationKind::Test => "test",
        InvocationKind::Function => "function",
    };
    let message = format!("unknown {kind} `{}`", call.name);
    let known = known.chain((call.kind == InvocationKind::Function).then_some("now"));
    let help = did_you_mean(call.name, known.clone())
        .unwrap_or_else(|| format!("known {kind}s: {}", known.collect::<Vec<_>>().join(", ")));
    Err(ExpressionError::new(ExpressionErrorKind::UnknownFunction, message, call.range.clone()).with_help(help))
}

/// Evaluates an expression.
pub(in crate::expression) fn evaluate(
    scanned: &ScannedExpression<'_>,
    context: &EvalContext<'_>,
) -> Result<Value, ExpressionError> {
    let mut prepared = PreparedExpression::new(scanned);
    let expression = prepared.compile()?;
    // All paths are resolved first, but a missing value is an error only when the evaluation uses it.
    let (mut resolved, mut steps) = (Vec::with_capacity(scanned.paths.len()), PathSteps::default());
    for path in &scanned.paths {
        let value = resolve::resolve(path, scanned.text, context).map(ResolvedValue::into_value);
        if let Ok(value) = &value {
            steps.add(value).map_err(|error| {
                let detail = error.detail().unwrap_or_default();
                ExpressionError::new(ExpressionErrorKind::LimitExceeded, detail, path.range.clone())
                    .with_help(USE_A_TOOL)
            })?;
        }
        resolved.push(value);
    }
    let names = resolved
        .iter()
        .zip(&scanned.paths)
        .enumerate()
        .map(|(index, (resolved, path))| match resolved {
            Ok(value) => Computed::from(Serde(value)),
            Err(_) if path.is_optional => Computed::UNDEFINED,
            Err(_) => Computed::from(invalid_operation(format!("{MISSING_PATH_PREFIX}{index}"))),
        })
        .collect();
    let computed = expression.eval(Computed::from_object(PathValues(names))).and_then(|value| to_json(&value));
    let computed = computed.map_err(|error| {
        let missing = error.detail().and_then(|detail| detail.strip_prefix(MISSING_PATH_PREFIX)?.parse().ok());
        let missing = missing.and_then(|index: usize| resolved.get(index)?.as_ref().err().cloned());
        missing.unwrap_or_else(|| prepared.error(&error))
    })?;
    check_large_texts(scanned, &resolved, &computed)?;
    Ok(computed)
}

/// Checks that an expression only passes on a large text, which is in a file.
fn check_large_texts(
    scanned: &ScannedExpression<'_>,
    resolved: &[Result<Value, ExpressionError>],
    computed: &Value,
) -> Result<(), ExpressionError> {
    let values = || resolved.iter().flatten();
    let large = resolved.iter().zip(&scanned.paths).find_map(|(value, path)| {
        let file = SavedFile::find_text(value.as_ref().ok()?)?;
        Some((file, path))
    });
    let Some((file, path)) = large else { return Ok(()) };
    let is_passed_on =
        !matches!(computed, Value::Bool(_) | Value::Number(_)) && values().any(|value| value == computed);
    if is_passed_on {
        return Ok(());
    }
    let text = &scanned.text[path.range.clone()];
    let message = format!("`{text}` is only in a file, which has {} bytes, so expressions cannot read it", file.bytes);
    let help = "pass it on as it is, such as `stdin` of `shell`, `body` of `http`, or an argument in `with`; \
                `max_value_bytes` in the agents file limits what expressions can read";
    Err(ExpressionError::new(ExpressionErrorKind::LimitExceeded, message, path.range.clone()).with_help(help))
}

/// The prefix of the error for an unresolved path; its index follows.
const MISSING_PATH_PREFIX: &str = "missing path ";

/// The values of the paths, by the names that [`PreparedExpression`] assigns.
#[derive(Debug)]
struct PathValues(Vec<Computed>);

impl Object for PathValues {
    fn get_value(self: &Arc<Self>, key: &Computed) -> Option<Computed> {
        let index: usize = key.as_str()?.strip_prefix("path_")?.parse().ok()?;
        self.0.get(index).cloned()
    }
}

/// An expression with a placeholder for each path.
struct PreparedExpression<'s, 'e> {
    scanned: &'s ScannedExpression<'e>,
    bounded: Bounded,
    /// The ranges of the placeholders.
    placeholders: Vec<Range<usize>>,
}

impl<'s, 'e> PreparedExpression<'s, 'e> {
    fn new(scanned: &'s ScannedExpression<'e>) -> Self {
        let mut text = String::with_capacity(scanned.text.len());
        let mut names = Vec::with_capacity(scanned.paths.len());
        let mut done = 0;
        for (index, path) in scanned.paths.iter().enumerate() {
            text.push_str(&scanned.text[done..path.range.start]);
            let start = text.len();
            text.push_str(&format!("path_{index}"));
            names.push(start..text.len());
            done = path.range.end;
        }
        text.push_str(&scanned.text[done..]);
        Self { scanned, bounded: Bounded::without_calls(text), placeholders: names }
    }

    /// Compiles the expression, with its operators bounded.
    fn compile(&mut self) -> Result<minijinja::Expression<'static, 'static>, ExpressionError> {
        self.bounded = Bounded::new(&self.bounded.text).map_err(|error| self.error(&error))?;
        let compiled = ENVIRONMENT.compile_expression_owned(self.bounded.text.clone());
        let compiled = compiled.map_err(|error| self.error(&error))?;
        self.scanned.invocations.iter().try_for_each(check_call)?;
        Ok(compiled)
    }

    /// Converts an offset in the text with placeholders to one in the original expression.
    fn original_offset(&self, at: usize) -> usize {
        match self.placeholders.iter().rposition(|name| name.start <= at) {
            None => at,
            Some(index) if at < self.placeholders[index].end => self.scanned.paths[index].range.start,
            Some(index) => self.scanned.paths[index].range.end + (at - self.placeholders[index].end),
        }
        .min(self.scanned.text.len())
    }

    fn error(&self, error: &Error) -> ExpressionError {
        let full_range = 0..self.scanned.text.len();
        let bounded = |range: Range<usize>| self.bounded.original(range.start)..self.bounded.original(range.end);
        let range = match error.range().map(bounded) {
            Some(range) if range.start < range.end => {
                let last = self.original_offset(range.end - 1) + 1;
                let named = self.placeholders.iter().position(|name| name.end == range.end);
                self.original_offset(range.start)..named.map_or(last, |index| self.scanned.paths[index].range.end)
            }
            _ => full_range.clone(),
        };
        // A range within a character would be invalid.
        let range = if self.scanned.text.get(range.clone()).is_some() { range } else { full_range };
        let detail = error.detail().unwrap_or_default();
        match error.kind() {
            ErrorKind::UndefinedError => {
                let message = "a part of the expression has no value";
                ExpressionError::new(ExpressionErrorKind::Undefined, message, range)
                    .with_help("`| default(…)` sets a default value")
            }
            ErrorKind::SyntaxError => {
                let message = format!("invalid expression: {detail}");
                ExpressionError::new(ExpressionErrorKind::InvalidSyntax, message, range)
                    .with_help_if_known(operator_help(&self.bounded.text))
            }
            kind => {
                let is_limit = error.source().is_some_and(|source| source.is::<LimitExceeded>());
                let message = if detail.is_empty() { kind.to_string() } else { detail.to_owned() };
                let kind = match kind {
                    _ if is_limit => ExpressionErrorKind::LimitExceeded,
                    ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => {
                        ExpressionErrorKind::UnknownFunction
                    }
                    _ => ExpressionErrorKind::InvalidOperation,
                };
                ExpressionError::new(kind, message, range)
            }
        }
    }
}

/// Returns help for operators of other languages in an expression.
fn operator_help(text: &str) -> Option<&'static str> {
    let mut operators = outside_quotes(text);
    for comparison in ["==", "!=", "<=", ">="] {
        operators = operators.replace(comparison, " ");
    }
    [
        ("&&", "write `and` instead of `&&`"),
        ("||", "write `or` instead of `||`"),
        ("!", "write `not` instead of `!`"),
        ("=", "write `==` to compare"),
    ]
    .into_iter()
    .find(|(sign, _)| operators.contains(sign))
    .map(|(_, help)| help)
}

/// Returns the text without its quoted strings.
fn outside_quotes(text: &str) -> String {
    let mut outside = String::with_capacity(text.len());
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None => outside.push(c),
            Some(_) if c == '\\' => drop(chars.next()),
            Some(open) if c == open => quote = None,
            Some(_) => {}
        }
    }
    outside
}
