//! Resolves a run's inputs from parameters, a file, and the plan's defaults.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::diagnostics::diagnostic::Diagnostics;
use super::diagnostics::sink::DiagnosticSink;
use super::diagnostics::source::SourceFile;
use super::yaml::parser;
use crate::expression::json_type_name;
use crate::model::{InputSpec, InputType, Plan, has_leading_zero};

/// Returns the inputs of a run. `parameters` (`name=value`, as on the command line) take precedence over the values of
/// `file`, and these over the plan's defaults. An optional input without a value is `null`.
///
/// # Errors
/// Returns all inputs that are missing, unknown, or of the wrong type.
pub fn resolve_inputs(plan: &Plan, parameters: &[String], file: Option<&Value>) -> Result<Value, Diagnostics> {
    let mut sink = DiagnosticSink::new("input", Arc::new(SourceFile::new("the inputs", String::new())));
    let mut assigned = Map::new();
    match file {
        None | Some(Value::Null) => {}
        Some(Value::Object(values)) => {
            for (name, value) in values {
                if let Some(spec) = find_input(plan, name, &mut sink) {
                    check_type(name, value, spec, &mut sink);
                    assigned.insert(name.clone(), value.clone());
                }
            }
        }
        Some(other) => {
            let kind = json_type_name(other);
            let message = format!("the parameters file must be a map from names to values, not {kind}");
            sink.file_error("wrong_type", message);
        }
    }
    for parameter in parameters {
        let Some((name, text)) = parameter.split_once('=') else {
            let error = sink.file_error("syntax", format!("the parameter `{parameter}` has no `=`"));
            error.help("write `--param name=value`");
            continue;
        };
        let Some(spec) = find_input(plan, name, &mut sink) else { continue };
        // Null keeps an invalid input from being reported as missing too.
        let value = parse_parameter(text, spec.kind).unwrap_or_else(|help| {
            let message = format!("the input `{name}` must be {}, not `{text}`", type_name(spec.kind));
            sink.file_error("wrong_type", message).help_if_known(help.or_else(|| spec.description.clone()));
            Value::Null
        });
        assigned.insert(name.to_owned(), value);
    }
    let mut inputs = Map::new();
    for (name, spec) in &plan.inputs {
        let value = assigned.remove(name).or_else(|| spec.default.clone());
        if value.is_none() && spec.required {
            let about = spec.description.as_ref().map(|about| format!(": {about}")).unwrap_or_default();
            let error = sink.file_error("missing", format!("the input `{name}` is missing"));
            error.help(format!("set it with `--param {name}=…`{about}"));
        }
        inputs.insert(name.clone(), value.unwrap_or(Value::Null));
    }
    if sink.has_errors() { Err(sink.finish()) } else { Ok(Value::Object(inputs)) }
}

fn find_input<'p>(plan: &'p Plan, name: &str, sink: &mut DiagnosticSink) -> Option<&'p InputSpec> {
    let spec = plan.inputs.get(name);
    if spec.is_none() {
        let known = plan.inputs.keys().map(String::as_str);
        let help = sink.suggest(name, known, ("the plan has", "the plan has no inputs"));
        sink.file_error("unknown", format!("the plan has no input `{name}`")).help(help);
    }
    spec
}

fn check_type(name: &str, value: &Value, spec: &InputSpec, sink: &mut DiagnosticSink) {
    let is_unset = value.is_null() && !spec.required;
    if !is_unset && !has_type(value, spec.kind) {
        let actual = match value {
            Value::String(text) if has_leading_zero(text) => format!("the text `{text}`"),
            value => json_type_name(value).to_owned(),
        };
        let message = format!("the input `{name}` must be {}, not {actual}", type_name(spec.kind));
        let help = type_conversion_help(value, spec.kind).or_else(|| spec.description.clone());
        sink.file_error("wrong_type", message).help_if_known(help);
    }
}

/// Parses the value of a parameter. Strings need no quotes; all other types are parsed like a file of parameters.
///
/// # Errors
/// Returns a suggestion, if one is known.
fn parse_parameter(text: &str, kind: InputType) -> Result<Value, Option<String>> {
    if kind == InputType::String {
        return Ok(text.into());
    }
    let value = parser::read_data("--param", text)
        .map_err(|mistakes| mistakes.list().first().map(|mistake| mistake.message.clone()))?;
    if has_type(&value, kind) { Ok(value) } else { Err(type_conversion_help(&value, kind)) }
}

/// Returns how to write a value of the wanted type, if the fix is obvious.
pub(super) fn type_conversion_help(value: &Value, expected: InputType) -> Option<String> {
    match (value, expected) {
        (Value::String(text), InputType::Integer | InputType::Number) if has_leading_zero(text) => {
            Some("a number with a leading zero is text; remove the zero".to_owned())
        }
        (Value::Number(_) | Value::Bool(_), InputType::String) => Some("put it in quotes".to_owned()),
        _ => None,
    }
}

/// Returns whether a value has an input's type.
pub(super) fn has_type(value: &Value, kind: InputType) -> bool {
    match kind {
        InputType::String => value.is_string(),
        InputType::Number => value.is_number(),
        InputType::Integer => value.is_i64() || value.is_u64(),
        InputType::Boolean => value.is_boolean(),
        InputType::Array => value.is_array(),
        InputType::Object => value.is_object(),
    }
}

/// Returns the readable name of a type with its article.
pub(super) fn type_name(kind: InputType) -> &'static str {
    match kind {
        InputType::String => "text",
        InputType::Number => "a number",
        InputType::Integer => "an integer",
        InputType::Boolean => "`true` or `false`",
        InputType::Array => "a list",
        InputType::Object => "a map",
    }
}
