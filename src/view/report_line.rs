//! A line of a report, which says one fact about a run.

use std::fmt;

use super::text::truncated;
use crate::model::RunStatus;

/// How much is said about events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Questions, warnings, and failures only.
    Quiet,
    /// What a person who watches the run needs. An event whose consequence is in the next event has no line.
    #[default]
    Progress,
    /// Also connections, log messages of agents, requests, and replies.
    Detailed,
    /// At least a line for each event, with the results of calls.
    EveryEvent,
}

/// A line of the report. All of its text is escaped and on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// The kind of line.
    pub kind: LineKind,
    /// The subject: a task, an agent, or the plan.
    pub subject: String,
    /// The description.
    pub text: String,
    /// The advice for the user.
    pub help: Option<String>,
}

/// The kind of a report line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// The run started or resumed.
    Run,
    /// An agent is connecting, or a call started.
    Started,
    /// A call made progress.
    Progress,
    /// A fact about the run or a task.
    Info,
    /// A connection, a request, or a reply: what only a person who looks for a cause needs.
    Detail,
    /// An agent sent a log message.
    Log,
    /// Something is wrong, and the run continues.
    Warning,
    /// A retry or reroute is scheduled.
    Retrying,
    /// A question was asked.
    Asked,
    /// A person, or a rule, answered.
    Answered,
    /// The question cannot be answered here.
    Deferred,
    /// Success.
    Succeeded,
    /// Failure.
    Failed,
    /// Failure of a task without which the plan continues.
    FailedContinuing,
    /// The task never started.
    Skipped,
    /// The task was cancelled.
    Cancelled,
    /// The run ended.
    Ended(RunStatus),
}

impl LineKind {
    /// Returns the lowest verbosity at which such a line is shown.
    pub(super) fn verbosity(self) -> Verbosity {
        match self {
            Self::Warning | Self::Asked | Self::Deferred | Self::Failed | Self::FailedContinuing | Self::Ended(_) => {
                Verbosity::Quiet
            }
            Self::Detail | Self::Log => Verbosity::Detailed,
            Self::Run
            | Self::Started
            | Self::Progress
            | Self::Info
            | Self::Retrying
            | Self::Answered
            | Self::Succeeded
            | Self::Skipped
            | Self::Cancelled => Verbosity::Progress,
        }
    }

    /// Returns the word before the description; empty if the description says it all.
    fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::FailedContinuing => "failed, continuing",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Retrying => "attempt failed",
            Self::Ended(status) => status_word(status),
            _ => "",
        }
    }
}

/// Returns the words for the status of a run.
pub fn status_word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Partial => "partly succeeded",
        status => status.as_str(),
    }
}

impl ReportLine {
    /// Creates a line without advice. `text` must be escaped.
    pub(super) fn new(kind: LineKind, subject: &str, text: impl Into<String>) -> Self {
        Self { kind, subject: truncated(subject), text: text.into(), help: None }
    }

    /// Returns the parts of the line without its advice, to be joined: `find: succeeded: research.search, 1.2s`.
    pub(crate) fn parts(&self) -> [&str; 5] {
        let word = self.kind.word();
        let colon = if word.is_empty() || self.text.is_empty() { "" } else { ": " };
        [&self.subject, ": ", word, colon, &self.text]
    }
}

impl fmt::Display for ReportLine {
    /// Formats the line, and its advice in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().iter().try_for_each(|part| f.write_str(part))?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}
