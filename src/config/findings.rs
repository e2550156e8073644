//! Collects what is wrong with a file while it is read.
//! Never grows without bound: from some point on, mistakes are only counted.

use std::sync::Arc;

use super::{
    diagnostic::{Beyond, Diagnostic, Diagnostics, Severity},
    source::{Extent, Source},
    tree::Node,
};

/// Collects what is found while a file is read.
#[derive(Debug)]
pub(super) struct Findings {
    family: &'static str,
    pub(super) source: Arc<Source>,
    list: Vec<Diagnostic>,
    beyond: Beyond,
    /// Parts of the file that no report may show.
    concealed: Vec<Extent>,
    /// Takes what is said of mistakes that are counted only.
    spare: Diagnostic,
}

/// Most mistakes that are kept; the rest is counted. More than anyone reads, and a bound on memory and time.
const MAX_KEPT: usize = 250;

/// From this many mistakes on, no names are compared any more: in a large file that would take minutes.
const MAX_SUGGESTIONS: usize = 50;

impl Findings {
    /// For a file whose codes start with `family::`.
    pub(super) fn new(family: &'static str, source: Arc<Source>) -> Self {
        let spare = Diagnostic {
            code: String::new(),
            severity: Severity::Error,
            message: String::new(),
            file: Arc::clone(&source.name),
            position: None,
            label: None,
            help: None,
        };
        Self { family, source, list: Vec::new(), beyond: Beyond::default(), concealed: Vec::new(), spare }
    }

    pub(super) fn error(&mut self, code: &str, at: Extent, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, Some(at), message.into())
    }

    pub(super) fn warning(&mut self, code: &str, at: Extent, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, code, Some(at), message.into())
    }

    /// The file's name, as it was given.
    pub(super) fn file(&self) -> &str {
        &self.source.name
    }

    /// An error about the file as a whole.
    pub(super) fn whole(&mut self, code: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, None, message.into())
    }

    fn push(&mut self, severity: Severity, code: &str, at: Option<Extent>, message: String) -> &mut Diagnostic {
        if self.is_full() {
            match severity {
                Severity::Error => self.beyond.errors += 1,
                Severity::Warning => self.beyond.warnings += 1,
            }
            return &mut self.spare;
        }
        let code = if self.family.is_empty() { code.to_owned() } else { format!("{}::{code}", self.family) };
        let position = at.map(|extent| self.source.position(extent));
        let file = Arc::clone(&self.source.name);
        self.list.push(Diagnostic { code, severity, message, file, position, label: None, help: None });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// `did you mean …?`, where one of `names` is close to `wanted`.
    pub(super) fn did_you_mean<'n>(&self, wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
        if self.list.len() >= MAX_SUGGESTIONS {
            return None;
        }
        crate::expression::closest(wanted, names).map(|close| format!("did you mean `{close}`?"))
    }

    /// Whether mistakes are only counted from here on.
    fn is_full(&self) -> bool {
        self.list.len() >= MAX_KEPT
    }

    /// Where a part of a text stands in the file. Only as exact as it is worth.
    pub(super) fn locate(&self, node: &Node<'_>, range: std::ops::Range<usize>) -> Extent {
        if self.is_full() { node.extent } else { node.extent_within(range, &self.source) }
    }

    /// Whether nothing was found so far.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether anything found so far keeps the file from being used.
    pub(super) fn has_errors(&self) -> bool {
        self.beyond.errors > 0 || self.list.iter().any(|found| found.severity == Severity::Error)
    }

    /// Shows this part of the file to nobody.
    pub(super) fn conceal(&mut self, extent: Extent) {
        self.concealed.push(extent);
    }

    /// All that was found, in the order of the file.
    pub(super) fn finish(self) -> Diagnostics {
        let mut list = self.list;
        list.sort_by_key(|found| found.position);
        let source = match self.concealed.as_slice() {
            [] => self.source,
            concealed => Arc::new(self.source.without(concealed)),
        };
        Diagnostics { source, list, beyond: self.beyond }
    }
}
