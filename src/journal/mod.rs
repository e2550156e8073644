//! Stores the events of all runs durably.
//!
//! Other rooms see only the traits of [`Store`]. `sqlite` implements them for a file, and [`MemoryJournal`] without one.

mod error;
mod lease;
mod location;
mod memory;
mod raw_record;
mod reading;
#[cfg(test)]
pub(crate) mod samples;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use error::{JournalError, StorageError};
pub use lease::{Holder, Lease};
pub use location::JournalLocation;
pub use memory::MemoryJournal;
pub use raw_record::RawRecord;
pub use store::{
    CommitFuture, ControlQueue, ControlRequest, Durability, JournalReader, JournalWriter, QueuedRequest, RecoveryScan,
    RunSummary, Store,
};

/// Returns the store at `location`. Nothing is opened or created until the store is used.
pub fn store(location: &JournalLocation) -> Arc<dyn Store> {
    Arc::new(sqlite::SqliteStore::new(location.path()))
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
