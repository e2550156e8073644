//! Redacts the parts of an agents file that a report must not show: the values of headers, variables, and tokens.
//! Redacts too much rather than too little.

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::schema::keys::{AGENT, LLM, PLANNER, PLANS};
use crate::config::schema::table::{TableSchema, ValueType};
use crate::config::yaml::document::{DocumentNode, NodeValue};

/// Returns whether `text` can be the name of a variable.
pub(crate) fn is_variable_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.len() <= 64
}

/// Redacts the values of a file that may be secret.
pub(crate) fn redact(root: &DocumentNode<'_>, sink: &mut DiagnosticSink) {
    for (name, entry) in root.as_map().into_iter().flatten() {
        match (&**name, entry.node.as_map()) {
            ("agents", Some(agents)) => agents.values().for_each(|agent| redact_table(&agent.node, &AGENT.table, sink)),
            ("models", Some(models)) => models.values().for_each(|model| redact_table(&model.node, &LLM.table, sink)),
            ("llm", Some(_)) => redact_table(&entry.node, &LLM.table, sink),
            ("planner", Some(_)) => redact_table(&entry.node, &PLANNER.table, sink),
            ("plans", Some(_)) => redact_table(&entry.node, &PLANS.table, sink),
            _ => redact_all(&entry.node, sink),
        }
    }
}

/// Redacts the values of unknown keys, and those whose type may hold a secret: a secret in place of the name of its
/// variable is the most common mistake.
fn redact_table(node: &DocumentNode<'_>, table: &'static TableSchema, sink: &mut DiagnosticSink) {
    let Some(map) = node.as_map() else { return redact_all(node, sink) };
    for (name, entry) in map {
        let text = entry.node.as_text().unwrap_or_default();
        match (table.key(name).map(|key| &key.value_type), &entry.node.value) {
            (Some(ValueType::TextMap), NodeValue::Map(map)) if name == AGENT.env_http_headers.name => {
                let wrong = map.values().filter(|entry| !entry.node.as_text().is_some_and(is_variable_name));
                wrong.for_each(|entry| redact_all(&entry.node, sink));
            }
            (Some(ValueType::Url), _) if !text.contains(['@', '?']) => {}
            (Some(ValueType::VariableName), _) if is_variable_name(text) => {}
            (Some(ValueType::Table(table)), _) => redact_table(&entry.node, table, sink),
            (
                Some(
                    ValueType::Text
                    | ValueType::TextList
                    | ValueType::Boolean
                    | ValueType::Integer(..)
                    | ValueType::Number(..)
                    | ValueType::PositiveDuration
                    | ValueType::Choice(_)
                    | ValueType::OneOf(..),
                ),
                _,
            ) => {}
            _ => redact_all(&entry.node, sink),
        }
    }
}

/// Redacts every text and number at or below a node.
fn redact_all(node: &DocumentNode<'_>, sink: &mut DiagnosticSink) {
    match &node.value {
        NodeValue::Map(map) => map.values().for_each(|entry| redact_all(&entry.node, sink)),
        NodeValue::List(nodes) => nodes.iter().for_each(|node| redact_all(node, sink)),
        NodeValue::Text(_) | NodeValue::Number(_) => sink.redact(node.span),
        NodeValue::Null | NodeValue::Bool(_) => {}
    }
}

/// Redacts all quoted text of a file with syntax errors. An unclosed quote ends with its line.
pub(crate) fn redact_quoted(text: &str, sink: &mut DiagnosticSink) {
    let mut opened: Option<(usize, char)> = None;
    for (at, c) in text.char_indices() {
        match (opened, c) {
            (None, '"' | '\'') => opened = Some((at, c)),
            (Some((start, quote)), _) if c == quote || c == '\n' => {
                sink.redact(SourceSpan { start, end: at });
                opened = None;
            }
            _ => {}
        }
    }
    if let Some((start, _)) = opened {
        sink.redact(SourceSpan { start, end: text.len() });
    }
}
