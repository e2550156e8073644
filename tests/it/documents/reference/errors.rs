//! `errors.md` is written by hand; this checks that it explains every code that the sources can print, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::rust_items::sources_below;
use crate::documents::markdown::{Document, root};

/// What precedes a code of a diagnostic about a file, whose family depends on the file.
const DIAGNOSTICS: [&str; 6] = [".error(", ".warning(", ".file_error(", ".fail(", "Severity::Error,", "severity,"];

/// What follows the code of a value that is of the wrong form: its message.
const FORM_MESSAGES: [&str; 2] = ["\", \"must be", "\", format!(\"must be"];

#[test]
fn every_error_code_is_explained() {
    let codes = codes_of_sources();
    for known in ["cli::unknown_task", "journal::damaged", "llm::invalid_key", "*::missing_key", "*::out_of_range"] {
        assert!(codes.contains(known), "`{known}` was not found in {codes:?}");
    }
    let explained = explained_codes();
    let missing: Vec<_> = codes.difference(&explained).collect();
    let unknown: Vec<_> = explained.difference(&codes).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, not in the sources: {unknown:?}");
}

/// Returns the codes in the first column of the tables. Each has a sentence.
fn explained_codes() -> BTreeSet<String> {
    let page = Document::read(Path::new("docs/reference/errors.md")).text;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let codes = rows.map(|row| {
        let (code, about) = row.split_once("` | ").expect("two columns");
        assert!(about.trim_end_matches([' ', '|']).ends_with('.'), "`{code}` has no sentence");
        code.to_owned()
    });
    codes.collect()
}

/// Returns all codes, with `*` for a family that depends on the file.
fn codes_of_sources() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for path in sources_below("src") {
        let text = fs::read_to_string(root().join(&path)).expect("a source file");
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        codes.extend(product.split('"').filter(|part| is_code(part)).map(str::to_owned));
        let attributes = product.split("code(").skip(1).filter_map(|rest| rest.split(')').next());
        codes.extend(attributes.filter(|part| is_code(part)).map(str::to_owned));
        if path.starts_with("src/config") {
            let mut words: BTreeSet<&str> = BTreeSet::new();
            for marker in DIAGNOSTICS {
                words.extend(product.split(marker).skip(1).filter_map(first_literal));
            }
            for marker in FORM_MESSAGES {
                words.extend(product.match_indices(marker).filter_map(|(at, _)| product[..at].rsplit('"').next()));
            }
            codes.extend(words.into_iter().filter(|word| is_word(word)).map(|word| format!("*::{word}")));
        }
    }
    codes
}

/// Returns the string literal that follows.
fn first_literal(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

fn is_code(text: &str) -> bool {
    text.split_once("::").is_some_and(|(family, name)| is_word(family) && is_word(name))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}
