//! The problems of a file, with positions and suggestions; rendered for people by miette and as JSON for programs.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::source::{Position, SourceFile};
use crate::model::text::{printable, printable_text};

/// The maximum number of diagnostics that a report shows. The counts include all of them.
pub const MAX_SHOWN_DIAGNOSTICS: usize = 50;

/// The severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A problem that prevents the use of the file.
    Error,
    /// A problem that does not prevent the use of the file.
    Warning,
}

/// A problem in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The kind of problem, such as `plan::unknown_task`.
    pub code: String,
    /// The severity of the problem.
    pub severity: Severity,
    /// The description of the problem: lowercase, without a final period.
    pub message: String,
    /// The file name as it was given.
    pub file: Arc<str>,
    /// The position of the problem, unless it concerns the whole file.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// The text to show at the position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The suggested fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// Creates a diagnostic without a position.
    pub(super) fn new(severity: Severity, code: String, file: &Arc<str>, message: String) -> Self {
        Self { code, severity, message, file: Arc::clone(file), position: None, label: None, help: None }
    }

    /// Sets the text to show at the position.
    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// Sets the suggested fix.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the suggested fix, if it is known.
    pub(crate) fn help_if_known(&mut self, help: Option<String>) -> &mut Self {
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

/// All problems of a file, and the text of the file to show them in.
///
/// [`Self::report`] renders a headline and the first [`MAX_SHOWN_DIAGNOSTICS`] diagnostics with miette. `Display` is
/// the plain form: one diagnostic a line, followed by its help.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    pub(crate) source: Arc<SourceFile>,
    pub(crate) list: Vec<Diagnostic>,
    pub(crate) overflow: OverflowCounts,
}

/// The number of diagnostics that were counted but not kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OverflowCounts {
    pub(crate) errors: usize,
    pub(crate) warnings: usize,
}

impl Diagnostics {
    /// Returns the diagnostics in the order of the file. The list is incomplete if a file has very many.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Returns the number of errors, including those that are not in the list.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count() + self.overflow.errors
    }

    /// Returns the number of warnings, including those that are not in the list.
    pub fn warnings(&self) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity == Severity::Warning).count() + self.overflow.warnings
    }

    /// Returns whether the list has neither errors nor warnings.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns one error about a whole file, or about an input that is not a file.
    pub fn for_file(file: &str, code: &str, message: impl Into<String>) -> Self {
        let source = Arc::new(SourceFile::new(file, String::new()));
        let empty = Self { source, list: Vec::new(), overflow: OverflowCounts::default() };
        empty.with_error(code, message)
    }

    /// Sets the help of the last diagnostic.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        if let Some(last) = self.list.last_mut() {
            last.help = Some(help.into());
        }
        self
    }

    /// Appends an error about the whole file.
    #[must_use]
    pub fn with_error(mut self, code: &str, message: impl Into<String>) -> Self {
        self.list.push(Diagnostic::new(Severity::Error, code.to_owned(), &self.source.name, message.into()));
        self
    }

    fn headline(&self) -> String {
        let file = printable(&self.source.name);
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (errors, warnings) = (self.errors(), self.warnings());
        let counts = match (errors, warnings) {
            (errors, 0) => count(errors, "error"),
            (0, warnings) => count(warnings, "warning"),
            (errors, warnings) => format!("{} and {}", count(errors, "error"), count(warnings, "warning")),
        };
        let cut = match errors + warnings {
            ..=MAX_SHOWN_DIAGNOSTICS => String::new(),
            _ => format!("; showing the first {MAX_SHOWN_DIAGNOSTICS}"),
        };
        format!("{counts} in `{file}`{cut}")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.list.iter().take(MAX_SHOWN_DIAGNOSTICS) {
            f.write_str(&printable(&diagnostic.file))?;
            if let Some(position) = diagnostic.position {
                write!(f, ":{}:{}", position.line, position.column)?;
            }
            let severity = match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            writeln!(f, ": {severity}[{}]: {}", diagnostic.code, printable(&diagnostic.message))?;
            if let Some(help) = &diagnostic.help {
                writeln!(f, "  help: {}", printable_text(help))?;
            }
        }
        f.write_str(&self.headline())
    }
}

impl std::error::Error for Diagnostics {}

/// The headline of a report, with the diagnostics as related ones.
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
        Some(Box::new(
            self.0.list.iter().take(MAX_SHOWN_DIAGNOSTICS).map(|diagnostic| diagnostic as &dyn miette::Diagnostic),
        ))
    }
}

impl Diagnostics {
    /// Returns the form that `miette`'s handlers print.
    pub fn report(&self) -> impl miette::Diagnostic + '_ {
        Headline(self)
    }
}

impl Serialize for Diagnostics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}
