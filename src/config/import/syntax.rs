//! Reads JSON with comments, YAML, and TOML as plain data.

use std::sync::Arc;

use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;

use super::file_format::Syntax;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::{SourceFile, SourceSpan};
use crate::config::yaml::parser::read_data;

/// Reads a file as plain data; diagnostics use `name` as the file name.
///
/// # Errors
/// Returns the position of the first error. Diagnostics never show the file, because it may contain secrets.
pub(super) fn read_value(syntax: Syntax, name: &str, text: &str) -> Result<Value, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let fail = |message: String, at: usize| {
        let mut sink = DiagnosticSink::new("import", Arc::new(SourceFile::new(name, text.to_owned())));
        sink.error("syntax", SourceSpan { start: at, end: at }, message);
        sink.redact(SourceSpan { start: 0, end: text.len() });
        sink.finish()
    };
    match syntax {
        Syntax::Json => parse_to_serde_value(text, &ParseOptions::default())
            .map_err(|error| fail(format!("invalid JSON: {}", error.kind()), error.range().start)),
        Syntax::Yaml => read_data(name, text),
        Syntax::Toml => toml_edit::de::from_str(text).map_err(|error| {
            fail(format!("invalid TOML: {}", error.message()), error.span().unwrap_or_default().start)
        }),
    }
}
