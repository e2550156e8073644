//! Converts errors of SQLite.

use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::journal::JournalError;

impl JournalError {
    /// Converts a SQLite error of the journal at `path`.
    pub(super) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
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
