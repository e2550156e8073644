//! Says what is wrong with a journal, where, and what to do about it.
//! Never opens one.

use std::{path::PathBuf, sync::Arc};

use miette::Diagnostic;

use super::Holder;
use crate::model::{QuestionId, RunId, RunStatus};

/// Why the journal could not be read or written.
///
/// Cheap to clone: one failed commit is the answer to every append that was in it.
#[derive(Debug, Clone, thiserror::Error, Diagnostic)]
pub enum JournalError {
    /// The platform names no place for a journal.
    #[error("there is no home directory to keep the journal in")]
    #[diagnostic(code(journal::no_home), help("name a file with `--journal PATH`"))]
    NoDataDirectory,
    /// The folder or the file cannot be made.
    #[error("the journal `{path}` cannot be created")]
    #[diagnostic(
        code(journal::create),
        help("check that its folder exists and may be written to, or name another file with `--journal PATH`")
    )]
    Create {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// There is no journal yet.
    #[error("there is no journal at `{path}`")]
    #[diagnostic(code(journal::missing), help("the first `kapell run` makes it; `--journal PATH` names another"))]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("`{path}` is not a kapell journal")]
    #[diagnostic(code(journal::foreign), help("name another file with `--journal PATH`; this one was left as it is"))]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// The file's format is not the one that this program reads and writes.
    #[error("the journal `{path}` has format {found}, and this kapell works with format {expected}")]
    #[diagnostic(
        code(journal::version),
        help("use the kapell that wrote it, or name another file with `--journal PATH`; this one was left as it is")
    )]
    UnsupportedVersion {
        /// The journal.
        path: PathBuf,
        /// The format it has.
        found: i64,
        /// The format this program has.
        expected: i64,
    },
    /// The file is damaged.
    #[error("the journal `{path}` is damaged")]
    #[diagnostic(
        code(journal::damaged),
        help(
            "to start a new one, move it away together with its `-wal` and `-shm` files; \
             `sqlite3 FILE .recover` may save more than can be read"
        )
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The file is empty, but its write-ahead log is not.
    #[error("the journal `{path}` is empty or gone, but `{log}` is there, which holds its latest events")]
    #[diagnostic(
        code(journal::orphaned),
        help(
            "put the journal back from a copy; or move the log away to start a new journal. Both were left as they are"
        )
    )]
    OrphanedLog {
        /// The journal.
        path: PathBuf,
        /// Its write-ahead log.
        log: PathBuf,
    },
    /// A record is gone, or not what was written.
    #[error("the journal `{path}` is damaged: event {seq} of run `{run}` is gone or not what was written")]
    #[diagnostic(code(journal::altered), help("the events before it and other runs can be read"))]
    RecordCorrupted {
        /// The journal.
        path: PathBuf,
        /// The run.
        run: RunId,
        /// The record's number.
        seq: u64,
    },
    /// The file or its folder may not be written to.
    #[error("the journal `{path}` cannot be written to")]
    #[diagnostic(
        code(journal::read_only),
        help("both the file and its folder must be writable; `--journal PATH` names another")
    )]
    ReadOnly {
        /// The journal.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The disk is full.
    #[error("there is no room left for the journal `{path}`")]
    #[diagnostic(code(journal::full), help("free some space; what was confirmed before is safe"))]
    DiskFull {
        /// The journal.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Another process held the file for too long.
    #[error("the journal `{path}` is held by another process")]
    #[diagnostic(
        code(journal::busy),
        help("end the process that holds it, or name another file with `--journal PATH`")
    )]
    Busy {
        /// The journal.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Anything else that SQLite says.
    #[error("the journal `{path}` cannot be used")]
    #[diagnostic(code(journal::storage))]
    Sqlite {
        /// The journal.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// A record would leave a gap in its run, or overwrite what is there.
    #[error("run `{run}` has {expected} events, so event {found} cannot follow")]
    #[diagnostic(
        code(journal::sequence),
        help("another process may be driving the same run, or an earlier append failed")
    )]
    SequenceGap {
        /// The run.
        run: RunId,
        /// The number that the next record must have.
        expected: u64,
        /// The number that it has.
        found: u64,
    },
    /// Another process drives the run.
    #[error("run `{run}` is being driven by {holder}")]
    #[diagnostic(code(journal::driven), help("`kapell logs -f {run}` follows it, and `kapell cancel {run}` ends it"))]
    Driven {
        /// The run.
        run: RunId,
        /// The origin.
        holder: Holder,
    },
    /// The run takes no requests any more.
    #[error("run `{run}` has ended: {status}")]
    #[diagnostic(code(journal::ended), help("`kapell runs show {run}` tells how"))]
    RunEnded {
        /// The run.
        run: RunId,
        /// How it ended.
        status: RunStatus,
    },
    /// Somebody has answered the question already.
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
    /// There can be no lock on the run.
    #[error("the lease `{path}` cannot be taken")]
    #[diagnostic(
        code(journal::lease),
        help("the journal's folder must be writable, on a file system of this machine that has locks")
    )]
    LeaseUnavailable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A record is not what this program writes.
    #[error("event {seq} of run `{run}` cannot be converted from or to JSON")]
    #[diagnostic(code(journal::record), help("the run was written by another kapell, or the journal was edited"))]
    InvalidRecord {
        /// The run.
        run: RunId,
        /// The record's number.
        seq: u64,
        /// Where and why.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// More appends are waiting than any honest caller has.
    #[error("{waiting} appends are waiting for the journal")]
    #[diagnostic(code(journal::overrun), help("await earlier appends before making so many more"))]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// The thread that writes is gone.
    #[error("the journal's writer has ended")]
    #[diagnostic(
        code(journal::closed),
        help("this is a bug in kapell; `kapell resume` goes on from the events that are durable")
    )]
    Closed,
    /// No run goes by that name.
    #[error("no run is called `{wanted}`{}", run_list(.known, "; the latest are "))]
    #[diagnostic(
        code(journal::unknown_run),
        help("`kapell runs list` shows them all; the first or last characters of an id, or `last`, are enough")
    )]
    UnknownRun {
        /// What was asked for.
        wanted: String,
        /// The latest runs, latest first.
        known: Vec<RunId>,
    },
    /// Several runs go by that name.
    #[error("more than one run is called `{wanted}`{}", run_list(.candidates, ": "))]
    #[diagnostic(code(journal::ambiguous_run), help("give more characters of the id"))]
    AmbiguousRun {
        /// What was asked for.
        wanted: String,
        /// Some of the runs that match, latest first.
        candidates: Vec<RunId>,
    },
}

impl JournalError {
    /// Returns whether the append itself is at fault, so that others in the same transaction may still succeed.
    pub(super) fn is_append_error(&self) -> bool {
        matches!(self, Self::SequenceGap { .. } | Self::InvalidRecord { .. })
    }

    /// What an error of SQLite means for the journal at `path`.
    pub(super) fn from_sqlite(path: &std::path::Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path = path.to_path_buf();
        let code = source.sqlite_error_code();
        let source = Arc::new(source);
        match code {
            Some(ErrorCode::NotADatabase) => Self::NotAJournal { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, source },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { path, source }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, source },
            _ => Self::Sqlite { path, source },
        }
    }
}

/// Run ids in a sentence; nothing where there are none.
fn run_list(runs: &[RunId], lead: &str) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let names: Vec<_> = runs.iter().map(|run| format!("`{run}`")).collect();
    format!("{lead}{}", names.join(", "))
}
