//! The store of journals in SQLite files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::TransactionBehavior;

use super::control_queue::SqliteControlQueue;
use super::lease::FileLease;
use super::reader::SqliteReader;
use super::recovery_scan::recovery_scan;
use super::schedule_log::SqliteScheduleLog;
use super::schema;
use super::writer::SqliteWriter;
use crate::journal::{
    ControlQueue, Durability, JournalError, JournalReader, JournalWriter, Lease, RecoveryScan, ScheduleLog, Store,
};
use crate::model::{CheckpointKey, RunId};

/// A journal in a SQLite file, with the leases of its runs in a directory beside it.
#[derive(Debug)]
pub(in crate::journal) struct SqliteStore {
    path: PathBuf,
}

impl SqliteStore {
    /// Returns the store at `path` without opening it.
    pub(in crate::journal) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }
}

impl Store for SqliteStore {
    fn open_writer(&self, durability: Durability) -> Result<Arc<dyn JournalWriter>, JournalError> {
        Ok(Arc::new(SqliteWriter::open(&self.path, durability)?))
    }

    fn open_reader(&self) -> Result<Box<dyn JournalReader>, JournalError> {
        Ok(Box::new(SqliteReader::open(&self.path)?))
    }

    fn acquire_lease(&self, run: &RunId) -> Result<Lease, JournalError> {
        Ok(Box::new(FileLease::acquire(&self.path, run)?))
    }

    fn control_queue(&self, run: &RunId) -> Box<dyn ControlQueue> {
        Box::new(SqliteControlQueue::new(&self.path, run))
    }

    fn schedule_log(&self) -> Box<dyn ScheduleLog> {
        Box::new(SqliteScheduleLog::new(&self.path))
    }

    fn prune(&self, run: &RunId) -> Result<(), JournalError> {
        // The lease prevents other processes from resuming the run during its deletion.
        let _lease = FileLease::acquire(&self.path, run)?;
        let failed = |error| JournalError::from_sqlite(&self.path, error);
        let mut connection = schema::open_for_writing(&self.path)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for table in ["events", "checkpoints", "control_requests", "runs"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE run_id = ?1"), [run.as_str()]).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    fn delete_checkpoints(&self, run: &RunId) -> Result<Vec<CheckpointKey>, JournalError> {
        // The lease prevents other processes from resuming the run meanwhile.
        let _lease = FileLease::acquire(&self.path, run)?;
        let failed = |error| JournalError::from_sqlite(&self.path, error);
        let connection = schema::open_for_writing(&self.path)?;
        let mut delete =
            connection.prepare("DELETE FROM checkpoints WHERE run_id = ?1 RETURNING key").map_err(failed)?;
        let keys = delete.query_map([run.as_str()], |row| row.get::<_, String>(0)).map_err(failed)?;
        let keys: Vec<String> = keys.collect::<Result<_, _>>().map_err(failed)?;
        Ok(keys.iter().filter_map(|key| CheckpointKey::parse(key)).collect())
    }

    fn recovery_scan(&self) -> RecoveryScan {
        recovery_scan(&self.path)
    }
}
