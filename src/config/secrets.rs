//! Finds the parts of an agents file that a report must not show: what headers, variables and tokens are set to.
//! Never shows too much where it is not sure.

use super::{
    findings::Findings,
    keys::{AGENT, LLM, PLANNER},
    map::Map,
    shape::Section,
    source::Extent,
    tree::{Node, Tree},
};

/// The keys whose values are shown. All others may hold a secret, and so may keys that do not exist: a key
/// that is written where the name of its variable belongs is the commonest mistake of all.
const SHOWN: [&str; 40] = [
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
/// Keys whose values are shown unless they hold a user's name or a query.
const ADDRESSES: [&str; 2] = ["base_url", "url"];
/// Keys whose values are names of variables, and shown if they look like ones.
const VARIABLES: [&str; 2] = ["api_key_env_var", "bearer_token_env_var"];

/// Whether `text` can be the name of a variable.
pub(super) fn is_variable(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.len() <= 64
}

/// Conceals what may be secret in a file that was read.
pub(super) fn conceal(root: &Node<'_>, findings: &mut Findings) {
    for (name, entry) in root.as_map().into_iter().flatten() {
        match (&**name, entry.node.as_map()) {
            ("agents", Some(agents)) => agents.values().for_each(|agent| section(&agent.node, &AGENT, findings)),
            ("models", Some(models)) => models.values().for_each(|model| section(&model.node, &LLM, findings)),
            ("llm", Some(_)) => section(&entry.node, &LLM, findings),
            ("planner", Some(_)) => section(&entry.node, &PLANNER, findings),
            _ => conceal_all(&entry.node, findings),
        }
    }
}

fn section(node: &Node<'_>, section: &'static Section, findings: &mut Findings) {
    let Some(fields): Option<&Map> = node.as_map() else { return conceal_all(node, findings) };
    for (name, entry) in fields {
        let text = entry.node.as_text().unwrap_or_default();
        let shown = section.key(name).is_some()
            && (SHOWN.contains(&&**name)
                || ADDRESSES.contains(&&**name) && !text.contains(['@', '?'])
                || VARIABLES.contains(&&**name) && is_variable(text));
        match &entry.node.tree {
            _ if shown => {}
            Tree::Map(map) if name == "env_http_headers" => {
                let wrong = map.values().filter(|entry| !entry.node.as_text().is_some_and(is_variable));
                wrong.for_each(|entry| conceal_all(&entry.node, findings));
            }
            _ => conceal_all(&entry.node, findings),
        }
    }
}

/// Conceals every text and number at or below a node.
fn conceal_all(node: &Node<'_>, findings: &mut Findings) {
    match &node.tree {
        Tree::Map(map) => map.values().for_each(|entry| conceal_all(&entry.node, findings)),
        Tree::List(nodes) => nodes.iter().for_each(|node| conceal_all(node, findings)),
        Tree::Text(_) | Tree::Number(_) => findings.conceal(node.extent),
        Tree::Null | Tree::Bool(_) => {}
    }
}

/// Conceals whatever stands in quotes, for a file that could not be read. A quote that is not closed ends with
/// its line.
pub(super) fn conceal_quoted(text: &str, findings: &mut Findings) {
    let mut opened: Option<(usize, char)> = None;
    for (at, c) in text.char_indices() {
        match (opened, c) {
            (None, '"' | '\'') => opened = Some((at, c)),
            (Some((start, quote)), _) if c == quote || c == '\n' => {
                findings.conceal(Extent { start, end: at });
                opened = None;
            }
            _ => {}
        }
    }
    if let Some((start, _)) = opened {
        findings.conceal(Extent { start, end: text.len() });
    }
}
