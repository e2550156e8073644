//! Redacts the parts of an agents file that a report must not show: the values of headers, variables, and tokens.
//! Redacts too much rather than too little.

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::schema::keys::{AGENT, LLM, PLANNER};
use crate::config::schema::table::TableSchema;
use crate::config::yaml::document::{DocumentNode, Map, NodeValue};

/// The keys whose values are shown. Other keys may contain a secret, even unknown ones: a secret in place of the name
/// of its variable is the most common mistake.
const PUBLIC_KEYS: [&str; 40] = [
    "args",
    "audio",
    "capabilities",
    "check_results",
    "command",
    "cwd",
    "deadline",
    "disabled_tools",
    "echo_reasoning",
    "effect",
    "enabled",
    "enabled_tools",
    "env_vars",
    "images",
    "max_concurrency",
    "max_processes",
    "max_output_tokens",
    "max_tasks",
    "max_tokens",
    "max_tokens_field",
    "model",
    "prices",
    "protocol",
    "provider",
    "reasoning_effort",
    "required",
    "sampling",
    "schema_in_prompt",
    "scores",
    "seed",
    "startup_timeout",
    "stop",
    "stream_usage",
    "structured_output",
    "system_role",
    "temperature",
    "timeout",
    "tool_choice",
    "tool_timeout",
    "tools",
];
/// The keys whose values are shown unless they contain user information or a query.
const URL_KEYS: [&str; 2] = ["base_url", "url"];
/// The keys whose values are shown if they look like names of variables.
const VARIABLE_NAME_KEYS: [&str; 2] = ["api_key_env_var", "bearer_token_env_var"];

/// Returns whether `text` can be the name of a variable.
pub(crate) fn is_variable_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.len() <= 64
}

/// Redacts the values of a file that may be secret.
pub(crate) fn redact(root: &DocumentNode<'_>, findings: &mut DiagnosticSink) {
    for (name, entry) in root.as_map().into_iter().flatten() {
        match (&**name, entry.node.as_map()) {
            ("agents", Some(agents)) => agents.values().for_each(|agent| redact_table(&agent.node, &AGENT, findings)),
            ("models", Some(models)) => models.values().for_each(|model| redact_table(&model.node, &LLM, findings)),
            ("llm", Some(_)) => redact_table(&entry.node, &LLM, findings),
            ("planner", Some(_)) => redact_table(&entry.node, &PLANNER, findings),
            _ => redact_all(&entry.node, findings),
        }
    }
}

fn redact_table(node: &DocumentNode<'_>, section: &'static TableSchema, findings: &mut DiagnosticSink) {
    let Some(fields): Option<&Map> = node.as_map() else { return redact_all(node, findings) };
    for (name, entry) in fields {
        let text = entry.node.as_text().unwrap_or_default();
        let shown = section.key(name).is_some()
            && (PUBLIC_KEYS.contains(&&**name)
                || URL_KEYS.contains(&&**name) && !text.contains(['@', '?'])
                || VARIABLE_NAME_KEYS.contains(&&**name) && is_variable_name(text));
        match &entry.node.value {
            _ if shown => {}
            NodeValue::Map(map) if name == "env_http_headers" => {
                let wrong = map.values().filter(|entry| !entry.node.as_text().is_some_and(is_variable_name));
                wrong.for_each(|entry| redact_all(&entry.node, findings));
            }
            _ => redact_all(&entry.node, findings),
        }
    }
}

/// Redacts every text and number at or below a node.
fn redact_all(node: &DocumentNode<'_>, findings: &mut DiagnosticSink) {
    match &node.value {
        NodeValue::Map(map) => map.values().for_each(|entry| redact_all(&entry.node, findings)),
        NodeValue::List(nodes) => nodes.iter().for_each(|node| redact_all(node, findings)),
        NodeValue::Text(_) | NodeValue::Number(_) => findings.redact(node.span),
        NodeValue::Null | NodeValue::Bool(_) => {}
    }
}

/// Redacts all quoted text of a file with syntax errors. An unclosed quote ends with its line.
pub(crate) fn redact_quoted(text: &str, findings: &mut DiagnosticSink) {
    let mut opened: Option<(usize, char)> = None;
    for (at, c) in text.char_indices() {
        match (opened, c) {
            (None, '"' | '\'') => opened = Some((at, c)),
            (Some((start, quote)), _) if c == quote || c == '\n' => {
                findings.redact(SourceSpan { start, end: at });
                opened = None;
            }
            _ => {}
        }
    }
    if let Some((start, _)) = opened {
        findings.redact(SourceSpan { start, end: text.len() });
    }
}
