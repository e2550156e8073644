//! Writes a document in the style of the formatter.

use crate::config::yaml::syntax_tree::{SyntaxDocument, SyntaxEntry, SyntaxKind, SyntaxNode, TriviaLine};

/// The maximum width of a line with a list or map in brackets. A longer one gets a line for each entry.
const MAX_WIDTH: usize = 120;
/// The indentation of each level.
const INDENTATION: usize = 2;

/// Returns the document as text.
pub(super) fn write_document(document: &SyntaxDocument) -> String {
    let mut text = String::new();
    document.directives.iter().for_each(|directive| push_line(directive, &mut text));
    if document.has_start_marker {
        text.push_str("---\n");
    }
    if let Some(root) = &document.root {
        match &root.kind {
            SyntaxKind::Map { entries, .. } if root.properties.is_empty() && is_block_collection(root, 0, 0) => {
                write_sections(entries, &mut text);
            }
            SyntaxKind::List { entries, .. } if root.properties.is_empty() && is_block_collection(root, 0, 0) => {
                entries.iter().flat_map(|entry| entry_lines(entry, 0)).for_each(|line| push_line(&line, &mut text));
            }
            _ => value_lines(root, 0, 0, 0).iter().for_each(|line| push_line(line, &mut text)),
        }
    }
    let mut end = document.end.clone();
    while end.last() == Some(&TriviaLine::Blank) {
        end.pop();
    }
    for line in trivia_lines(&end, 0) {
        push_line(&line, &mut text);
    }
    text
}

/// Writes the entries of the root, with a blank line around those that have several lines.
fn write_sections(entries: &[SyntaxEntry], text: &mut String) {
    let (mut was_long, mut keeps_blank_lines) = (false, false);
    for (index, entry) in entries.iter().enumerate() {
        let mut entry = entry.clone();
        let blank = (entry.before.first() == Some(&TriviaLine::Blank)).then(|| entry.before.remove(0));
        let own_lines = entry_lines(&SyntaxEntry { before: Vec::new(), ..entry.clone() }, 0).len();
        let is_long = own_lines > 1;
        // A blank line after such a text would be a part of it.
        if index > 0 && (blank.is_some() || is_long || was_long) && !keeps_blank_lines {
            push_line("", text);
        }
        for line in entry_lines(&entry, 0) {
            push_line(&line, text);
        }
        was_long = is_long;
        keeps_blank_lines = ends_with_kept_lines(&entry.value);
    }
}

/// Returns whether a value ends with a block text that keeps the blank lines at its end.
fn ends_with_kept_lines(value: &SyntaxNode) -> bool {
    match &value.kind {
        SyntaxKind::Block { header, .. } => header.split('#').next().is_some_and(|header| header.contains('+')),
        SyntaxKind::Map { entries, .. } | SyntaxKind::List { entries, .. } => {
            entries.last().is_some_and(|entry| ends_with_kept_lines(&entry.value))
        }
        SyntaxKind::Empty | SyntaxKind::Scalar(_) => false,
    }
}

fn push_line(line: &str, text: &mut String) {
    text.push_str(line);
    text.push('\n');
}

fn trivia_lines(lines: &[TriviaLine], indentation: usize) -> Vec<String> {
    let line = |line: &TriviaLine| match line {
        TriviaLine::Blank => String::new(),
        TriviaLine::Comment(extra, text) => format!("{}{text}", " ".repeat(indentation + extra)),
    };
    lines.iter().map(line).collect()
}

/// Returns the lines of an entry of a map in its own lines.
fn entry_lines(entry: &SyntaxEntry, indentation: usize) -> Vec<String> {
    let mut lines = trivia_lines(&entry.before, indentation);
    lines.extend(content_lines(entry, indentation));
    lines
}

/// Returns the lines of an entry without those before it.
fn content_lines(entry: &SyntaxEntry, indentation: usize) -> Vec<String> {
    let margin = " ".repeat(indentation);
    let mut lines = match &entry.key {
        Some(key) => {
            let prefix = format!("{margin}{key}:");
            let trailing = entry.trailing.as_ref().map_or(0, |(_, text)| 1 + text.chars().count());
            let mut lines = value_lines(&entry.value, indentation, prefix.chars().count() + 1, trailing);
            let first = lines.remove(0);
            lines.insert(0, if first.is_empty() { prefix } else { format!("{prefix} {first}") });
            lines
        }
        None => item_lines(&entry.value, indentation),
    };
    if let Some((column, comment)) = &entry.trailing {
        // A comment within a text with several lines would end it.
        let at = if matches!(entry.value.kind, SyntaxKind::Scalar(_)) { lines.len() - 1 } else { 0 };
        // A comment keeps its column, except beyond the width: its value may have been one long line.
        let column = if *column > MAX_WIDTH { 0 } else { *column };
        let padding = column.saturating_sub(lines[at].chars().count()).max(1);
        lines[at] = format!("{}{}{comment}", lines[at], " ".repeat(padding));
    }
    lines
}

/// Returns the lines of an element of a list.
fn item_lines(value: &SyntaxNode, indentation: usize) -> Vec<String> {
    let margin = " ".repeat(indentation);
    let inner = indentation + INDENTATION;
    if is_block_collection(value, inner, 0) && value.properties.is_empty() {
        let entries = entries_of(value);
        let mut lines = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 {
                lines.extend(entry_lines(entry, inner));
                continue;
            }
            // Nothing can precede the first entry, which begins in the line of the hyphen.
            let before: Vec<TriviaLine> =
                entry.before.iter().filter(|line| **line != TriviaLine::Blank).cloned().collect();
            lines.extend(trivia_lines(&before, indentation));
            let mut own = content_lines(entry, inner);
            own[0] = format!("{margin}- {}", own[0].trim_start());
            lines.extend(own);
        }
        return lines;
    }
    let mut lines = value_lines(value, indentation, indentation + 2, 0);
    lines[0] = if lines[0].is_empty() { format!("{margin}-") } else { format!("{margin}- {}", lines[0]) };
    lines
}

/// Returns the lines of a value: the first one for the line of its key or hyphen, which has `used` columns already and
/// needs `reserved` columns at its end.
fn value_lines(value: &SyntaxNode, indentation: usize, used: usize, reserved: usize) -> Vec<String> {
    let inner = indentation + INDENTATION;
    let properties = value.properties.join(" ");
    let with_properties = |text: &str| match (properties.is_empty(), text.is_empty()) {
        (true, _) => text.to_owned(),
        (false, true) => properties.clone(),
        (false, false) => format!("{properties} {text}"),
    };
    let margin = |indentation: usize, line: &str| match line.is_empty() {
        true => String::new(),
        false => format!("{}{line}", " ".repeat(indentation)),
    };
    match &value.kind {
        SyntaxKind::Empty => vec![with_properties("")],
        SyntaxKind::Scalar(text) => {
            let mut lines = text.lines();
            let first = with_properties(lines.next().unwrap_or_default().trim_end());
            std::iter::once(first).chain(lines.map(|line| margin(inner, line.trim()))).collect()
        }
        SyntaxKind::Block { header, lines } => {
            std::iter::once(with_properties(header)).chain(lines.iter().map(|line| margin(inner, line))).collect()
        }
        SyntaxKind::Map { entries, .. } | SyntaxKind::List { entries, .. } => {
            if !is_block_collection(value, used, reserved) {
                return vec![inline(value)];
            }
            let mut lines = vec![with_properties("")];
            for (index, entry) in entries.iter().enumerate() {
                let mut entry = entry.clone();
                if index == 0 {
                    let blanks = entry.before.iter().take_while(|line| **line == TriviaLine::Blank).count();
                    entry.before.drain(..blanks);
                }
                lines.extend(entry_lines(&entry, inner));
            }
            lines
        }
    }
}

fn entries_of(value: &SyntaxNode) -> &[SyntaxEntry] {
    match &value.kind {
        SyntaxKind::Map { entries, .. } | SyntaxKind::List { entries, .. } => entries,
        SyntaxKind::Empty | SyntaxKind::Scalar(_) | SyntaxKind::Block { .. } => &[],
    }
}

/// Returns whether a value is a list or map with a line for each entry.
fn is_block_collection(value: &SyntaxNode, used: usize, reserved: usize) -> bool {
    let (entries, is_flow) = match &value.kind {
        SyntaxKind::Map { entries, is_flow } | SyntaxKind::List { entries, is_flow } => (entries, *is_flow),
        SyntaxKind::Empty | SyntaxKind::Scalar(_) | SyntaxKind::Block { .. } => return false,
    };
    if entries.is_empty() {
        return false;
    }
    let is_short = || {
        let width = inline(value).chars().count().saturating_add(used).saturating_add(reserved);
        width <= MAX_WIDTH
    };
    !is_flow || !can_be_inline(value) || !is_short()
}

/// Returns whether a value in brackets fits in one line: it has no comments and no text with several lines.
fn can_be_inline(value: &SyntaxNode) -> bool {
    match &value.kind {
        SyntaxKind::Empty => true,
        SyntaxKind::Scalar(text) => !text.contains('\n'),
        SyntaxKind::Block { .. } => false,
        SyntaxKind::Map { entries, .. } | SyntaxKind::List { entries, .. } => entries.iter().all(|entry| {
            let has_comment = entry.before.iter().any(|line| *line != TriviaLine::Blank);
            !has_comment && entry.trailing.is_none() && can_be_inline(&entry.value)
        }),
    }
}

/// Returns a value in one line.
fn inline(value: &SyntaxNode) -> String {
    let entry = |entry: &SyntaxEntry| match (&entry.key, inline(&entry.value)) {
        (Some(key), value) if value.is_empty() => format!("{key}:"),
        (Some(key), value) => format!("{key}: {value}"),
        (None, value) => value,
    };
    let joined = |entries: &[SyntaxEntry]| entries.iter().map(entry).collect::<Vec<_>>().join(", ");
    let text = match &value.kind {
        SyntaxKind::Empty => String::new(),
        SyntaxKind::Scalar(text) => text.clone(),
        SyntaxKind::Block { header, .. } => header.clone(),
        SyntaxKind::Map { entries, .. } if entries.is_empty() => "{}".to_owned(),
        SyntaxKind::Map { entries, .. } => format!("{{ {} }}", joined(entries)),
        SyntaxKind::List { entries, .. } => format!("[{}]", joined(entries)),
    };
    let parts = value.properties.iter().map(String::as_str).chain([text.as_str()]);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}
