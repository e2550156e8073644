//! Resolves a run's inputs from parameters, a file, the environment, and the plan's defaults.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Number, Value, json};

use super::agents::environment::{Environment, ProcessEnvironment};
use super::diagnostics::diagnostic::Diagnostics;
use super::diagnostics::sink::DiagnosticSink;
use super::diagnostics::source::SourceFile;
use super::yaml::{parser, read};
use crate::expression::json_type_name;
use crate::json_schema::{CompiledSchema, FormatValidation, SchemaCheckError, SchemaLimits};
use crate::model::text::truncate_chars;
use crate::model::{InputSpec, InputType, JsonObject, MASKED_SECRET, Plan, has_leading_zero, value_as_text};

/// The minimum length of a secret, in bytes. Shorter texts would be masked within ordinary words.
const MIN_SECRET_BYTES: usize = 6;
/// The maximum length of a value in a message, in characters.
const MAX_SHOWN_CHARS: usize = 60;

/// The sources of a run's inputs, in addition to the plan's defaults.
#[derive(Default, Clone, Copy)]
pub struct InputSources<'a> {
    /// The parameters, as `name=value`. They take precedence over all other sources.
    pub parameters: &'a [String],
    /// The values of a parameters file, or those that a person typed.
    pub given: Option<&'a Value>,
    /// The environment, for secrets with `from_env`; that of this process if absent.
    pub environment: Option<&'a dyn Environment>,
    /// The inputs of an earlier run. Files are not read again.
    pub earlier: Option<&'a JsonObject>,
}

impl InputSources<'_> {
    /// Returns whether an input needs a value: an optional secret that an earlier run had, too.
    fn requires(&self, name: &str, spec: &InputSpec) -> bool {
        let was_secret =
            || self.earlier.and_then(|earlier| earlier.get(name)).is_some_and(|value| value == MASKED_SECRET);
        spec.required || was_secret()
    }
}

/// Returns the inputs of a run. `parameters` (`name=value`, as on the command line) take precedence over the values of
/// `file`, and these over the plan's defaults. An optional input without a value is `null`.
///
/// # Errors
/// Returns all inputs that are missing, unknown, or invalid.
pub fn resolve_inputs(plan: &Plan, parameters: &[String], file: Option<&Value>) -> Result<Value, Diagnostics> {
    resolve_inputs_from(plan, &InputSources { parameters, given: file, ..InputSources::default() })
}

/// Returns the inputs of a run from several sources. A file is its text, and secrets have their values.
///
/// # Errors
/// Returns all inputs that are missing, unknown, or invalid.
pub fn resolve_inputs_from(plan: &Plan, sources: &InputSources<'_>) -> Result<Value, Diagnostics> {
    let mut resolver = InputResolver::new(plan, sources);
    let mut assigned = resolver.assigned_values();
    let sink = &mut resolver.sink;
    let mut inputs = Map::new();
    for (name, spec) in &plan.inputs {
        let value = match assigned.shift_remove(name) {
            Some(value) => Some(value),
            None => match spec.default.clone() {
                Some(path) if spec.kind == InputType::File => Some(checked(name, path, spec, sink)),
                default => default,
            },
        };
        if value.is_none() && sources.requires(name, spec) {
            let about = spec.description.as_ref().map(|about| format!(": {about}")).unwrap_or_default();
            let error = sink.file_error("missing", format!("the input `{name}` is missing"));
            let variable = spec.from_env.as_ref().map(|name| format!(", or the environment variable `{name}`"));
            error.help(format!("set it with `--param {name}=…`{}{about}", variable.unwrap_or_default()));
        }
        inputs.insert(name.clone(), value.unwrap_or(Value::Null));
    }
    resolver.finish(Value::Object(inputs))
}

/// Returns the values of secret inputs for a run that is resumed, as far as they are known.
///
/// # Errors
/// Returns all parameters that are not secret inputs of the plan, and secrets that are invalid.
pub fn resolve_secrets(plan: &Plan, sources: &InputSources<'_>) -> Result<JsonObject, Diagnostics> {
    let mut resolver = InputResolver::new(plan, sources);
    for (name, _) in sources.parameters.iter().filter_map(|parameter| parameter.split_once('=')) {
        if plan.inputs.get(name).is_some_and(|spec| spec.kind != InputType::Secret) {
            let error = resolver.sink.file_error("not_secret", format!("the input `{name}` is not secret"));
            error.help("a run keeps its other inputs: `kapell retry RUN --param …` starts a run with other values");
        }
    }
    let mut secrets = resolver.assigned_values();
    secrets.retain(|name, value| {
        !value.is_null() && plan.inputs.get(name).is_some_and(|spec| spec.kind == InputType::Secret)
    });
    resolver.finish(secrets)
}

/// Returns the required inputs that no source provides; none if another input is invalid, which is reported first.
pub fn missing_inputs<'p>(plan: &'p Plan, sources: &InputSources<'_>) -> Vec<(&'p str, &'p InputSpec)> {
    let mut resolver = InputResolver::new(plan, sources);
    let assigned = resolver.assigned_values();
    if resolver.sink.has_errors() {
        return Vec::new();
    }
    let is_missing =
        |(name, spec): &(&String, &InputSpec)| sources.requires(name, spec) && !assigned.contains_key(*name);
    plan.inputs.iter().filter(is_missing).map(|(name, spec)| (name.as_str(), spec)).collect()
}

struct InputResolver<'a> {
    plan: &'a Plan,
    sources: &'a InputSources<'a>,
    sink: DiagnosticSink,
}

impl<'a> InputResolver<'a> {
    fn new(plan: &'a Plan, sources: &'a InputSources<'a>) -> Self {
        let source = Arc::new(SourceFile::new("the inputs", String::new()));
        Self { plan, sources, sink: DiagnosticSink::new("input", source) }
    }

    fn finish<T>(self, value: T) -> Result<T, Diagnostics> {
        if self.sink.has_errors() { Err(self.sink.finish()) } else { Ok(value) }
    }

    /// Returns the values of all sources but the defaults, and reports those that are invalid.
    fn assigned_values(&mut self) -> JsonObject {
        let mut assigned = Map::new();
        let kept = self.sources.earlier.into_iter().flatten();
        assigned.extend(kept.filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())));
        assigned.retain(|name, _| self.plan.inputs.get(name).is_some_and(|spec| spec.kind != InputType::Secret));
        for (name, value) in &assigned {
            if let Some(spec) = self.plan.inputs.get(name) {
                report(name, value, spec, &mut self.sink);
            }
        }
        assigned.extend(self.environment_values());
        match self.sources.given {
            None | Some(Value::Null) => {}
            Some(Value::Object(values)) => {
                for (name, value) in values {
                    if let Some(spec) = find_input(self.plan, name, &mut self.sink) {
                        assigned.insert(name.clone(), checked(name, value.clone(), spec, &mut self.sink));
                    }
                }
            }
            Some(other) => {
                let kind = json_type_name(other);
                let message = format!("the parameters file must be a map from names to values, not {kind}");
                self.sink.file_error("wrong_type", message);
            }
        }
        for parameter in self.sources.parameters {
            let Some((name, text)) = parameter.split_once('=') else {
                let error = self.sink.file_error("syntax", format!("the parameter `{parameter}` has no `=`"));
                error.help("write `--param name=value`");
                continue;
            };
            let Some(spec) = find_input(self.plan, name, &mut self.sink) else { continue };
            // Null keeps an invalid input from being reported as missing too.
            let value = match parse_parameter(text, spec.kind) {
                Ok(value) => checked(name, value, spec, &mut self.sink),
                Err(help) => {
                    let message = format!("the input `{name}` must be {}, not `{text}`", type_name(spec.kind));
                    let error = self.sink.file_error("wrong_type", message);
                    error.help_if_known(help.or_else(|| spec.description.clone()));
                    Value::Null
                }
            };
            assigned.insert(name.to_owned(), value);
        }
        assigned
    }

    /// Returns the secrets that are in the environment.
    fn environment_values(&mut self) -> JsonObject {
        let environment = self.sources.environment.unwrap_or(&ProcessEnvironment);
        let mut values = JsonObject::new();
        for (name, spec) in &self.plan.inputs {
            let value = spec.from_env.as_ref().and_then(|variable| environment.variable(variable));
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                values.insert(name.clone(), checked(name, value.into(), spec, &mut self.sink));
            }
        }
        values
    }
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

/// Returns the value of an input that is given as `value`, and reports why it is invalid. The value of a file is its text.
fn checked(name: &str, value: Value, spec: &InputSpec, sink: &mut DiagnosticSink) -> Value {
    let value = match (spec.kind, &value) {
        (InputType::File, Value::String(path)) => match read::read_text(Path::new(path)) {
            Ok(text) => Value::String(text),
            Err(errors) => {
                let error = errors.list().first();
                let reason = error.map(|error| error.message.clone()).unwrap_or_default();
                let help = error.and_then(|error| error.help.clone());
                let help = help.or_else(|| Some("paths are relative to the current directory".to_owned()));
                sink.file_error("file", format!("the input `{name}`: {reason}")).help_if_known(help);
                return Value::Null;
            }
        },
        _ => value,
    };
    report(name, &value, spec, sink);
    value
}

/// Reports why the value of an input is invalid, if it is.
fn report(name: &str, value: &Value, spec: &InputSpec, sink: &mut DiagnosticSink) {
    let is_unset = value.is_null() && !spec.required;
    if is_unset {
        return;
    }
    if let Some(Violation { kind, problem, help }) = find_violation(value, spec) {
        let message = format!("the input `{name}` {problem}");
        let error = match kind {
            ViolationKind::Type => sink.file_error("wrong_type", message),
            ViolationKind::Constraint => sink.file_error("invalid_value", message),
        };
        error.help_if_known(help.or_else(|| spec.description.clone()));
    }
}

/// The reason why a value is invalid for an input.
pub(super) struct Violation {
    kind: ViolationKind,
    /// The expected value and the given one, as the end of a sentence: `must be …, not …`.
    pub(super) problem: String,
    pub(super) help: Option<String>,
}

/// What a value does not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ViolationKind {
    /// The type of the input.
    Type,
    /// One of its constraints.
    Constraint,
}

/// Returns the reason why a value is invalid for an input, if it is. A secret is never part of the reason.
pub(super) fn find_violation(value: &Value, spec: &InputSpec) -> Option<Violation> {
    if !has_type(value, spec.kind) {
        let actual = match value {
            Value::String(text) if has_leading_zero(text) => format!("the text `{text}`"),
            value => json_type_name(value).to_owned(),
        };
        let problem = format!("must be {}, not {actual}", type_name(spec.kind));
        return Some(Violation { kind: ViolationKind::Type, problem, help: type_conversion_help(value, spec.kind) });
    }
    let expected = unmet_constraint(value, spec)?;
    let problem = match spec.kind {
        InputType::Secret | InputType::File => format!("must {expected}"),
        _ => format!("must {expected}, not `{}`", truncate_chars(&value_as_text(value), MAX_SHOWN_CHARS)),
    };
    Some(Violation { kind: ViolationKind::Constraint, problem, help: None })
}

/// Returns what a value of the right type must do to meet a constraint that it does not meet: `be at least 3`.
fn unmet_constraint(value: &Value, spec: &InputSpec) -> Option<String> {
    let constraints = &spec.constraints;
    if let Some(choices) = constraints.choices.as_ref().filter(|choices| !choices.contains(value)) {
        let choices: Vec<String> = choices.iter().map(|choice| format!("`{}`", value_as_text(choice))).collect();
        return Some(format!("be one of {}", choices.join(", ")));
    }
    match value {
        Value::Number(number) => {
            let is_less = |one: &Number, other: &Number| one.as_f64().zip(other.as_f64()).is_some_and(|(a, b)| a < b);
            let (minimum, maximum) = (constraints.minimum.as_ref(), constraints.maximum.as_ref());
            let is_outside = minimum.is_some_and(|minimum| is_less(number, minimum))
                || maximum.is_some_and(|maximum| is_less(maximum, number));
            is_outside.then(|| format!("be {}", range_text(minimum, maximum)))
        }
        Value::String(text) => {
            let count = text.chars().count() as u64;
            if is_outside(count, constraints.min_length, constraints.max_length) {
                let range = range_text(constraints.min_length, constraints.max_length);
                return Some(format!("have {range} characters"));
            }
            if spec.kind == InputType::Secret && text.trim().len() < MIN_SECRET_BYTES {
                return Some(format!("have at least {MIN_SECRET_BYTES} characters, so that it can be masked"));
            }
            let pattern = constraints.pattern.as_ref()?;
            let mismatch = match compile_pattern(pattern).ok()?.violations(value, &SchemaLimits::INLINE) {
                Ok(violations) => !violations.is_empty(),
                Err(error) => return Some(format!("be a text that its pattern can check: {error}")),
            };
            mismatch.then(|| format!("match the pattern `{pattern}`"))
        }
        Value::Array(items) => {
            let (min, max) = (constraints.min_items, constraints.max_items);
            is_outside(items.len() as u64, min, max).then(|| format!("have {} elements", range_text(min, max)))
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

fn is_outside(count: u64, min: Option<u64>, max: Option<u64>) -> bool {
    min.is_some_and(|min| count < min) || max.is_some_and(|max| count > max)
}

fn range_text(min: Option<impl ToString>, max: Option<impl ToString>) -> String {
    match (min.map(|min| min.to_string()), max.map(|max| max.to_string())) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "any number of".to_owned(),
    }
}

/// Compiles a pattern within limits.
///
/// # Errors
/// Returns the reason why the pattern is invalid or too large.
pub(super) fn compile_pattern(pattern: &str) -> Result<CompiledSchema, String> {
    let schema = json!({"type": "string", "pattern": pattern});
    let compiled = CompiledSchema::compile(schema, FormatValidation::Never, &SchemaLimits::INLINE);
    compiled.map_err(|error| match error {
        SchemaCheckError::InvalidSchema(_) => format!("`{pattern}` is not a regular expression"),
        error => error.to_string(),
    })
}

/// Parses the value of a parameter. Strings need no quotes; all other types are parsed like a file of parameters.
///
/// # Errors
/// Returns a suggestion, if one is known.
fn parse_parameter(text: &str, kind: InputType) -> Result<Value, Option<String>> {
    if matches!(kind, InputType::String | InputType::File | InputType::Secret) {
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
        (Value::Number(_) | Value::Bool(_), InputType::String | InputType::File | InputType::Secret) => {
            Some("put it in quotes".to_owned())
        }
        _ => None,
    }
}

/// Returns whether a value has an input's type.
pub(super) fn has_type(value: &Value, kind: InputType) -> bool {
    kind.accepts(value)
}

/// Returns the readable name of a type with its article.
pub(super) fn type_name(kind: InputType) -> &'static str {
    match kind {
        InputType::String | InputType::Secret => "text",
        InputType::File => "the path of a file",
        InputType::Number => "a number",
        InputType::Integer => "an integer",
        InputType::Boolean => "`true` or `false`",
        InputType::Array => "a list",
        InputType::Object => "a map",
    }
}
