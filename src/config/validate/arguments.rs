//! Checks a task's arguments against its tool's `inputSchema`, as far as they are known before the run. Errors that
//! depend on the value of an expression are not reported.

use std::collections::HashMap;

use serde_json::Value;

use crate::config::diagnostics::diagnostic::Severity;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::schema::keys::{TASK, TaskKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::{DocumentNode, Map, NodeValue};
use crate::json_schema::{self, CompiledSchema, FormatValidation, SchemaLimits, ValidationError, ValidationErrorKind};
use crate::model::text::truncate_chars;
use crate::model::{AgentId, AgentSpec, SchemaChecks, ToolInfo};

/// The maximum length of a validation message in characters. It may repeat the whole value.
const MAX_MESSAGE_CHARS: usize = 200;

/// A cache of the tools' compiled schemas; `None` for a schema that is not usable.
#[derive(Default)]
pub(super) struct ArgumentChecker<'a> {
    schemas: HashMap<(AgentId, &'a str), Option<CompiledSchema>>,
}

impl<'a> ArgumentChecker<'a> {
    /// Checks the `with` of `task` by the rules of a call.
    pub(super) fn check(
        &mut self,
        agent: &AgentSpec,
        tool: &'a ToolInfo,
        task: CheckedTable<'_, TaskKeys>,
        sink: &mut DiagnosticSink,
    ) {
        let severity = match agent.check_arguments {
            SchemaChecks::Strict => Severity::Error,
            SchemaChecks::Warn => Severity::Warning,
            SchemaChecks::Off => return,
        };
        let agent = &agent.id;
        let empty = DocumentNode::new(NodeValue::Map(Map::default()), task.span());
        let arguments = task.node(&TASK.with).unwrap_or(&empty);
        let at = task.key_span(&TASK.with).or_else(|| task.key_span(&TASK.tool)).or_else(|| task.key_span(&TASK.id));
        let name = &tool.name;
        let compiled = self.schemas.entry((agent.clone(), name.as_str())).or_insert_with(|| {
            let schema = Value::Object(tool.input_schema.clone());
            CompiledSchema::compile(schema, FormatValidation::Never, &SchemaLimits::INLINE)
                .map_err(|unchecked| {
                    let reason = truncate(&unchecked.to_string());
                    let message = format!("the input schema of `{name}` of agent `{agent}` is not usable: {reason}");
                    let warning = sink.warning("bad_schema", at.unwrap_or(task.span()), message);
                    warning.help("the arguments are not checked before the run");
                })
                .ok()
        });
        let Some(compiled) = compiled else { return };
        let mut value = arguments.to_json();
        if compiled.violations(&value, &SchemaLimits::INLINE).is_ok_and(|violations| !violations.is_empty()) {
            json_schema::apply_defaults(&tool.input_schema, &mut value);
        }
        let violations = match compiled.violations(&value, &SchemaLimits::INLINE) {
            Ok(violations) => violations,
            Err(unchecked) => {
                let reason = truncate(&unchecked.to_string());
                let message = format!("the arguments of `{name}` are not checked before the run: {reason}");
                sink.warning("bad_schema", at.unwrap_or(task.span()), message);
                return;
            }
        };
        for error in &violations {
            let node = arguments.at_pointer(error.instance_path().as_str());
            if depends_on_expressions(node, error.kind()) {
                continue;
            }
            let at = if std::ptr::eq(node, arguments) { at.unwrap_or(node.span) } else { node.span };
            ViolationReport { tool, node, at, severity }.add(error, sink);
        }
    }
}

/// Returns whether the error may disappear when the expressions at or below `node` have values.
fn depends_on_expressions(node: &DocumentNode<'_>, kind: &ValidationErrorKind) -> bool {
    let by_keys_alone = matches!(
        kind,
        ValidationErrorKind::Required { .. }
            | ValidationErrorKind::AdditionalProperties { .. }
            | ValidationErrorKind::MinProperties { .. }
            | ValidationErrorKind::MaxProperties { .. }
            | ValidationErrorKind::MinItems { .. }
            | ValidationErrorKind::MaxItems { .. }
            | ValidationErrorKind::PropertyNames { .. }
            | ValidationErrorKind::Type { .. }
    );
    match &node.value {
        NodeValue::List(_) | NodeValue::Map(_) if by_keys_alone => false,
        _ => has_expressions(node),
    }
}

fn has_expressions(node: &DocumentNode<'_>) -> bool {
    match &node.value {
        NodeValue::Text(text) => text.contains("${{"),
        NodeValue::List(nodes) => nodes.iter().any(has_expressions),
        NodeValue::Map(map) => map.values().any(|entry| has_expressions(&entry.node)),
        NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) => false,
    }
}

/// Where and how severely a violation of a tool's schema is reported.
struct ViolationReport<'r, 's> {
    tool: &'r ToolInfo,
    /// The value, or the value that lacks a part.
    node: &'r DocumentNode<'s>,
    at: SourceSpan,
    severity: Severity,
}

impl ViolationReport<'_, '_> {
    fn add(&self, error: &ValidationError<'_>, sink: &mut DiagnosticSink) {
        let Self { tool, node, at, severity } = *self;
        let name = &tool.name;
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                let message = format!("`{name}` requires the argument `{property}`");
                sink.diagnostic(severity, "missing_argument", at, message).help_if_known(description(tool, property));
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = || properties(tool).into_iter().flat_map(|known| known.keys().map(String::as_str));
                for property in unexpected {
                    let at = node.as_map().and_then(|map| map.get(property)).map_or(at, |entry| entry.key_span);
                    let help = sink.suggest(property, known(), ("its arguments are", "it has no arguments"));
                    let message = format!("`{name}` has no argument `{property}`");
                    sink.diagnostic(severity, "unknown_argument", at, message).help(help);
                }
            }
            _ => {
                let path = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
                let what = if path.is_empty() { "the arguments".to_owned() } else { format!("the argument `{path}`") };
                let message = format!(
                    "invalid value of {what} of `{name}`: {}",
                    truncate(&json_schema::bounded_message(error, 4 * MAX_MESSAGE_CHARS))
                );
                let help = path.split('.').next().and_then(|first| description(tool, first));
                sink.diagnostic(severity, "bad_argument", at, message).help_if_known(help);
            }
        }
    }
}

fn properties(tool: &ToolInfo) -> Option<&serde_json::Map<String, Value>> {
    tool.input_schema.get("properties")?.as_object()
}

/// Returns the tool's description of an argument.
fn description(tool: &ToolInfo, property: &str) -> Option<String> {
    let text = properties(tool)?.get(property)?.get("description")?.as_str()?;
    Some(format!("`{property}`: {}", truncate(text)))
}

/// Returns the beginning of a text on one line. The text may come from an agent.
pub(super) fn truncate(text: &str) -> String {
    truncate_chars(text, MAX_MESSAGE_CHARS).replace(char::is_control, " ")
}
