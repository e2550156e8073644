//! Deletes runs from a journal.

use std::path::Path;

use rusqlite::TransactionBehavior;

use super::{FileLease, schema};
use crate::journal::JournalError;
use crate::model::RunId;

/// Deletes a run from the journal at `path`. Later runs reuse its space; the file does not shrink.
///
/// # Errors
/// Returns [`JournalError::Driven`] if a process drives it, or another error if the journal cannot be written.
pub(super) fn prune_run(path: &Path, run: &RunId) -> Result<(), JournalError> {
    // The lease prevents other processes from resuming the run during its deletion.
    let _lease = FileLease::acquire(path, run)?;
    let failed = |error| JournalError::from_sqlite(path, error);
    let mut connection = schema::open_for_writing(path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for table in ["events", "checkpoints", "control_requests", "runs"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE run_id = ?1"), [run.as_str()]).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}
