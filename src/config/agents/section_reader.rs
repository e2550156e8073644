//! Reads what the sections of agents and of language models have in common: headers, secrets, and URLs.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::environment::{Environment as _, add_unset};
use super::redaction;
use super::secret_collector::{SecretCollector, is_secret_name};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::schema::table::{CheckedTable, Key, KeySchema};
use crate::config::yaml::document::DocumentNode;

/// A reader of one section.
pub(super) struct SectionReader<'n, K> {
    pub(super) fields: CheckedTable<'n, K>,
    pub(super) environment: &'n SecretCollector<'n>,
    /// The directory of the file, where relative paths start.
    pub(super) base: &'n Path,
    /// The position of the section's name.
    pub(super) span: SourceSpan,
    /// The variables that the section needs and that are not set.
    pub(super) unset: &'n RefCell<Vec<String>>,
}

impl<K> SectionReader<'_, K> {
    /// Returns the path that is the value of `key`.
    pub(super) fn read_path(&self, key: &Key<K>) -> Option<PathBuf> {
        self.fields.text(key).map(|path| absolute_from(self.base, path))
    }

    /// Returns the headers with literal values and those with values from variables.
    pub(super) fn read_headers(
        &self,
        (literal, from_variables): (&Key<K>, &Key<K>),
        sink: &mut DiagnosticSink,
    ) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (name, node, value) in self.fields.text_map(literal) {
            check_header((name, value), node.span, sink);
            if node.is_secret && is_secret_name(name) {
                self.environment.add_header(value);
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        for (name, node, variable) in self.fields.text_map(from_variables) {
            if let Some(value) = self.read_variable(variable, node, sink) {
                check_header((name, &value), node.span, sink);
                if is_secret_name(name) {
                    self.environment.add_header(&value);
                }
                headers.push((name.to_owned(), value));
            }
        }
        headers
    }

    /// Returns the value of the variable that `key` refers to.
    pub(super) fn read_secret(&self, key: &Key<K>, sink: &mut DiagnosticSink) -> Option<String> {
        let node = self.fields.node(key)?;
        let value = self.read_variable(node.as_text()?, node, sink)?;
        self.environment.add(&value);
        if http::HeaderValue::from_str(&value).is_err() {
            let message = format!("the value of the environment variable `{}` is not a valid header value", key.name);
            sink.error("header", node.span, message).help("check for a line break at its end");
        }
        Some(value)
    }

    /// Returns the value of the variable `name`, which is the text of `node`. Records a variable that is not set.
    fn read_variable(&self, name: &str, node: &DocumentNode<'_>, sink: &mut DiagnosticSink) -> Option<String> {
        if !redaction::is_variable_name(name) {
            let error = sink.error("variable", node.span, "expected the name of an environment variable");
            error.help("store the secret in an environment variable, and write the name of the variable here");
            return None;
        }
        let value = self.environment.variable(name).filter(|value| !value.is_empty());
        if value.is_none() {
            add_unset(&mut self.unset.borrow_mut(), name);
        }
        value
    }
}

/// Returns the path as an absolute one. A relative path starts at `base`.
pub(super) fn absolute_from(base: &Path, path: &str) -> PathBuf {
    // Collecting the parts removes `.` among them.
    base.join(path).components().collect()
}

fn check_header((name, value): (&str, &str), at: SourceSpan, sink: &mut DiagnosticSink) {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        sink.error("header", at, format!("`{name}` is not a valid header name"));
    }
    if http::HeaderValue::from_str(value).is_err() {
        sink.error("header", at, format!("the value of the header `{name}` is not valid"));
    }
}

/// Returns the URL in `node`, if it is valid. Errors do not repeat the URL, because it may contain secrets.
pub(super) fn parse_url(node: &DocumentNode<'_>, key: &KeySchema, sink: &mut DiagnosticSink) -> Option<String> {
    let text = node.as_text()?;
    let problem = match text.parse::<http::Uri>() {
        Err(_) => Some("is not a valid URL"),
        Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => Some("does not start with `http(s)://`"),
        Ok(uri) if uri.host().is_none_or(str::is_empty) => Some("has no host"),
        Ok(_) => None,
    };
    match problem {
        Some(problem) => {
            let error = sink.error("bad_url", node.span, format!("`{}` {problem}", key.name));
            error.help("expected a URL such as `http://127.0.0.1:8006/mcp`");
            None
        }
        None => Some(text.to_owned()),
    }
}
