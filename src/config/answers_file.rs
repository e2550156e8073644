//! Reads the rules of an answers file.

use std::sync::Arc;

use serde_json::Value;

use super::diagnostics::diagnostic::Diagnostics;
use super::diagnostics::sink::DiagnosticSink;
use super::diagnostics::source::SourceFile;
use super::schema::keys::ANSWERS;
use super::schema::table::{self, CheckedTable, ValueType};
use super::yaml::document::DocumentNode;
use super::yaml::parser;

/// Returns the rules of an answers file with their keys checked. An empty file has no rules.
///
/// # Errors
/// Returns all diagnostics of the file.
pub fn read_answer_rules(name: &str, text: &str) -> Result<Vec<Value>, Diagnostics> {
    let source = Arc::new(SourceFile::new(name, parser::normalize(text).into_owned()));
    let mut sink = DiagnosticSink::new("answers", Arc::clone(&source));
    let root = parser::read_tree(&source.text, &mut sink);
    if let Some(root) = &root {
        table::check_value(root, &ValueType::Table(&ANSWERS.table), &"the file", &mut sink);
    }
    if sink.has_errors() {
        let example = "answers: [{agent: travel, accept: {confirm: true}}]";
        let mistakes = sink.finish();
        let is_explained = mistakes.list().last().is_some_and(|mistake| mistake.help.is_some());
        return Err(if is_explained {
            mistakes
        } else {
            mistakes.with_help(format!("expected a list of rules, such as `{example}`"))
        });
    }
    let rules = root.as_ref().and_then(|root| CheckedTable::new(root).node(&ANSWERS.answers));
    Ok(match rules.map(DocumentNode::to_json) {
        Some(Value::Array(rules)) => rules,
        _ => Vec::new(),
    })
}
