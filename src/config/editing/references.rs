//! References to variables in the texts of an agents file.

use crate::config::agents::redaction::is_variable_name;

/// Returns the variable that a text consists of, such as `TOKEN` of `${TOKEN}`.
pub(crate) fn referenced_variable(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}').filter(|name| is_variable_name(name))
}

/// Returns the text with a replacement for each `${…}`.
pub(crate) fn replace_references(text: &str, replacement: &str) -> String {
    let (mut replaced, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("${") {
        replaced += before;
        replaced += replacement;
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    replaced + rest
}
