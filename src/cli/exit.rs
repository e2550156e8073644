//! How the process ends: its codes, and the errors that end it.
//! Never ends it.

use std::{error::Error, process::ExitCode};

use miette::{Diagnostic as _, MietteHandlerOpts, ReportHandler};

use crate::{
    config::Diagnostics,
    journal::JournalError,
    model::{EndCause, RunStatus},
    runtime::RuntimeError,
};

/// The exit codes, as `README.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Done,
    /// A task failed, or the host did.
    Failed,
    /// The command line, a plan or an agents file is wrong.
    Usage,
    /// Partly done: the plan said to go on without what failed.
    Partial,
    /// Paused: only questions that nobody here can answer are left.
    Paused,
    /// A required agent is unavailable.
    AgentUnavailable,
    /// A person declined what the plan asked approval for.
    Denied,
    /// A person interrupted the run.
    Interrupted,
}

impl Exit {
    /// The code of a run that ended so.
    pub fn of_run(status: RunStatus, cause: Option<&EndCause>) -> Self {
        match (status, cause) {
            (RunStatus::Succeeded, _) => Self::Done,
            (RunStatus::Partial, _) => Self::Partial,
            (RunStatus::Failed, Some(EndCause::RequiredAgentUnavailable { .. })) => Self::AgentUnavailable,
            (RunStatus::Failed, Some(EndCause::Denied)) => Self::Denied,
            (RunStatus::Failed | RunStatus::Running, _) => Self::Failed,
            (RunStatus::Paused, _) => Self::Paused,
            (RunStatus::Cancelled, _) => Self::Interrupted,
        }
    }

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Paused => 4,
            Self::AgentUnavailable => 6,
            Self::Denied => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
