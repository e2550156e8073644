//! Exit codes, and the errors that end a command.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::{fmt, iter};

use miette::{MietteHandlerOpts, ReportHandler};
use owo_colors::OwoColorize;
use serde::Serialize;
use serde_json::{Value, json};
use textwrap::{WordSeparator, WordSplitter};

use super::args::OutputFormat;
use super::output::has_color;
use crate::HostError;
use crate::config::Diagnostics;
use crate::journal::{self, JournalError, RecoveryScan};
use crate::llm::EndpointError;
use crate::model::{EndCause, Failure, RunStatus};
use crate::planner::PlanError;
use crate::view::text::{count_text, printable_styled, printable_text, printable_unstyled, safe_json};

/// The exit codes, which `docs/reference/exit-codes.md` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All tasks succeeded.
    Success = 0,
    /// A task failed, or the host did.
    Failed = 1,
    /// The command line, a plan or an agents file is wrong.
    Usage = 2,
    /// Some tasks failed, and the plan allows the run to continue without them.
    Partial = 3,
    /// The run is paused on questions that cannot be answered here.
    Paused = 4,
    /// The plan's budget is spent.
    BudgetSpent = 5,
    /// A required agent is unavailable.
    AgentUnavailable = 6,
    /// A person declined an approval that the plan asked for.
    Denied = 7,
    /// A person interrupted the run.
    Interrupted = 130,
}

impl Exit {
    /// Returns the exit code of a run with this status and cause.
    pub fn of_run(status: RunStatus, cause: Option<&EndCause>) -> Self {
        match (status, cause) {
            (_, Some(EndCause::BudgetSpent { .. })) => Self::BudgetSpent,
            (RunStatus::Succeeded, _) => Self::Success,
            (RunStatus::Partial, _) => Self::Partial,
            (RunStatus::Failed, Some(EndCause::RequiredAgentUnavailable { .. })) => Self::AgentUnavailable,
            (RunStatus::Failed, Some(EndCause::Denied)) => Self::Denied,
            (RunStatus::Failed | RunStatus::Running, _) => Self::Failed,
            (RunStatus::Paused, _) => Self::Paused,
            (RunStatus::Cancelled | RunStatus::Interrupted, _) => Self::Interrupted,
        }
    }

    /// All exit codes.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::Partial,
        Self::Paused,
        Self::BudgetSpent,
        Self::AgentUnavailable,
        Self::Denied,
        Self::Interrupted,
    ];

    /// Returns the meaning of the exit code, as the help of commands shows it.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "a task or the command itself failed",
            Self::Usage => "the command line, a plan, or an agents file is invalid",
            Self::Partial => "partly succeeded: the plan allowed the run to continue without what failed",
            Self::Paused => "paused: the run waits for questions or for the approval of a plan",
            Self::BudgetSpent => "the budget is spent; all results so far are kept",
            Self::AgentUnavailable => "a required agent is unavailable",
            Self::Denied => "a person denied an approval",
            Self::Interrupted => "interrupted",
        }
    }

    /// Returns the exit code with this number, if it is known.
    pub fn of_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| i32::from(exit.code()) == code)
    }

    /// Returns the number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that ends a command. Each has a stable code, such as `cli::unknown_task`.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A file is wrong.
    #[error(transparent)]
    File(#[from] Diagnostics),
    /// The command line is wrong.
    #[error("{message}")]
    Usage {
        /// The code of the error.
        code: &'static str,
        /// The description of the error.
        message: String,
        /// The way to fix it.
        help: Option<String>,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A goal could not be planned.
    #[error(transparent)]
    Plan(#[from] Box<PlanError>),
    /// A language model of the agents file cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A login to the server of an agent failed.
    #[error("{0}")]
    Login(Failure),
    /// A failure that was shown already.
    #[error("the error was shown already")]
    Shown(Exit),
    /// A failure of something that the command needs.
    #[error("{doing}")]
    Failed {
        /// The code of the error.
        code: &'static str,
        /// The operation that failed.
        doing: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Login(failure)
    }
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Journal(error) => Self::Journal(error),
            HostError::Ended { run, status } => Self::usage(
                "cli::nothing_to_resume",
                format!("run `{}` has already ended: {status}", run.short()),
                match status {
                    RunStatus::Succeeded => format!(
                        "`kapell result {0}` prints its result; `kapell retry {0} --from TASK` reruns a part of it",
                        run.short()
                    ),
                    _ => format!(
                        "`kapell runs show {0}` shows its outcome; `kapell retry {0}` reruns what did not succeed",
                        run.short()
                    ),
                },
            ),
            HostError::Model(source) => {
                Self::failed("cli::invalid_model", "a language model of the agents file is not usable", source)
            }
            HostError::Signals(source) => Self::failed("cli::signals", "termination signals cannot be handled", source),
            HostError::Contents { run, source } => {
                Self::failed("cli::missing_file", format!("a result of run `{}` cannot be read", run.short()), source)
            }
            HostError::Fold { run, source } => {
                Self::failed("cli::invalid_run", format!("run `{}` cannot be read", run.short()), source)
            }
            // The command has printed how to resume the run.
            HostError::Stopped { .. } => Self::Shown(Exit::Interrupted),
            HostError::Unfinished { run, source } => {
                Self::failed("cli::run_failed", format!("run `{}` stopped before its end", run.short()), source)
            }
        }
    }
}

impl CliError {
    /// Returns an error of the command line.
    pub(crate) fn usage(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Usage { code, message: message.into(), help: Some(help.into()) }
    }

    /// Returns an error for a failure of something that the command needs.
    pub(crate) fn failed(
        code: &'static str,
        doing: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Failed { code, doing: doing.into(), source: Box::new(source) }
    }

    /// Returns the error of the journal that is the error itself or its cause.
    fn journal_error(&self) -> Option<&JournalError> {
        let causes = iter::successors(Some(self as &dyn Error), |&cause| cause.source());
        match self {
            Self::Journal(error) => Some(error),
            _ => causes.filter_map(|cause| cause.downcast_ref::<JournalError>()).next(),
        }
    }

    /// Returns the error that determines code and help. The journal's error is more specific than what it caused.
    fn diagnostic(&self) -> Option<&dyn miette::Diagnostic> {
        match (self, self.journal_error()) {
            (_, Some(error)) => Some(error),
            (Self::Plan(error), None) => Some(&**error),
            (Self::Endpoint(error), None) => Some(error),
            _ => None,
        }
    }

    /// Returns the stable code of the error, if it has one.
    fn code(&self) -> Option<String> {
        match (self, self.diagnostic()) {
            (_, Some(error)) => error.code().map(|code| code.to_string()),
            (Self::Usage { code, .. } | Self::Failed { code, .. }, None) => Some((*code).to_owned()),
            (Self::Login(_), None) => Some("cli::login_failed".to_owned()),
            _ => None,
        }
    }

    /// Returns the way to fix the error, if it is known.
    fn help(&self) -> Option<String> {
        match (self, self.diagnostic()) {
            (_, Some(error)) => error.help().map(|help| help.to_string()),
            (Self::Usage { help, .. }, None) => help.clone(),
            (Self::Login(failure), None) => failure.help.clone(),
            _ => None,
        }
    }

    /// Returns the error as JSON: `{error: {code, message, causes, help, exit_code, diagnostics}}`. The diagnostics are those
    /// of a file.
    fn json(&self) -> Value {
        let mut causes = iter::successors(Some(self as &dyn Error), |&cause| cause.source()).map(ToString::to_string);
        let message = causes.next();
        let mut error = json!({
            "code": self.code(), "message": message, "causes": causes.collect::<Vec<_>>(), "help": self.help(),
            "exit_code": self.exit().code(),
        });
        if let Self::File(diagnostics) = self {
            error["code"] = "cli::invalid_file".into();
            error["message"] = format!("{} in the file", count_text(diagnostics.errors(), "error")).into();
            error["diagnostics"] = serde_json::to_value(diagnostics.list()).unwrap_or_default();
        }
        json!({ "error": error })
    }

    /// Returns the exit code of the error.
    fn exit(&self) -> Exit {
        match self {
            Self::File(_) | Self::Usage { .. } => Exit::Usage,
            Self::Journal(
                JournalError::UnknownRun { .. }
                | JournalError::AmbiguousRun { .. }
                | JournalError::RunEnded { .. }
                | JournalError::AlreadyAnswered { .. },
            ) => Exit::Usage,
            Self::Plan(error) if matches!(**error, PlanError::Unanswered { .. }) => Exit::Paused,
            Self::Journal(_) | Self::Plan(_) | Self::Endpoint(_) | Self::Login(_) | Self::Failed { .. } => Exit::Failed,
            Self::Shown(exit) => *exit,
        }
    }

    /// Prints the error to stderr, and returns its exit code.
    pub(crate) fn report(self) -> Exit {
        self.report_to(OutputFormat::Text)
    }

    /// Prints the error to stderr, and as an object to stdout if that is `Json`. Returns its exit code.
    pub(crate) fn report_to(self, stdout: OutputFormat) -> Exit {
        let exit = self.exit();
        if stdout == OutputFormat::Json && !matches!(self, Self::Shown(_)) {
            // A closed stdout must not hide the error on stderr.
            let _ = print_json(&self.json());
        }
        match self {
            Self::File(diagnostics) => show_diagnostics(&diagnostics),
            Self::Shown(_) => {}
            other => {
                message!("{}", WrappedError(&other));
                if let Some(journal) = other.journal_error().and_then(JournalError::damaged_journal) {
                    message!("{}", describe_scan(&journal::store(journal).recovery_scan()));
                }
            }
        }
        exit
    }
}

/// Describes in a line or two what can be read of a damaged journal.
fn describe_scan(scan: &RecoveryScan) -> String {
    if scan.intact.is_empty() && scan.damaged.is_empty() {
        return "no run in it is readable".to_owned();
    }
    let intact = scan.intact.iter().map(|run| format!("\n  {}", run.short()));
    let damaged = scan.damaged.iter().map(|(run, events)| format!("\n  {}: {events} events", run.short()));
    let lines: String = intact.chain(damaged).collect();
    format!(
        "`kapell logs RUN --output json` exports the readable events of a run; these runs are readable, some of them in part:{lines}"
    )
}

/// An error formatted for people, like a diagnostic of a file. Lines are wrapped on a terminal only; elsewhere, commands
/// and IDs stay in one piece.
struct WrappedError<'e>(&'e CliError);

impl fmt::Display for WrappedError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped before styles are added, so that styles never come from outside.
        let escaped = |text: String| printable_text(&text).into_owned();
        let causes = iter::successors(Some(self.0 as &dyn Error), |&cause| cause.source());
        let mut messages = causes.map(|cause| escaped(cause.to_string()));
        let code = self.0.code().map(|code| format!("[{}]", escaped(code))).unwrap_or_default();
        let head = format!("error{code}");
        let head = head.red().bold().to_string();
        let mut lines = vec![format!("{head}: {}", messages.next().unwrap_or_default())];
        lines.extend(messages.map(|cause| format!("  caused by: {cause}")));
        lines.extend(self.0.help().map(|help| format!("  help: {}", escaped(help))));
        let text = lines.join("\n");
        match console::Term::stderr().size_checked() {
            Some((_, columns)) if io::stderr().is_terminal() => {
                let wrapped = text.lines().map(|line| wrap_line(line, columns.into()));
                f.write_str(&wrapped.collect::<Vec<_>>().join("\n"))
            }
            _ => f.write_str(&text),
        }
    }
}

/// Wraps a line at a width, and indents what follows below its beginning.
fn wrap_line(line: &str, width: usize) -> String {
    wrap_with_indent(line, width, line.len() - line.trim_start().len() + 2)
}

/// Wraps a line at a width, and indents what follows.
fn wrap_with_indent(line: &str, width: usize, indent: usize) -> String {
    let indent = " ".repeat(indent);
    let options = textwrap::Options::new(width).subsequent_indent(&indent).break_words(false);
    let options = options.word_separator(WordSeparator::AsciiSpace).word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(line, options)
}

/// Prints the diagnostics of a file to stderr: with source excerpts on a terminal, one diagnostic a line elsewhere.
pub(crate) fn show_diagnostics(diagnostics: &Diagnostics) {
    struct RenderedDiagnostics<'d>(&'d Diagnostics);
    impl fmt::Display for RenderedDiagnostics<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            MietteHandlerOpts::new().color(has_color(&io::stderr())).build().debug(&self.0.report(), f)
        }
    }
    if io::stderr().is_terminal() {
        message!("{}", RenderedDiagnostics(diagnostics));
    } else {
        message!("{diagnostics}");
    }
}

/// Prints a line for people to stderr, with unsafe characters escaped and kapell's own styles kept. Errors are ignored,
/// since they cannot be reported anywhere.
pub(crate) fn print_message(text: &str) {
    let mut stderr = io::stderr().lock();
    let text = if has_color(&stderr) { printable_styled(text) } else { printable_unstyled(text) };
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
}

/// Prints a question to stderr as [`print_message`] does. The answer follows on its line.
pub(crate) fn print_prompt(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(printable_unstyled(text).as_bytes()).and_then(|()| stderr.write_all(b" "));
    let _ = stderr.flush();
}

/// Prints an error or the help of the command line, and returns the exit code. It may contain arbitrary arguments, so it
/// is escaped.
pub(crate) fn print_usage(error: &clap::Error) -> Exit {
    let plain = error.render().to_string();
    if printable_unstyled(&plain) == plain {
        let _ = error.print();
    } else {
        message!("{plain}");
    }
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}

/// Prints text for people to stdout, with unsafe characters escaped. A closed pipe is not an error.
///
/// # Errors
/// Fails if stdout cannot be written for any other reason.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    print_raw(&printable_text(text))
}

/// Prints text for people to stdout as [`print()`] does, with kapell's own styles kept if stdout has colors.
///
/// # Errors
/// Fails if stdout cannot be written.
pub(crate) fn print_styled(text: &str) -> Result<(), CliError> {
    let has_color = has_color(&io::stdout());
    print_raw(&if has_color { printable_styled(text) } else { printable_unstyled(text) })
}

/// Returns the number of columns of the terminal at stdout; unlimited elsewhere.
pub(crate) fn output_width() -> usize {
    let terminal = console::Term::stdout();
    let size = terminal.size_checked().filter(|_| terminal.is_term());
    size.map_or(usize::MAX, |(_, columns)| usize::from(columns))
}

/// The columns by which the rest of a long line is indented.
const HANGING_INDENT: usize = 6;

/// Wraps the lines of a text at words, for a terminal with this width. The rest of an indented line is indented like it.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let wrap = |line: &str| match line.len() - line.trim_start_matches(' ').len() {
        _ if width == usize::MAX => line.to_owned(),
        0 => wrap_with_indent(line, width, HANGING_INDENT),
        indent => wrap_with_indent(line, width, indent),
    };
    text.lines().map(|line| wrap(line) + "\n").collect()
}

/// Prints text to stdout unchanged, for a file or a program.
///
/// # Errors
/// Fails as [`print()`] does.
pub(crate) fn print_raw(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed("cli::output", "cannot write the result to stdout", error))
        }
        _ => Ok(()),
    }
}

/// Prints a value to stdout as one line of JSON, with unsafe characters as `\u` escapes.
///
/// # Errors
/// Fails as [`print()`] does.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let json = serde_json::to_string(value)
        .map_err(|error| CliError::failed("cli::output", "the result cannot be converted to JSON", error))?;
    print_raw(&(safe_json(&json).into_owned() + "\n"))
}
