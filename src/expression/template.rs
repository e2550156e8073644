//! Finds the `${{ }}` of a text and replaces them with values. Values are not searched again.

use std::ops::Range;

use serde_json::Value;
use smallvec::SmallVec;

use super::check::{Reference, check, uses_input};
use super::error::{ExpressionError, ExpressionErrorKind};
use super::evaluate::resolve_or_evaluate;
use super::resolve::ResolvedValue;
use super::scope::{EvalContext, Scope};
use crate::model::Template;

const EXPRESSION_START: &str = "${{";
const EXPRESSION_END: &str = "}}";
/// The maximum size of a rendered text, in bytes.
const MAX_TEXT: usize = 64 * 1024 * 1024;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart<'t> {
    /// Literal text.
    Text(&'t str),
    /// The text between `${{` and `}}`, and its range.
    Expression(&'t str, Range<usize>),
}

/// Splits a text into parts. `$${{` is a literal `${{`.
///
/// # Errors
/// Returns an error if a `${{` is not closed.
pub fn split_template(text: &str) -> Result<SmallVec<[TemplatePart<'_>; 3]>, ExpressionError> {
    let mut parts = SmallVec::new();
    let plain = |range: Range<usize>| Some(&text[range]).filter(|text| !text.is_empty()).map(TemplatePart::Text);
    let mut done = 0;
    while let Some(open) = find_expression_start(text, done) {
        let inside = open + EXPRESSION_START.len();
        if text[done..open].ends_with('$') {
            parts.extend(plain(done..open - 1));
            parts.push(TemplatePart::Text(EXPRESSION_START));
            done = inside;
            continue;
        }
        parts.extend(plain(done..open));
        let Some(length) = expression_length(&text[inside..]) else {
            let error = ExpressionError::new(ExpressionErrorKind::InvalidSyntax, "`${{` is not closed", open..inside);
            return Err(error.with_help("close it with `}}`; a literal `${{` is written `$${{`"));
        };
        parts.push(TemplatePart::Expression(&text[inside..inside + length], inside..inside + length));
        done = inside + length + EXPRESSION_END.len();
    }
    parts.extend(plain(done..text.len()));
    Ok(parts)
}

/// Returns the position of the next `${{`, from byte `from` on.
fn find_expression_start(text: &str, from: usize) -> Option<usize> {
    text[from..].match_indices('$').map(|(at, _)| from + at).find(|&at| text[at..].starts_with(EXPRESSION_START))
}

/// Returns the distance to the `}}` that ends an expression, skipping quotes and nested braces.
fn expression_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        at += bytes.get(at..)?.iter().position(|byte| matches!(byte, b'\'' | b'"' | b'{' | b'}'))?;
        match bytes[at] {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            b'}' => {}
            quote => at = find_closing_quote(bytes, at + 1, quote)?,
        }
        at += 1;
    }
}

/// Returns the position of the quote that closes a string starting at byte `at`.
fn find_closing_quote(bytes: &[u8], mut at: usize, quote: u8) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
}

/// Returns the template with every `${{ }}` replaced by its value. Values are not rendered again.
///
/// # Errors
/// As [`evaluate`](super::evaluate()); the range is relative to the string that contains the expression.
pub fn render(template: &Template, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    render_value(&template.0, scope)
}

/// Returns the value with every `${{ }}` of its strings replaced. The recursion is bounded by the depth limit of files.
fn render_value(template: &Value, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    Ok(match template {
        Value::String(text) => render_text(text, scope)?,
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| render_value(item, scope)).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| Ok((key.clone(), render_value(value, scope)?)))
                .collect::<Result<_, _>>()?,
        ),
        other => other.clone(),
    })
}

fn render_text(text: &str, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    if find_expression_start(text, 0).is_none() {
        return Ok(Value::String(text.to_owned()));
    }
    let parts = split_template(text)?;
    let context = EvalContext::Run(scope);
    let resolve = |expression, range: &Range<usize>| {
        resolve_or_evaluate(expression, &context).map_err(|error| error.shifted_by(range.start))
    };
    if let [TemplatePart::Expression(expression, range)] = parts.as_slice() {
        return resolve(expression, range).map(ResolvedValue::into_value);
    }
    let mut rendered = String::with_capacity(text.len());
    for part in &parts {
        match part {
            TemplatePart::Text(text) => rendered.push_str(text),
            TemplatePart::Expression(expression, range) => resolve(expression, range)?.write_to(&mut rendered),
        }
        if rendered.len() > MAX_TEXT {
            let message = format!("the text with its values is larger than {MAX_TEXT} bytes");
            let error = ExpressionError::new(ExpressionErrorKind::LimitExceeded, message, 0..text.len());
            return Err(error.with_help("pass each value as a separate argument"));
        }
    }
    Ok(Value::String(rendered))
}

/// Returns all references of a template's expressions, in order.
///
/// # Errors
/// As [`references`](super::references()).
pub fn template_references(template: &Template) -> Result<Vec<Reference<'_>>, ExpressionError> {
    let mut references = Vec::new();
    collect_references(&template.0, &mut references)?;
    Ok(references)
}

/// Returns whether an expression of a template uses an input. An invalid template may use any input.
pub(crate) fn template_uses_input(template: &Template, name: &str) -> bool {
    fn uses(value: &Value, name: &str) -> bool {
        match value {
            Value::String(text) => split_template(text).map_or(true, |parts| {
                parts.iter().any(|part| match part {
                    TemplatePart::Expression(expression, _) => uses_input(expression, name),
                    TemplatePart::Text(_) => false,
                })
            }),
            Value::Array(items) => items.iter().any(|item| uses(item, name)),
            Value::Object(fields) => fields.values().any(|field| uses(field, name)),
            _ => false,
        }
    }
    uses(&template.0, name)
}

/// Adds the references of the expressions in `template`.
fn collect_references<'t>(template: &'t Value, references: &mut Vec<Reference<'t>>) -> Result<(), ExpressionError> {
    match template {
        Value::String(text) => {
            for part in split_template(text)? {
                if let TemplatePart::Expression(expression, range) = part {
                    let checked = check(expression).map_err(|error| error.shifted_by(range.start))?;
                    references.extend(checked.references().map(|(reference, _)| reference));
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| collect_references(item, references)),
        Value::Object(fields) => fields.values().try_for_each(|value| collect_references(value, references)),
        _ => Ok(()),
    }
}
