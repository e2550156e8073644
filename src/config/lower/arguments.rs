//! Checks a task's arguments against its tool's `inputSchema`, as far as they are known before the run.
//! Never judges a value that an expression will give.

use std::collections::HashMap;

use serde_json::Value;

use crate::{
    config::{
        findings::Findings,
        map::Map,
        shape::Fields,
        tree::{Node, Tree},
    },
    json_schema::{self, Formats, Limits, Schema, ValidationError, ValidationErrorKind},
    model::{AgentId, ToolInfo},
};

/// Longest part of a schema's own message that is shown, in characters; it may repeat the whole value.
const MAX_MESSAGE: usize = 200;

/// The compiled schemas of the tools that were seen; none for a schema that is not usable.
#[derive(Default)]
pub(super) struct Arguments<'a> {
    schemas: HashMap<(AgentId, &'a str), Option<Schema>>,
}

impl<'a> Arguments<'a> {
    /// Checks the `with` of `task`.
    pub(super) fn check(&mut self, agent: &AgentId, tool: &'a ToolInfo, task: &Fields<'_>, findings: &mut Findings) {
        let empty = Node::new(Tree::Map(Map::default()), task.extent);
        let arguments = task.node("with").unwrap_or(&empty);
        let at = task.key_extent("with").or_else(|| task.key_extent("tool")).or_else(|| task.key_extent("id"));
        let name = &tool.name;
        let compiled = self.schemas.entry((agent.clone(), name.as_str())).or_insert_with(|| {
            let schema = Value::Object(tool.input_schema.clone());
            Schema::compile(schema, Formats::AsDraft, &Limits::INLINE)
                .map_err(|unchecked| {
                    let reason = cut(&unchecked.to_string());
                    let message = format!("the schema that `{agent}` gives for `{name}` is not usable: {reason}");
                    let found = findings.warning("bad_schema", at.unwrap_or(task.extent), message);
                    found.help("arguments of this tool are not checked before the run");
                })
                .ok()
        });
        let Some(compiled) = compiled else { return };
        let value = arguments.to_json();
        let violations = match compiled.violations(&value, &Limits::INLINE) {
            Ok(violations) => violations,
            Err(unchecked) => {
                let reason = cut(&unchecked.to_string());
                let message = format!("the arguments for `{name}` are not checked before the run: {reason}");
                findings.warning("bad_schema", at.unwrap_or(task.extent), message);
                return;
            }
        };
        for error in &violations {
            let place = arguments.at(error.instance_path().as_str());
            if depends_on_expressions(place, error.kind()) {
                continue;
            }
            let at = if std::ptr::eq(place, arguments) { at.unwrap_or(place.extent) } else { place.extent };
            report(error, (tool, place, at), findings);
        }
    }
}

/// Whether the error may vanish once the expressions at or below `place` have values.
fn depends_on_expressions(place: &Node<'_>, kind: &ValidationErrorKind) -> bool {
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
    match &place.tree {
        Tree::List(_) | Tree::Map(_) if by_keys_alone => false,
        _ => holds_expressions(place),
    }
}

fn holds_expressions(node: &Node<'_>) -> bool {
    match &node.tree {
        Tree::Text(text) => text.contains("${{"),
        Tree::List(nodes) => nodes.iter().any(holds_expressions),
        Tree::Map(map) => map.values().any(|entry| holds_expressions(&entry.node)),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => false,
    }
}

fn report(
    error: &ValidationError<'_>,
    (tool, place, at): (&ToolInfo, &Node, crate::config::source::Extent),
    findings: &mut Findings,
) {
    let name = &tool.name;
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            let found = findings.error("missing_argument", at, format!("`{name}` needs the argument `{property}`"));
            found.maybe_help(description(tool, property));
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = || properties(tool).into_iter().flat_map(|known| known.keys().map(String::as_str));
            for property in unexpected {
                let at = place.as_map().and_then(|map| map.get(property)).map_or(at, |entry| entry.key);
                let help = findings.did_you_mean(property, known());
                let help = help.or_else(|| Some(format!("it takes {}", crate::expression::listed(known()))));
                let message = format!("`{name}` takes no argument `{property}`");
                findings.error("unknown_argument", at, message).maybe_help(help);
            }
        }
        _ => {
            let path = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
            let what = if path.is_empty() { "the arguments".to_owned() } else { format!("the argument `{path}`") };
            let message =
                format!("{what} of `{name}` cannot be this: {}", cut(&json_schema::message(error, 4 * MAX_MESSAGE)));
            let help = path.split('.').next().and_then(|first| description(tool, first));
            findings.error("bad_argument", at, message).maybe_help(help);
        }
    }
}

fn properties(tool: &ToolInfo) -> Option<&serde_json::Map<String, Value>> {
    tool.input_schema.get("properties")?.as_object()
}

/// What the tool says of an argument.
fn description(tool: &ToolInfo, property: &str) -> Option<String> {
    let text = properties(tool)?.get(property)?.get("description")?.as_str()?;
    Some(format!("`{property}`: {}", cut(text)))
}

/// The beginning of a text that an agent may have written, on one line.
fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
