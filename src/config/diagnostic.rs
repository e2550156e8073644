//! What is wrong with a file, where, and what to do about it; for people through miette, for programs as JSON.
//! Never stops at the first mistake.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::tree::Node;

/// Most mistakes that a report shows in full; the count is never cut.
pub const MAX_SHOWN: usize = 50;

/// Whether a mistake keeps the file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// What kind of mistake, such as `plan::unknown_task`.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lowercase, no full stop.
    pub message: String,
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Where in the file, unless the mistake is about all of it.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// What to say at the place itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Bytes before it.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
}

impl Diagnostic {
    /// Says something at the place itself.
    pub(super) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// Says what to do.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Says what to do, where that is known.
    pub(super) fn maybe_help(&mut self, help: Option<String>) -> &mut Self {
        if help.is_some() {
            self.help = help;
        }
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let position = self.position?;
        let span = miette::LabeledSpan::new(self.label.clone(), position.offset, position.length);
        Some(Box::new(std::iter::once(span)))
    }
}

/// All that is wrong with a file, with the file's text to show it in.
///
/// As a `miette::Diagnostic` it is a headline with the first [`MAX_SHOWN`] mistakes as related ones; its
/// `Display` is the plain form, one mistake a line with its help under it.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    source: Arc<Source>,
    list: Vec<Diagnostic>,
    beyond: Beyond,
}

/// How many mistakes were counted without being kept.
#[derive(Debug, Clone, Copy, Default)]
struct Beyond {
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// The mistakes, in the order of the file; of a file with very many, a part.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|found| found.severity == Severity::Error).count() + self.beyond.errors
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.list.iter().filter(|found| found.severity == Severity::Warning).count() + self.beyond.warnings
    }

    /// Whether there are none, not even warnings.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One mistake that is about a file as a whole, or about something that is no file.
    pub fn whole_file(file: &str, code: &str, message: impl Into<String>) -> Self {
        let mut findings = Findings::new("", Arc::new(Source::new(file, String::new())));
        findings.whole(code, message.into());
        findings.finish()
    }

    /// Mistakes in something that is no file: what it is, then code, message and advice of each.
    pub(super) fn without_file(
        name: &str,
        mistakes: impl IntoIterator<Item = (&'static str, String, Option<String>)>,
    ) -> Self {
        let mut findings = Findings::new("", Arc::new(Source::new(name, String::new())));
        for (code, message, help) in mistakes {
            findings.whole(code, message).maybe_help(help);
        }
        findings.finish()
    }

    /// The same with advice on the last mistake.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        if let Some(last) = self.list.last_mut() {
            last.help = Some(help.into());
        }
        self
    }

    fn headline(&self) -> String {
        let file = &self.source.name;
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (errors, warnings) = (self.errors(), self.warnings());
        let found = match (errors, warnings) {
            (errors, 0) => count(errors, "mistake"),
            (0, warnings) => count(warnings, "warning"),
            (errors, warnings) => format!("{} and {}", count(errors, "mistake"), count(warnings, "warning")),
        };
        let cut = match errors + warnings {
            ..=MAX_SHOWN => String::new(),
            _ => format!("; here are the first {MAX_SHOWN}"),
        };
        format!("{found} in `{file}`{cut}")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in self.list.iter().take(MAX_SHOWN) {
            f.write_str(&found.file)?;
            if let Some(position) = found.position {
                write!(f, ":{}:{}", position.line, position.column)?;
            }
            let severity = match found.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            writeln!(f, ": {severity}[{}]: {}", found.code, found.message)?;
            if let Some(help) = &found.help {
                writeln!(f, "  help: {help}")?;
            }
        }
        f.write_str(&self.headline())
    }
}

impl std::error::Error for Diagnostics {}

/// The headline alone, for a report that shows the mistakes below it.
#[derive(Debug)]
struct Headline<'d>(&'d Diagnostics);

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.headline())
    }
}

impl std::error::Error for Headline<'_> {}

impl miette::Diagnostic for Headline<'_> {
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&*self.0.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.0.list.iter().take(MAX_SHOWN).map(|found| found as &dyn miette::Diagnostic)))
    }
}

impl Diagnostics {
    /// The form in which `miette`'s handlers print it.
    pub fn report(&self) -> impl miette::Diagnostic + '_ {
        Headline(self)
    }
}

impl Serialize for Diagnostics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}

/// A file's name and text, with the places where its lines start.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) text: String,
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: &str, text: String) -> Self {
        let starts = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { name: name.into(), text, lines }
    }

    /// The line in which an extent starts, from 1.
    pub(super) fn line(&self, extent: Extent) -> usize {
        self.lines.partition_point(|&start| start <= extent.start)
    }

    /// The line and column of an extent.
    pub(super) fn position(&self, extent: Extent) -> Position {
        let offset = floor(&self.text, extent.start);
        let end = floor(&self.text, extent.end).max(offset);
        let line = self.lines.partition_point(|&start| start <= offset);
        let column = self.text[self.lines[line - 1]..offset].chars().count() + 1;
        Position { offset, length: end - offset, line, column }
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

impl miette::SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        // `str` would count its way from the start of the file each time; the line starts are known here.
        let at = self.position(Extent { start: span.offset(), end: span.offset() + span.len() });
        let last_line = self.lines.partition_point(|&start| start <= at.offset + at.length);
        let first = (at.line - 1).saturating_sub(before);
        let last = (last_line + after).min(self.lines.len());
        let context = self.lines[first]..self.lines.get(last).map_or(self.text.len(), |&next| next);
        // Without lines before it, miette takes what is shown to start at the place itself.
        let (start, end, first, column) = if before == 0 {
            (at.offset, context.end, at.line - 1, at.column - 1)
        } else if context.len() > MAX_CONTEXT {
            let start = floor(&self.text, at.offset.saturating_sub(80).max(self.lines[at.line - 1]));
            (start, context.end, at.line - 1, at.column - 1 - self.text[start..at.offset].chars().count())
        } else {
            (context.start, context.end, first, 0)
        };
        let end = floor(&self.text, end.min(start + MAX_CONTEXT)).max(start);
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.name.to_string(),
            &self.text.as_bytes()[start..end],
            (start, end - start).into(),
            first,
            column,
            last - first,
        )))
    }
}

/// Most bytes of the file that a mistake is shown with: a file can be a single line.
const MAX_CONTEXT: usize = 2_000;

/// A part of a file, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Collects what is found while a file is read.
#[derive(Debug)]
pub(super) struct Findings {
    family: &'static str,
    pub(super) source: Arc<Source>,
    list: Vec<Diagnostic>,
    beyond: Beyond,
    /// Takes what is said of mistakes that are counted only.
    spare: Diagnostic,
}

/// Most mistakes that are kept; the rest is counted. More than anyone reads, and a bound on memory and time.
const MAX_KEPT: usize = 1_000;

/// From this many mistakes on, no names are compared any more: in a large file that would take minutes.
const MAX_SUGGESTIONS: usize = 200;

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
        Self { family, source, list: Vec::new(), beyond: Beyond::default(), spare }
    }

    pub(super) fn error(&mut self, code: &str, at: Extent, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, Some(at), message.into())
    }

    pub(super) fn warning(&mut self, code: &str, at: Extent, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, code, Some(at), message.into())
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
    pub(super) fn locate(&self, node: &Node, range: std::ops::Range<usize>) -> Extent {
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

    /// All that was found, in the order of the file.
    pub(super) fn finish(self) -> Diagnostics {
        let mut list = self.list;
        list.sort_by_key(|found| found.position);
        Diagnostics { source: self.source, list, beyond: self.beyond }
    }
}
