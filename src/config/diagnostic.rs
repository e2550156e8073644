//! What is wrong with a file, where, and what to do about it; for people through miette, for programs as JSON.
//! Never stops at the first mistake.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::{diagnostic_sink::DiagnosticSink, source::SourceFile};
use crate::model::text::{printable, printable_text};

/// Most mistakes that a report shows in full; the count is never cut.
pub const MAX_SHOWN_DIAGNOSTICS: usize = 50;

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
    pub(super) fn help_if_known(&mut self, help: Option<String>) -> &mut Self {
        if help.is_some() {
            self.help = help;
        }
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))
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
        self.help.as_ref().map(|help| Box::new(printable_text(help)) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        let position = self.position?;
        let label = self.label.as_deref().map(|label| printable(label).into_owned());
        let span = miette::LabeledSpan::new(label, position.offset, position.length);
        Some(Box::new(std::iter::once(span)))
    }
}

/// All that is wrong with a file, with the file's text to show it in.
///
/// As a `miette::Diagnostic` it is a headline with the first [`MAX_SHOWN_DIAGNOSTICS`] mistakes as related ones; its
/// `Display` is the plain form, one mistake a line with its help under it.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    pub(super) source: Arc<SourceFile>,
    pub(super) list: Vec<Diagnostic>,
    pub(super) overflow: OverflowCounts,
}

/// How many mistakes were counted without being kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OverflowCounts {
    pub(super) errors: usize,
    pub(super) warnings: usize,
}

impl Diagnostics {
    /// The mistakes, in the order of the file; of a file with very many, a part.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|found| found.severity == Severity::Error).count() + self.overflow.errors
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.list.iter().filter(|found| found.severity == Severity::Warning).count() + self.overflow.warnings
    }

    /// Whether there are none, not even warnings.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One mistake that is about a file as a whole, or about something that is no file.
    pub fn for_file(file: &str, code: &str, message: impl Into<String>) -> Self {
        let mut findings = DiagnosticSink::new("", Arc::new(SourceFile::new(file, String::new())));
        findings.file_error(code, message.into());
        findings.finish()
    }

    /// Mistakes in something that is no file: what it is, then code, message and advice of each.
    pub(super) fn for_input(
        name: &str,
        mistakes: impl IntoIterator<Item = (&'static str, String, Option<String>)>,
    ) -> Self {
        let mut findings = DiagnosticSink::new("", Arc::new(SourceFile::new(name, String::new())));
        for (code, message, help) in mistakes {
            findings.file_error(code, message).help_if_known(help);
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

    /// The same with one more mistake, which is about the file as a whole.
    #[must_use]
    pub fn with_error(mut self, code: &str, message: impl Into<String>) -> Self {
        let (severity, file) = (Severity::Error, Arc::clone(&self.source.name));
        let code = code.to_owned();
        self.list.push(Diagnostic {
            code,
            severity,
            message: message.into(),
            file,
            position: None,
            label: None,
            help: None,
        });
        self
    }

    fn headline(&self) -> String {
        let file = printable(&self.source.name);
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (errors, warnings) = (self.errors(), self.warnings());
        let found = match (errors, warnings) {
            (errors, 0) => count(errors, "mistake"),
            (0, warnings) => count(warnings, "warning"),
            (errors, warnings) => format!("{} and {}", count(errors, "mistake"), count(warnings, "warning")),
        };
        let cut = match errors + warnings {
            ..=MAX_SHOWN_DIAGNOSTICS => String::new(),
            _ => format!("; here are the first {MAX_SHOWN_DIAGNOSTICS}"),
        };
        format!("{found} in `{file}`{cut}")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in self.list.iter().take(MAX_SHOWN_DIAGNOSTICS) {
            f.write_str(&printable(&found.file))?;
            if let Some(position) = found.position {
                write!(f, ":{}:{}", position.line, position.column)?;
            }
            let severity = match found.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            writeln!(f, ": {severity}[{}]: {}", found.code, printable(&found.message))?;
            if let Some(help) = &found.help {
                writeln!(f, "  help: {}", printable_text(help))?;
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
        Some(Box::new(self.0.list.iter().take(MAX_SHOWN_DIAGNOSTICS).map(|found| found as &dyn miette::Diagnostic)))
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
