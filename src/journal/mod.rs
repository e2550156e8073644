//! Stores the events of all runs durably.
//!
//! Other rooms see only the traits of [`Store`]. `sqlite` implements them for a file, and [`MemoryJournal`] without one.

mod disk;
mod error;
mod lease;
mod location;
mod memory;
mod open;
mod raw_record;
mod reading;
#[cfg(test)]
pub(crate) mod samples;
mod schedule_log;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;

pub use disk::{JournalDisk, journal_disk};
pub use error::{JournalError, StorageError};
pub use lease::{Holder, Lease};
pub use location::JournalLocation;
pub use memory::MemoryJournal;
pub use open::{default_location, format_version, state_directory, store};
pub use raw_record::RawRecord;
pub use schedule_log::{ScheduleLog, SchedulePosition};
pub use store::{
    CommitFuture, ControlQueue, ControlRequest, Durability, JournalReader, JournalWriter, QueuedRequest, RecoveryScan,
    RunFilter, RunSummary, Store, current_status,
};
