//! Errors of the journal, each with the file and a suggested fix.

use std::{error::Error, path::PathBuf, sync::Arc};

use miette::Diagnostic;

use super::{Holder, JournalLocation};
use crate::model::{QuestionId, RunId, RunStatus};

/// An error of the database behind a journal.
pub type StorageError = Arc<dyn Error + Send + Sync>;

/// An error when reading or writing the journal.
///
/// Cheap to clone: a failed commit is the result of every append in it.
#[derive(Debug, Clone, thiserror::Error, Diagnostic)]
pub enum JournalError {
    /// The platform has no data directory.
    #[error("there is no home directory to keep the journal in")]
    #[diagnostic(code(journal::no_home), help("name a file with `--journal PATH`"))]
    NoDataDirectory,
    /// The folder or the file cannot be created.
    #[error("the journal `{journal}` cannot be created")]
    #[diagnostic(
        code(journal::create),
        help("check that its folder exists and may be written to, or name another file with `--journal PATH`")
    )]
    Create {
        /// The journal.
        journal: JournalLocation,
        /// The system error.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The journal does not exist.
    #[error("there is no journal at `{journal}`")]
    #[diagnostic(code(journal::missing), help("the first `kapell run` makes it; `--journal PATH` names another"))]
    Missing {
        /// The expected location.
        journal: JournalLocation,
    },
    /// The file is not a journal.
    #[error("`{journal}` is not a kapell journal")]
    #[diagnostic(code(journal::foreign), help("name another file with `--journal PATH`; this one was left as it is"))]
    NotAJournal {
        /// The file.
        journal: JournalLocation,
    },
    /// The file's format is not supported.
    #[error("the journal `{journal}` has format {found}, but this version of kapell supports format {expected}")]
    #[diagnostic(
        code(journal::version),
        help(
            "use the version of kapell that wrote it, or name another file with `--journal PATH`; the file was not \
             changed"
        )
    )]
    UnsupportedVersion {
        /// The journal.
        journal: JournalLocation,
        /// The format of the file.
        found: i64,
        /// The format of this program.
        expected: i64,
    },
    /// The file was written by an unreleased version.
    #[error("the journal `{journal}` was written by a development version of kapell, in format {found}")]
    #[diagnostic(
        code(journal::development_format),
        help(
            "no release reads this format: move the file away to start a new journal, or name another file with \
             `--journal PATH`; the file was not changed"
        )
    )]
    DevelopmentFormat {
        /// The journal.
        journal: JournalLocation,
        /// The format of the file.
        found: i64,
    },
    /// The file is damaged.
    #[error("the journal `{journal}` is damaged")]
    #[diagnostic(
        code(journal::damaged),
        help(
            "to start a new one, move it away together with its `-wal` and `-shm` files; \
             `sqlite3 FILE .recover` may save more than can be read"
        )
    )]
    Damaged {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// The file is empty, but its write-ahead log is not.
    #[error("the journal `{journal}` is empty or gone, but `{log}` is there, which holds its latest events")]
    #[diagnostic(
        code(journal::orphaned),
        help(
            "put the journal back from a copy; or move the log away to start a new journal. Both were left as they are"
        )
    )]
    OrphanedLog {
        /// The journal.
        journal: JournalLocation,
        /// Its write-ahead log.
        log: PathBuf,
    },
    /// A record is missing or has changed.
    #[error("the journal `{journal}` is damaged: event {seq} of run `{run}` is gone or not what was written")]
    #[diagnostic(code(journal::altered), help("the events before it and other runs can be read"))]
    RecordCorrupted {
        /// The journal.
        journal: JournalLocation,
        /// The run.
        run: RunId,
        /// The sequence number of the record.
        seq: u64,
    },
    /// The file or its folder is read-only.
    #[error("the journal `{journal}` cannot be written to")]
    #[diagnostic(
        code(journal::read_only),
        help("both the file and its folder must be writable; `--journal PATH` names another")
    )]
    ReadOnly {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// The disk is full.
    #[error("there is no room left for the journal `{journal}`")]
    #[diagnostic(code(journal::full), help("free some space; what was confirmed before is safe"))]
    DiskFull {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// Another process locked the file for too long.
    #[error("the journal `{journal}` is held by another process")]
    #[diagnostic(
        code(journal::busy),
        help("end the process that holds it, or name another file with `--journal PATH`")
    )]
    Busy {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// Any other error of the database.
    #[error("the journal `{journal}` cannot be used")]
    #[diagnostic(code(journal::storage))]
    Storage {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// A record would leave a gap in its run, or overwrite another record.
    #[error("run `{run}` has {expected} events, so event {found} cannot follow")]
    #[diagnostic(
        code(journal::sequence),
        help("another process may be driving the same run, or an earlier append failed")
    )]
    SequenceGap {
        /// The run.
        run: RunId,
        /// The expected sequence number of the next record.
        expected: u64,
        /// The actual sequence number.
        found: u64,
    },
    /// Another process drives the run.
    #[error("run `{run}` is being driven by {holder}")]
    #[diagnostic(code(journal::driven), help("`kapell logs -f {run}` follows it, and `kapell cancel {run}` ends it"))]
    Driven {
        /// The run.
        run: RunId,
        /// The process that drives it.
        holder: Holder,
    },
    /// The run no longer accepts requests.
    #[error("run `{run}` has ended: {status}")]
    #[diagnostic(code(journal::ended), help("`kapell runs show {run}` tells how"))]
    RunEnded {
        /// The run.
        run: RunId,
        /// The final status.
        status: RunStatus,
    },
    /// The question already has an answer in the queue.
    #[error("question `{question}` of run `{run}` has an answer that waits to be taken up")]
    #[diagnostic(
        code(journal::answer_waits),
        help("a process that drives the run does so; else `kapell resume {run}`")
    )]
    AlreadyAnswered {
        /// The run.
        run: RunId,
        /// The question.
        question: QuestionId,
    },
    /// The run cannot be locked.
    #[error("the lease `{path}` cannot be taken")]
    #[diagnostic(
        code(journal::lease),
        help("the journal's folder must be writable, on a file system of this machine that has locks")
    )]
    LeaseUnavailable {
        /// The file.
        path: PathBuf,
        /// The system error.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A record is invalid.
    #[error("event {seq} of run `{run}` cannot be converted from or to JSON")]
    #[diagnostic(code(journal::record), help("the run was written by another kapell, or the journal was edited"))]
    InvalidRecord {
        /// The run.
        run: RunId,
        /// The sequence number of the record.
        seq: u64,
        /// The parse error.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// The append queue is full.
    #[error("{waiting} appends are waiting for the journal")]
    #[diagnostic(code(journal::overrun), help("await earlier appends before making so many more"))]
    QueueFull {
        /// The number of waiting appends.
        waiting: usize,
    },
    /// The writer thread has ended.
    #[error("the journal's writer has ended")]
    #[diagnostic(
        code(journal::closed),
        help("this is a bug in kapell; `kapell resume` goes on from the events that are durable")
    )]
    Closed,
    /// No run matches the name.
    #[error("no run is called `{wanted}`{}", run_list(.known, "; the latest are "))]
    #[diagnostic(
        code(journal::unknown_run),
        help("`kapell runs list` shows them all; the first or last characters of an id, or `last`, are enough")
    )]
    UnknownRun {
        /// The requested name.
        wanted: String,
        /// The latest runs, latest first.
        known: Vec<RunId>,
    },
    /// Several runs match the name.
    #[error("more than one run is called `{wanted}`{}", run_list(.candidates, ": "))]
    #[diagnostic(code(journal::ambiguous_run), help("give more characters of the id"))]
    AmbiguousRun {
        /// The requested name.
        wanted: String,
        /// Some of the matching runs, latest first.
        candidates: Vec<RunId>,
    },
}

impl JournalError {
    /// Returns the location of the damaged journal, if this error reports one.
    pub fn damaged_journal(&self) -> Option<&JournalLocation> {
        match self {
            Self::Damaged { journal, .. } | Self::RecordCorrupted { journal, .. } => Some(journal),
            _ => None,
        }
    }

    /// Returns whether only the append itself is invalid, so that others in the same transaction may still succeed.
    pub(super) fn is_append_error(&self) -> bool {
        matches!(self, Self::SequenceGap { .. } | Self::InvalidRecord { .. })
    }
}

/// Formats run IDs for a sentence; empty without runs.
fn run_list(runs: &[RunId], lead: &str) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let names: Vec<_> = runs.iter().map(|run| format!("`{run}`")).collect();
    format!("{lead}{}", names.join(", "))
}
