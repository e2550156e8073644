//! Formats the text of a plan file. The result is used only if it has the same data and the same comments.

use serde_json::Value;

use super::{key_order, writer};
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::yaml::parser;
use crate::config::yaml::syntax_reader::read_syntax;
use crate::config::yaml::syntax_tree::{SyntaxDocument, SyntaxEntry, SyntaxKind, SyntaxNode, TriviaLine};

/// Returns the text of a plan file in the standard style: an indentation of two spaces, a fixed order of the keys of tasks,
/// and a blank line between sections. Comments, anchors, and the style of texts are kept.
///
/// # Errors
/// Returns the diagnostics of a file that is not valid YAML, or the reason why it cannot be formatted without changing its
/// meaning.
pub fn format_plan(name: &str, text: &str) -> Result<String, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let data = parser::read_data(name, &text)?;
    let unsupported = |reason: String| {
        Diagnostics::for_file(name, "file::unformattable", format!("`{name}` cannot be formatted: {reason}"))
            .with_help("the file was not changed")
    };
    let mut document = read_syntax(&text).map_err(|error| unsupported(error.to_string()))?;
    let comments = comments_of(&document);
    let as_written = stable_text(&document);
    key_order::sort_keys(&mut document);
    let sorted = stable_text(&document);
    // An anchor must precede its aliases, which sorting may not respect.
    let mut results = [sorted, as_written].into_iter().flatten();
    let result = results.find(|result| is_same(name, result, (&data, &comments)));
    result.ok_or_else(|| unsupported("the result would have another meaning".to_owned()))
}

/// The maximum number of times that a document is written. A comment that moves can make a line too long once.
const MAX_PASSES: usize = 5;

/// Writes a document until writing it again changes nothing.
fn stable_text(document: &SyntaxDocument) -> Option<String> {
    let mut text = writer::write_document(document);
    for _ in 0..MAX_PASSES {
        let again = writer::write_document(&read_syntax(&text).ok()?);
        if again == text {
            return Some(text);
        }
        text = again;
    }
    None
}

/// Returns whether a text has this data and these comments.
fn is_same(name: &str, text: &str, (data, comments): (&Value, &[String])) -> bool {
    parser::read_data(name, text).is_ok_and(|now| now == *data)
        && read_syntax(text).is_ok_and(|document| comments_of(&document) == comments)
}

/// Returns all directives, comments, anchors, and tags of a document, sorted.
fn comments_of(document: &SyntaxDocument) -> Vec<String> {
    let mut found = document.directives.clone();
    if let Some(root) = &document.root {
        collect(root, &mut found);
    }
    collect_lines(&document.end, &mut found);
    found.sort_unstable();
    found
}

fn collect(node: &SyntaxNode, found: &mut Vec<String>) {
    found.extend(node.properties.iter().cloned());
    match &node.kind {
        SyntaxKind::Map { entries, .. } | SyntaxKind::List { entries, .. } => {
            for SyntaxEntry { before, trailing, value, .. } in entries {
                collect_lines(before, found);
                found.extend(trailing.iter().map(|(_, text)| text.clone()));
                collect(value, found);
            }
        }
        SyntaxKind::Block { header, .. } => found.push(header.clone()),
        SyntaxKind::Empty | SyntaxKind::Scalar(_) => {}
    }
}

fn collect_lines(lines: &[TriviaLine], found: &mut Vec<String>) {
    found.extend(lines.iter().filter_map(|line| match line {
        TriviaLine::Comment(_, text) => Some(text.clone()),
        TriviaLine::Blank => None,
    }));
}
