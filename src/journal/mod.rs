//! Keeps the events of every run, durably.
//! Never decides.

mod control_queue;
mod error;
mod lease;
mod memory;
mod prune;
mod reader;
mod recovery_scan;
#[cfg(test)]
pub(crate) mod samples;
mod schema;
mod sqlite;

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

pub use control_queue::{ControlQueue, ControlRequest, QueuedRequest};
pub use error::JournalError;
pub use lease::{Holder, Lease};
pub use memory::MemoryJournal;
pub use prune::prune_run;
pub use reader::{JournalReader, RawRecord, RawRecords, Records, RunSummary};
pub use recovery_scan::{RecoveryScan, recovery_scan};
pub use schema::default_path;
pub use sqlite::{Durability, SqliteJournal};

use crate::model::{CheckpointKey, Record, RunId};

/// Where events are kept. Appends are durable in the order in which `append` was called.
pub trait Journal: Send + Sync {
    /// Queues the records at once; the future ends when they are durable.
    ///
    /// The records are kept even if the future is dropped. All of one append become durable together.
    ///
    /// # Errors
    /// When they are not durable. The run's next append must then start with the same record:
    /// a gap is refused with [`JournalError::SequenceGap`].
    fn append(&self, run: &RunId, records: Arc<[Record]>) -> BoxFuture<'static, Result<(), JournalError>>;

    /// Queues a note of `run`, which replaces the one of the same key; the future ends when it is durable.
    ///
    /// A note becomes durable no later than the records that are appended after it, unless a later note of the same key
    /// replaces it before. The notes of a run are gone once it has ended for good. The note is kept even if the future
    /// is dropped.
    ///
    /// # Errors
    /// When it is not durable.
    fn save_checkpoint(
        &self,
        run: &RunId,
        key: CheckpointKey,
        checkpoint: Value,
    ) -> BoxFuture<'static, Result<(), JournalError>>;
}
