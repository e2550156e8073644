//! Errors of the journal, each with its location and a suggested fix.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

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
    #[error("cannot find the state directory for the journal: the user has no home directory")]
    #[diagnostic(code(journal::no_home), help("set `HOME`, or pass a path with `--journal PATH`"))]
    NoDataDirectory,
    /// The folder or the file cannot be created.
    #[error("cannot create the journal `{journal}`")]
    #[diagnostic(
        code(journal::create),
        help("make its directory writable, or pass another path with `--journal PATH`")
    )]
    Create {
        /// The journal.
        journal: JournalLocation,
        /// The system error.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The journal does not exist.
    #[error("the journal `{journal}` does not exist")]
    #[diagnostic(code(journal::missing), help("`kapell run` creates it; pass another path with `--journal PATH`"))]
    Missing {
        /// The expected location.
        journal: JournalLocation,
    },
    /// The file is not a journal.
    #[error("`{journal}` is not a journal of kapell")]
    #[diagnostic(code(journal::foreign), help("pass another path with `--journal PATH`; the file was not changed"))]
    NotAJournal {
        /// The file.
        journal: JournalLocation,
    },
    /// The file's format is not supported.
    #[error("the journal `{journal}` has format {found}, but this version of kapell supports format {expected}")]
    #[diagnostic(
        code(journal::version),
        help(
            "use the version of kapell that wrote it, or pass another path with `--journal PATH`; the file was not \
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
            "no release reads this format: move the file away to start a new journal, or pass another path with \
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
            "to start a new journal, move the file away together with its `-wal` and `-shm` files; `sqlite3 FILE \
             .recover` may restore more of it"
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
    #[error("the journal `{journal}` is empty or missing, but its write-ahead log `{log}` contains events")]
    #[diagnostic(
        code(journal::orphaned),
        help("restore the journal from a copy, or move the log away to start a new journal; neither file was changed")
    )]
    OrphanedLog {
        /// The journal.
        journal: JournalLocation,
        /// Its write-ahead log.
        log: PathBuf,
    },
    /// A record is missing or has changed.
    #[error("the journal `{journal}` is damaged: event {seq} of run `{}` is missing or has changed", .run.short())]
    #[diagnostic(
        code(journal::altered),
        help("`kapell logs {}` prints the events before it; other runs are not affected", .run.short())
    )]
    RecordCorrupted {
        /// The journal.
        journal: JournalLocation,
        /// The run.
        run: RunId,
        /// The sequence number of the record.
        seq: u64,
    },
    /// The file or its folder is read-only.
    #[error("cannot write to the journal `{journal}`")]
    #[diagnostic(
        code(journal::read_only),
        help("make both the file and its directory writable, or pass another path with `--journal PATH`")
    )]
    ReadOnly {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// The disk is full.
    #[error("the disk of the journal `{journal}` is full")]
    #[diagnostic(code(journal::full), help("free disk space; `kapell resume` continues a run from its durable events"))]
    DiskFull {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// Another process locked the file for too long.
    #[error("another process has locked the journal `{journal}`")]
    #[diagnostic(
        code(journal::busy),
        help("end the process that locks it, or pass another path with `--journal PATH`")
    )]
    Busy {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// Any other error of the database.
    #[error("cannot use the journal `{journal}`")]
    #[diagnostic(code(journal::storage))]
    Storage {
        /// The journal.
        journal: JournalLocation,
        /// The error of the database.
        #[source]
        source: StorageError,
    },
    /// A record would leave a gap in its run, or overwrite another record.
    #[error("cannot append event {found} to run `{}`: expected event {expected}", .run.short())]
    #[diagnostic(
        code(journal::sequence),
        help("another process may drive the same run, or an earlier append may have failed")
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
    #[error("run `{}` is driven by {holder}", .run.short())]
    #[diagnostic(
        code(journal::driven),
        help("`kapell logs -f {}` watches it, and `kapell cancel {}` cancels it", .run.short(), .run.short())
    )]
    Driven {
        /// The run.
        run: RunId,
        /// The process that drives it.
        holder: Holder,
    },
    /// The run no longer accepts requests.
    #[error("run `{}` has already ended: {status}", .run.short())]
    #[diagnostic(code(journal::ended), help("`kapell runs show {}` shows its result", .run.short()))]
    RunEnded {
        /// The run.
        run: RunId,
        /// The final status.
        status: RunStatus,
    },
    /// The question already has an answer in the queue.
    #[error("question `{question}` of run `{}` already has an answer, which the run has not processed yet", .run.short())]
    #[diagnostic(code(journal::answer_waits), help("if no process drives the run, `kapell resume {}` processes it", .run.short()))]
    AlreadyAnswered {
        /// The run.
        run: RunId,
        /// The question.
        question: QuestionId,
    },
    /// The run cannot be locked.
    #[error("cannot acquire the lease `{path}`")]
    #[diagnostic(
        code(journal::lease),
        help("make the directory of the journal writable, and put it on a local file system that supports locks")
    )]
    LeaseUnavailable {
        /// The file.
        path: PathBuf,
        /// The system error.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A record is invalid.
    #[error("invalid JSON of event {seq} of run `{}`", .run.short())]
    #[diagnostic(
        code(journal::record),
        help("the run was written by another version of kapell, or the journal was edited")
    )]
    InvalidRecord {
        /// The run.
        run: RunId,
        /// The sequence number of the record.
        seq: u64,
        /// The parse error.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// The writer thread has ended.
    #[error("the writer thread of the journal has ended")]
    #[diagnostic(
        code(journal::closed),
        help("this is a bug in kapell; `kapell resume` continues a run from its durable events")
    )]
    Closed,
    /// No run matches the name.
    #[error("unknown run `{name}`{}", run_list(.known, "; the latest runs are "))]
    #[diagnostic(
        code(journal::unknown_run),
        help("`kapell runs list` lists all runs; pass `last`, an ID, or the beginning or end of an ID")
    )]
    UnknownRun {
        /// The requested name.
        name: String,
        /// The latest runs, latest first.
        known: Vec<RunId>,
    },
    /// Several runs match the name.
    #[error("several runs match `{name}`{}", run_list(.candidates, ": "))]
    #[diagnostic(code(journal::ambiguous_run), help("pass more characters of the ID"))]
    AmbiguousRun {
        /// The requested name.
        name: String,
        /// Some of the matching runs, latest first.
        candidates: Vec<RunId>,
    },
}

impl JournalError {
    /// Returns the error for a run that the journal does not have.
    pub(super) fn unknown_run(run: &RunId) -> Self {
        Self::UnknownRun { name: run.to_string(), known: Vec::new() }
    }

    /// Returns the error for a record that is not valid JSON, or cannot be written as JSON.
    pub(super) fn invalid_record(run: &RunId, seq: u64, source: serde_json::Error) -> Self {
        Self::InvalidRecord { run: run.clone(), seq, source: Arc::new(source) }
    }

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
    let names: Vec<_> = runs.iter().map(|run| format!("`{}`", run.short())).collect();
    format!("{lead}{}", names.join(", "))
}
