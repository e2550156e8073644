//! Stores journals in SQLite files. No other module names SQLite.

mod control_queue;
mod lease;
mod prune;
mod reader;
mod recovery_scan;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use self::control_queue::SqliteControlQueue;
use self::lease::FileLease;
use self::reader::SqliteReader;
use self::writer::SqliteWriter;
use super::{ControlQueue, Durability, JournalError, JournalReader, JournalWriter, Lease, RecoveryScan, Store};
use crate::model::RunId;

/// A journal in a SQLite file, with the leases of its runs in a directory beside it.
#[derive(Debug)]
pub(super) struct SqliteStore {
    path: PathBuf,
}

impl SqliteStore {
    /// Returns the store at `path` without opening it.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }
}

impl Store for SqliteStore {
    fn open_writer(&self, durability: Durability) -> Result<Arc<dyn JournalWriter>, JournalError> {
        Ok(Arc::new(SqliteWriter::open(&self.path, durability)?))
    }

    fn open_reader(&self) -> Result<Box<dyn JournalReader>, JournalError> {
        Ok(Box::new(SqliteReader::open(&self.path)?))
    }

    fn acquire_lease(&self, run: &RunId) -> Result<Lease, JournalError> {
        FileLease::acquire(&self.path, run).map(Lease::new)
    }

    fn control_queue(&self, run: &RunId) -> Box<dyn ControlQueue> {
        Box::new(SqliteControlQueue::new(&self.path, run))
    }

    fn prune(&self, run: &RunId) -> Result<(), JournalError> {
        prune::prune_run(&self.path, run)
    }

    fn recovery_scan(&self) -> RecoveryScan {
        recovery_scan::recovery_scan(&self.path)
    }
}

impl JournalError {
    /// Converts a SQLite error of the journal at `path`.
    fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let journal = path.into();
        let code = source.sqlite_error_code();
        let source = Arc::new(source);
        match code {
            Some(ErrorCode::NotADatabase) => Self::NotAJournal { journal },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { journal, source },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { journal, source }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { journal, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { journal, source },
            _ => Self::Storage { journal, source },
        }
    }
}
