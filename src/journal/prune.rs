//! Deletes runs from a journal.

use std::path::Path;

use rusqlite::TransactionBehavior;

use super::{JournalError, Lease, schema};
use crate::model::RunId;

/// Deletes a run from the journal at `path`. Later runs reuse its space; the file does not shrink.
///
/// # Errors
/// Returns [`JournalError::Driven`] if a process drives it, or another error if the journal cannot be written.
pub fn prune_run(path: &Path, run: &RunId) -> Result<(), JournalError> {
    // The lease prevents other processes from resuming the run during its deletion.
    let _lease = Lease::acquire(path, run)?;
    let failed = |error| JournalError::from_sqlite(path, error);
    let mut connection = schema::open_for_writing(path)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for table in ["events", "notes", "inbox", "runs"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE run = ?1"), [run.as_str()]).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::journal::{ControlQueue, ControlRequest, Durability, Journal, JournalReader, SqliteJournal, samples};
    use crate::model::CheckpointKey;

    #[test]
    fn pruning_removes_one_run_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let runs = ["one", "two"].map(RunId::from);
        for run in &runs {
            block_on(journal.append(run, samples::sample_run()[..7].into())).expect("appends");
            block_on(journal.save_checkpoint(run, CheckpointKey::Session("travel".into()), 1.into())).expect("keeps");
            ControlQueue::open(&path, run)
                .expect("opens")
                .send(&ControlRequest::Cancel, &crate::system::process::RequestSender::current())
                .expect("sends");
        }
        let lease = Lease::acquire(&path, &runs[0]).expect("takes");
        assert!(matches!(prune_run(&path, &runs[0]), Err(JournalError::Driven { .. })));
        drop(lease);
        prune_run(&path, &runs[0]).expect("prunes");

        let reader = JournalReader::open(&path).expect("opens");
        let left: Vec<_> = reader.runs(9).expect("lists").into_iter().map(|summary| summary.run).collect();
        assert_eq!(left, [runs[1].clone()]);
        let sessions = |run| reader.checkpoints(run).expect("reads").sessions.len();
        let requests = |run| ControlQueue::open(&path, run).expect("opens").read_new().expect("reads").len();
        let found = runs.each_ref().map(|run| (reader.records(run, 0).count(), sessions(run), requests(run)));
        assert_eq!(found, [(0, 0, 0), (7, 1, 1)]);
    }
}
