//! Stores the events of all runs durably.

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

/// A store of events. Appends become durable in the order of the `append` calls.
pub trait Journal: Send + Sync {
    /// Queues the records immediately; the future completes when they are durable.
    ///
    /// The records are kept even if the future is dropped. All records of one append become durable together.
    ///
    /// # Errors
    /// Returns an error if they are not durable. The run's next append must then start with the same record: a gap is
    /// rejected with [`JournalError::SequenceGap`].
    fn append(&self, run: &RunId, records: Arc<[Record]>) -> BoxFuture<'static, Result<(), JournalError>>;

    /// Queues a checkpoint of `run`, which replaces an earlier one with the same key; the future completes when it is
    /// durable.
    ///
    /// A checkpoint becomes durable no later than the records that are appended after it, unless a later checkpoint
    /// with the same key replaces it first. The checkpoints of a run are removed once it has ended for good. The
    /// checkpoint is kept even if the future is dropped.
    ///
    /// # Errors
    /// Returns an error if it is not durable.
    fn save_checkpoint(
        &self,
        run: &RunId,
        key: CheckpointKey,
        checkpoint: Value,
    ) -> BoxFuture<'static, Result<(), JournalError>>;
}
