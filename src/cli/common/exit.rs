//! Exit codes, and the errors that end a command.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::{fmt, iter};

use miette::{MietteHandler, MietteHandlerOpts, ReportHandler};
use serde::Serialize;

use crate::HostError;
use crate::config::Diagnostics;
use crate::journal::{self, JournalError, RecoveryScan};
use crate::llm::EndpointError;
use crate::model::{EndCause, RunStatus};
use crate::planner::PlanError;
use crate::view::text::{printable_styled, printable_text, safe_json};

/// The exit codes, as `docs/running.md` lists them.
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

    /// Returns the exit code with this number, if it is known.
    pub fn of_code(code: i32) -> Option<Self> {
        const ALL: [Exit; 9] = [
            Exit::Success,
            Exit::Failed,
            Exit::Usage,
            Exit::Partial,
            Exit::Paused,
            Exit::BudgetSpent,
            Exit::AgentUnavailable,
            Exit::Denied,
            Exit::Interrupted,
        ];
        ALL.into_iter().find(|exit| i32::from(exit.code()) == code)
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

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Journal(error) => Self::Journal(error),
            HostError::Ended { run, status } => Self::usage(
                "cli::nothing_to_resume",
                format!("run `{run}` has already ended: {status}"),
                format!(
                    "`kapell runs show {run}` shows its outcome; `kapell retry {run} --from TASK` reruns a part of it"
                ),
            ),
            HostError::Model(source) => {
                Self::failed("cli::invalid_model", "a language model of the agents file is not usable", source)
            }
            HostError::Signals(source) => Self::failed("cli::signals", "termination signals cannot be handled", source),
            HostError::Fold { run, source } => {
                Self::failed("cli::invalid_run", format!("run `{run}` cannot be read"), source)
            }
            HostError::Unfinished { run, source } => {
                Self::failed("cli::run_failed", format!("run `{run}` stopped before its end"), source)
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

    /// Prints the error to stderr and returns its exit code.
    pub(crate) fn report(self) -> Exit {
        let exit = match &self {
            Self::File(_) | Self::Usage { .. } => Exit::Usage,
            Self::Journal(
                JournalError::UnknownRun { .. }
                | JournalError::AmbiguousRun { .. }
                | JournalError::RunEnded { .. }
                | JournalError::AlreadyAnswered { .. },
            ) => Exit::Usage,
            Self::Journal(_) | Self::Plan(_) | Self::Endpoint(_) | Self::Failed { .. } => Exit::Failed,
            Self::Shown(exit) => *exit,
        };
        match self {
            Self::File(mistakes) => show_diagnostics(&mistakes),
            Self::Shown(_) => {}
            other => {
                message!("{}", WrappedError(&other));
                if let Some(journal) = other.journal_error().and_then(JournalError::damaged_journal) {
                    message!("{}", describe_salvage(&journal::store(journal).recovery_scan()));
                }
            }
        }
        exit
    }
}

/// The code and help of a failure that the journal caused are those of the journal's error, which is more specific.
impl miette::Diagnostic for CliError {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match (self, self.journal_error()) {
            (_, Some(error)) => error.code(),
            (Self::Usage { code, .. } | Self::Failed { code, .. }, None) => Some(Box::new(code)),
            (Self::Plan(error), None) => error.code(),
            (Self::Endpoint(error), None) => error.code(),
            (Self::File(_) | Self::Journal(_) | Self::Shown(_), None) => None,
        }
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        match (self, self.journal_error()) {
            (_, Some(error)) => error.help(),
            (Self::Plan(error), None) => error.help(),
            (Self::Endpoint(error), None) => error.help(),
            (Self::Usage { help, .. }, None) => help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>),
            (Self::File(_) | Self::Journal(_) | Self::Failed { .. } | Self::Shown(_), None) => None,
        }
    }
}

/// Describes in a line or two what can be read of a damaged journal.
fn describe_salvage(salvage: &RecoveryScan) -> String {
    if salvage.intact.is_empty() && salvage.damaged.is_empty() {
        return "no run in it is readable".to_owned();
    }
    let whole = salvage.intact.iter().map(|run| format!("\n  {run}"));
    let broken = salvage.damaged.iter().map(|(run, events)| format!("\n  {run}: {events} events"));
    let lines: String = whole.chain(broken).collect();
    format!(
        "`kapell logs RUN --output json` exports the readable events of a run; these runs are readable, some of them in part:{lines}"
    )
}

/// An error formatted for people. Lines are wrapped on a terminal only; elsewhere, commands and IDs stay in one piece.
struct WrappedError<'e>(&'e CliError);

impl fmt::Display for WrappedError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = SafeReport::new(self.0);
        MietteHandlerOpts::new().wrap_lines(io::stderr().is_terminal()).build().debug(&report, f)
    }
}

/// A copy of an error with unsafe characters escaped before styles are added, so that styles never come from outside.
#[derive(Debug)]
struct SafeReport {
    message: String,
    code: Option<String>,
    help: Option<String>,
    cause: Option<Box<SafeReport>>,
}

impl SafeReport {
    fn new(error: &CliError) -> Self {
        let text = |part: Option<Box<dyn fmt::Display + '_>>| part.map(|part| escaped(&part));
        let mut report = Self::of_cause(error);
        report.code = text(miette::Diagnostic::code(error));
        report.help = text(miette::Diagnostic::help(error));
        report
    }

    fn of_cause(error: &dyn Error) -> Self {
        let cause = error.source().map(|cause| Box::new(Self::of_cause(cause)));
        Self { message: escaped(&error), code: None, help: None, cause }
    }
}

fn escaped(text: &dyn fmt::Display) -> String {
    printable_text(&text.to_string()).into_owned()
}

impl fmt::Display for SafeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SafeReport {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

impl miette::Diagnostic for SafeReport {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.as_ref().map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
}

/// Prints the diagnostics of a file to stderr: with source excerpts on a terminal, one diagnostic a line elsewhere.
pub(crate) fn show_diagnostics(mistakes: &Diagnostics) {
    struct RenderedDiagnostics<'d>(&'d Diagnostics);
    impl fmt::Display for RenderedDiagnostics<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            MietteHandler::default().debug(&self.0.report(), f)
        }
    }
    if io::stderr().is_terminal() {
        message!("{}", RenderedDiagnostics(mistakes));
    } else {
        message!("{mistakes}");
    }
}

/// Prints a line for people to stderr, with unsafe characters escaped and kapell's own styles kept. Errors are ignored,
/// since they cannot be reported anywhere.
pub(crate) fn print_message(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(printable_styled(text).as_bytes()).and_then(|()| stderr.write_all(b"\n"));
}

/// Prints text for people to stdout, with unsafe characters escaped. A closed pipe is not an error.
///
/// # Errors
/// Fails if stdout cannot be written for any other reason.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    print_raw(&printable_text(text))
}

/// Prints text to stdout unchanged, for a file or a program.
///
/// # Errors
/// Fails as [`print()`] does.
pub(crate) fn print_raw(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    ignore_closed_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
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

fn ignore_closed_pipe(written: io::Result<()>) -> Result<(), CliError> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed("cli::output", "cannot write the result to stdout", error))
        }
        _ => Ok(()),
    }
}
