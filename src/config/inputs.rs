//! Resolves a run's inputs from parameters, a file, and the plan's defaults.

use serde_json::{Map, Value};

use super::diagnostics::diagnostic::Diagnostics;
use super::yaml::parser;
use crate::expression::{did_you_mean, json_type_name, list_names};
use crate::model::{InputSpec, InputType, Plan, has_leading_zero};

/// A problem with the inputs of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InputError {
    /// The kind of problem, such as `input::missing`.
    pub code: &'static str,
    /// The description of the problem: lowercase, without a final period.
    pub message: String,
    /// The suggested fix.
    pub help: Option<String>,
}

/// Returns the inputs of a run. `parameters` (`name=value`, as on the command line) take precedence over the values of
/// `file`, and these over the plan's defaults. An optional input without a value is `null`.
///
/// # Errors
/// Returns all inputs that are missing, unknown, or of the wrong type.
pub fn resolve_inputs(plan: &Plan, parameters: &[String], file: Option<&Value>) -> Result<Value, Vec<InputError>> {
    let mut errors = Vec::new();
    let mut assigned = Map::new();
    match file {
        None | Some(Value::Null) => {}
        Some(Value::Object(values)) => {
            for (name, value) in values {
                if let Some(spec) = find_input(plan, name, &mut errors) {
                    check_type(name, value, spec, &mut errors);
                    assigned.insert(name.clone(), value.clone());
                }
            }
        }
        Some(other) => errors.push(InputError {
            code: "input::wrong_type",
            message: format!("the parameters file must be a map from names to values, not {}", json_type_name(other)),
            help: None,
        }),
    }
    for parameter in parameters {
        let Some((name, text)) = parameter.split_once('=') else {
            let message = format!("the parameter `{parameter}` has no `=`");
            let help = Some("write `--param name=value`".to_owned());
            errors.push(InputError { code: "input::syntax", message, help });
            continue;
        };
        if let Some(spec) = find_input(plan, name, &mut errors) {
            match parse_parameter(text, spec.kind) {
                Ok(value) => drop(assigned.insert(name.to_owned(), value)),
                Err(help) => {
                    let message = format!("the input `{name}` must be {}, not `{text}`", type_name(spec.kind));
                    let help = help.or_else(|| spec.description.clone());
                    errors.push(InputError { code: "input::wrong_type", message, help });
                    // Keeps the input from being reported as missing too.
                    assigned.insert(name.to_owned(), Value::Null);
                }
            }
        }
    }
    let mut inputs = Map::new();
    for (name, spec) in &plan.inputs {
        let value = assigned.remove(name).or_else(|| spec.default.clone());
        if value.is_none() && spec.required {
            let message = format!("the input `{name}` is missing");
            let about = spec.description.as_ref().map(|about| format!(": {about}")).unwrap_or_default();
            let help = Some(format!("set it with `--param {name}=…`{about}"));
            errors.push(InputError { code: "input::missing", message, help });
        }
        inputs.insert(name.clone(), value.unwrap_or(Value::Null));
    }
    if errors.is_empty() { Ok(Value::Object(inputs)) } else { Err(errors) }
}

fn find_input<'p>(plan: &'p Plan, name: &str, errors: &mut Vec<InputError>) -> Option<&'p InputSpec> {
    let spec = plan.inputs.get(name);
    if spec.is_none() {
        let names = || plan.inputs.keys().map(String::as_str);
        let help = did_you_mean(name, names())
            .unwrap_or_else(|| list_names(names(), ("the plan has", "the plan has no inputs")));
        let message = format!("the plan has no input `{name}`");
        errors.push(InputError { code: "input::unknown", message, help: Some(help) });
    }
    spec
}

fn check_type(name: &str, value: &Value, spec: &InputSpec, errors: &mut Vec<InputError>) {
    let unset = value.is_null() && !spec.required;
    if !unset && !has_type(value, spec.kind) {
        let actual = match value {
            Value::String(text) if has_leading_zero(text) => format!("the text `{text}`"),
            value => json_type_name(value).to_owned(),
        };
        let message = format!("the input `{name}` must be {}, not {actual}", type_name(spec.kind));
        let help = type_conversion_help(value, spec.kind).or_else(|| spec.description.clone());
        errors.push(InputError { code: "input::wrong_type", message, help });
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

impl From<Vec<InputError>> for Diagnostics {
    fn from(errors: Vec<InputError>) -> Self {
        Self::for_input("the inputs", errors.into_iter().map(|error| (error.code, error.message, error.help)))
    }
}
