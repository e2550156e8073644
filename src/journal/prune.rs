//! Takes runs out of a journal for good.
//! Never one that a process drives.

use std::path::Path;

use rusqlite::TransactionBehavior;

use super::{JournalError, Lease, schema};
use crate::model::RunId;

/// Takes a run out of the journal at `path`. Its space is used again by later runs; the file does not shrink.
///
/// # Errors
/// [`JournalError::Driven`] when a process drives it, or when the journal cannot be written.
pub fn prune(path: &Path, run: &RunId) -> Result<(), JournalError> {
    // Nobody takes up a run that is about to be gone.
    let _lease = Lease::take(path, run)?;
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
    use crate::journal::{Durability, Inbox, Journal, Reader, Request, SqliteJournal, samples};
    use crate::model::NoteKey;

    #[test]
    fn nothing_is_left_of_a_run_and_all_of_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let runs = ["one", "two"].map(RunId::from);
        for run in &runs {
            block_on(journal.append(run, samples::journey()[..7].into())).expect("appends");
            block_on(journal.note(run, NoteKey::Session("travel".into()), 1.into())).expect("keeps");
            Inbox::open(&path, run)
                .expect("opens")
                .send(&Request::Cancel, &crate::system::process::Sender::current())
                .expect("sends");
        }
        let lease = Lease::take(&path, &runs[0]).expect("takes");
        assert!(matches!(prune(&path, &runs[0]), Err(JournalError::Driven { .. })));
        drop(lease);
        prune(&path, &runs[0]).expect("prunes");

        let reader = Reader::open(&path).expect("opens");
        let left: Vec<_> = reader.runs(9).expect("lists").into_iter().map(|summary| summary.run).collect();
        assert_eq!(left, [runs[1].clone()]);
        let sessions = |run| reader.notes(run).expect("reads").sessions.len();
        let requests = |run| Inbox::open(&path, run).expect("opens").take_new().expect("reads").len();
        let found = runs.each_ref().map(|run| (reader.records(run, 0).count(), sessions(run), requests(run)));
        assert_eq!(found, [(0, 0, 0), (7, 1, 1)]);
    }
}
