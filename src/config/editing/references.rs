//! References to variables in the texts of an agents file.

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
