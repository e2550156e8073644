//! Collects the diagnostics of a file while it is read. Keeps a bounded number and counts the rest.

use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics, OverflowCounts, Severity};
use super::source::{SourceFile, SourceSpan};
use crate::expression;

/// A collector of the diagnostics of one file.
#[derive(Debug)]
pub(crate) struct DiagnosticSink {
    code_prefix: &'static str,
    pub(crate) source: Arc<SourceFile>,
    list: Vec<Diagnostic>,
    overflow: OverflowCounts,
    /// The parts of the file that reports must not show.
    redacted: Vec<SourceSpan>,
    /// A placeholder that receives the details of diagnostics that are only counted.
    discarded: Diagnostic,
}

/// The maximum number of diagnostics that are kept: more than anyone reads, and a bound on memory and time.
const MAX_DIAGNOSTICS: usize = 250;

/// The number of diagnostics after which no suggestions are computed: in a large file they would take minutes.
const MAX_SUGGESTIONS: usize = 50;

impl DiagnosticSink {
    /// Creates a sink for a file whose diagnostic codes start with `family::`.
    pub(crate) fn new(family: &'static str, source: Arc<SourceFile>) -> Self {
        let discarded = Diagnostic::new(Severity::Error, String::new(), &source.name, String::new());
        Self {
            code_prefix: family,
            source,
            list: Vec::new(),
            overflow: OverflowCounts::default(),
            redacted: Vec::new(),
            discarded,
        }
    }

    pub(crate) fn error(&mut self, code: &str, at: SourceSpan, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, Some(at), message.into())
    }

    pub(crate) fn warning(&mut self, code: &str, at: SourceSpan, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, code, Some(at), message.into())
    }

    /// Returns the file name as it was given.
    pub(crate) fn file(&self) -> &str {
        &self.source.name
    }

    /// Adds an error about the whole file.
    pub(crate) fn file_error(&mut self, code: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, None, message.into())
    }

    /// Adds a diagnostic whose severity depends on a setting.
    pub(crate) fn diagnostic(
        &mut self,
        severity: Severity,
        code: &str,
        at: SourceSpan,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(severity, code, Some(at), message.into())
    }

    fn push(&mut self, severity: Severity, code: &str, at: Option<SourceSpan>, message: String) -> &mut Diagnostic {
        if self.is_full() {
            match severity {
                Severity::Error => self.overflow.errors += 1,
                Severity::Warning => self.overflow.warnings += 1,
            }
            return &mut self.discarded;
        }
        let code = format!("{}::{code}", self.code_prefix);
        let position = at.map(|span| self.source.position(span));
        let diagnostic = Diagnostic::new(severity, code, &self.source.name, message);
        self.list.push(Diagnostic { position, ..diagnostic });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Returns `did you mean …?`, if one of `names` is similar to `unknown`.
    pub(crate) fn did_you_mean<'n>(&self, unknown: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
        if self.list.len() >= MAX_SUGGESTIONS {
            return None;
        }
        expression::did_you_mean(unknown, names)
    }

    /// Returns the help for an unknown name: a similar name, or else the list of known names with these `texts`.
    pub(crate) fn suggest<'n>(
        &self,
        unknown: &str,
        known: impl Iterator<Item = &'n str> + Clone,
        texts: (&str, &str),
    ) -> String {
        self.did_you_mean(unknown, known.clone()).unwrap_or_else(|| expression::list_names(known, texts))
    }

    /// Returns whether further diagnostics are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_DIAGNOSTICS
    }

    /// Returns whether no diagnostics were found so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns whether any error was found so far.
    pub(crate) fn has_errors(&self) -> bool {
        self.overflow.errors > 0 || self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Excludes a part of the file from reports.
    pub(crate) fn redact(&mut self, span: SourceSpan) {
        self.redacted.push(span);
    }

    /// Returns all diagnostics in the order of the file.
    pub(crate) fn finish(self) -> Diagnostics {
        let mut list = self.list;
        list.sort_by_key(|diagnostic| diagnostic.position);
        let source = match self.redacted.as_slice() {
            [] => self.source,
            concealed => Arc::new(self.source.redacted(concealed)),
        };
        Diagnostics { source, list, overflow: self.overflow }
    }
}
