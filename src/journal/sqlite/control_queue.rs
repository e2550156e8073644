//! Stores requests of other processes to a run until the run has consumed them.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};

use super::schema;
use crate::journal::store::check_accepts_requests;
use crate::journal::{ControlQueue, ControlRequest, JournalError, QueuedRequest};
use crate::model::{RunId, RunStatus};
use crate::system::process::RequestSender;

/// The stored format of a request.
#[derive(Serialize, Deserialize)]
struct StoredRequest<R> {
    #[serde(flatten)]
    request: R,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<RequestSender>,
}

/// The control queue of a run.
#[derive(Debug)]
pub(super) struct SqliteControlQueue {
    /// Opened on first use.
    connection: Option<Connection>,
    path: PathBuf,
    run: RunId,
    /// The ID of the last request that was read.
    last_read_id: i64,
    /// SQLite's `data_version` at the last read; a different value means that the content may have changed.
    data_version: Option<i64>,
}

impl SqliteControlQueue {
    /// Returns the control queue of `run` in the journal at `path` without opening it.
    pub(super) fn new(path: &Path, run: &RunId) -> Self {
        Self { connection: None, path: path.to_path_buf(), run: run.clone(), last_read_id: 0, data_version: None }
    }
}

impl ControlQueue for SqliteControlQueue {
    fn send(&mut self, request: &ControlRequest, sender: &RequestSender) -> Result<(), JournalError> {
        let Self { connection, path, run, .. } = self;
        let connection = open_connection(connection, path)?;
        let failed = |error| JournalError::from_sqlite(path, error);
        // Immediate, so that the run cannot end between the check and the insertion.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let status: Option<RunStatus> = transaction
            .query_row("SELECT status FROM runs WHERE run_id = ?1", [run.as_str()], |row| schema::read_status(row, 0))
            .optional()
            .map_err(failed)?;
        check_accepts_requests(run, status)?;
        let question = request.question();
        let json = StoredRequest { request, sender: Some(sender.clone()) };
        let json = serde_json::to_string(&json).expect("ids, texts and JSON can be written as JSON");
        let name = question.map(|question| question.as_str());
        let sent = transaction.execute(
            "INSERT INTO control_requests (run_id, question_id, json) VALUES (?1, ?2, ?3)",
            (run.as_str(), name, json),
        );
        match (sent, question) {
            (Ok(_), _) => transaction.commit().map_err(failed),
            (Err(error), Some(question))
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
            {
                Err(JournalError::AlreadyAnswered { run: run.clone(), question: question.clone() })
            }
            (Err(error), _) => Err(failed(error)),
        }
    }

    fn read_new(&mut self) -> Result<Vec<QueuedRequest>, JournalError> {
        let Self { connection, path, run, last_read_id, data_version } = self;
        let connection = open_connection(connection, path)?;
        let mut read = || {
            let now = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
            if *data_version == Some(now) {
                return Ok(Vec::new());
            }
            let mut query = connection
                .prepare_cached("SELECT id, json FROM control_requests WHERE run_id = ?1 AND id > ?2 ORDER BY id")?;
            let rows = query.query_map((run.as_str(), *last_read_id), |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
            *data_version = Some(now);
            *last_read_id = rows.last().map_or(*last_read_id, |(id, _)| *id);
            let mut requests = Vec::new();
            for (id, json) in rows {
                match serde_json::from_str(&json) {
                    Ok(StoredRequest { request, sender }) => requests.push(QueuedRequest { id, request, sender }),
                    Err(error) => {
                        // If it stayed, it would block an answer to the same question forever.
                        tracing::warn!(%error, "removing a request that cannot be read");
                        connection.execute("DELETE FROM control_requests WHERE id = ?1", [id])?;
                    }
                }
            }
            Ok(requests)
        };
        read().map_err(|error| JournalError::from_sqlite(path, error))
    }

    fn remove(&mut self, id: i64) -> Result<(), JournalError> {
        let Self { connection, path, .. } = self;
        let removed = open_connection(connection, path)?.execute("DELETE FROM control_requests WHERE id = ?1", [id]);
        removed.map(|_| ()).map_err(|error| JournalError::from_sqlite(path, error))
    }
}

fn open_connection<'c>(
    connection: &'c mut Option<Connection>,
    path: &Path,
) -> Result<&'c mut Connection, JournalError> {
    match connection {
        Some(connection) => Ok(connection),
        None => Ok(connection.insert(schema::open_for_writing(path)?)),
    }
}
