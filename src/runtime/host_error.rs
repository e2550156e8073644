//! The errors of a host.

use std::io;

use super::RuntimeError;
use crate::engine::FoldError;
use crate::journal::JournalError;
use crate::llm::EndpointError;
use crate::model::{RunId, RunStatus};

/// An error that prevents a run or ends its process. A failed task is not an error: the result contains it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum HostError {
    /// A language model of the agents file can never be asked.
    #[error("a language model of the agents file is not usable")]
    #[diagnostic(code(host::model))]
    Model(#[source] EndpointError),
    /// The journal cannot be read or written, or another process drives the run.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Journal(#[from] JournalError),
    /// The signal handlers cannot be installed.
    #[error("termination signals cannot be handled")]
    #[diagnostic(code(host::signals))]
    Signals(#[source] io::Error),
    /// The events of an earlier run do not form a run.
    #[error("run `{}` cannot be read", .run.short())]
    #[diagnostic(code(host::fold))]
    Fold {
        /// The run.
        run: RunId,
        /// The reason.
        #[source]
        source: FoldError,
    },
    /// A file with a large result of the run cannot be read.
    #[error("a result of run `{}` cannot be read", .run.short())]
    #[diagnostic(code(host::contents), help("`kapell run` starts the plan again"))]
    Contents {
        /// The run.
        run: RunId,
        /// The reason, with the path.
        #[source]
        source: io::Error,
    },
    /// The run has ended, so there is nothing to resume.
    #[error("run `{}` has already ended: {status}", .run.short())]
    #[diagnostic(code(host::ended))]
    Ended {
        /// The run.
        run: RunId,
        /// Its final status.
        status: RunStatus,
    },
    /// A second signal stopped the run before its calls had ended. The journal keeps the committed events.
    #[error("run `{run}` was stopped at once")]
    #[diagnostic(code(host::stopped), help("`kapell resume {}` resumes it", run.short()))]
    Stopped {
        /// The run.
        run: RunId,
    },
    /// The run stopped before its end. The journal keeps the committed events.
    #[error("run `{}` stopped before its end", .run.short())]
    #[diagnostic(code(host::unfinished))]
    Unfinished {
        /// The run.
        run: RunId,
        /// The reason.
        #[source]
        source: RuntimeError,
    },
}
