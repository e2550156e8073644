//! Keeps the events of every run, durably.
//! Never decides.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::model::{Record, RunId};

/// Where events are kept. Appends are durable in the order in which `append` was called.
pub trait Journal: Send + Sync {
    /// Queues the records at once; the future ends when they are durable.
    fn append(&self, run: &RunId, records: Arc<[Record]>) -> BoxFuture<'static, Result<(), JournalError>>;
}

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {}
