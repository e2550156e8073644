//! Opens journals, and finds the default one.

use std::path::PathBuf;
use std::sync::Arc;

use super::sqlite::{FORMAT_VERSION, SqliteStore};
use super::{JournalError, JournalLocation, Store};

/// Returns the store at `location`. Nothing is opened or created until the store is used.
pub fn store(location: &JournalLocation) -> Arc<dyn Store> {
    Arc::new(SqliteStore::new(location.path()))
}

/// Returns the format of the journals that this version reads and writes.
pub fn format_version() -> i64 {
    FORMAT_VERSION
}

/// Returns the default location of the journal: `journal.db` in [`state_directory`].
///
/// # Errors
/// Returns [`JournalError::NoDataDirectory`] if the platform has no such directory.
pub fn default_location() -> Result<JournalLocation, JournalError> {
    Ok(state_directory()?.join("journal.db").into())
}

/// Returns the directory for the state of all runs: `kapell` in the platform's state directory.
///
/// # Errors
/// Returns [`JournalError::NoDataDirectory`] if the platform has no such directory.
pub fn state_directory() -> Result<PathBuf, JournalError> {
    let project = directories::ProjectDirs::from("", "", "kapell").ok_or(JournalError::NoDataDirectory)?;
    Ok(project.state_dir().unwrap_or_else(|| project.data_local_dir()).to_path_buf())
}
