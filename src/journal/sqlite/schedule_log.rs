//! Stores which occurrences of schedules have been handled.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row};

use super::schema;
use crate::journal::{JournalError, ScheduleLog, SchedulePosition};
use crate::model::Timestamp;

/// The positions of schedules. The table is created on first use, so it is not a part of the format of the events.
const SCHEDULES_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS schedules (
        schedule TEXT    NOT NULL PRIMARY KEY,
        handled  INTEGER NOT NULL,
        claimed  INTEGER
    ) STRICT, WITHOUT ROWID;
";

/// The record of schedules in a journal.
#[derive(Debug)]
pub(super) struct SqliteScheduleLog {
    /// Opened on first use.
    connection: Option<Connection>,
    path: PathBuf,
}

impl SqliteScheduleLog {
    /// Returns the record in the journal at `path` without opening it.
    pub(super) fn new(path: &Path) -> Self {
        Self { connection: None, path: path.to_path_buf() }
    }

    fn connection(&mut self) -> Result<&Connection, JournalError> {
        if self.connection.is_none() {
            let connection = schema::open_for_writing(&self.path)?;
            let created = connection
                .pragma_update(None, "synchronous", "full")
                .and_then(|()| connection.execute_batch(SCHEDULES_TABLE));
            created.map_err(|error| JournalError::from_sqlite(&self.path, error))?;
            self.connection = Some(connection);
        }
        Ok(self.connection.as_ref().expect("it was opened"))
    }
}

impl ScheduleLog for SqliteScheduleLog {
    fn position(&mut self, schedule: &str, now: Timestamp) -> Result<SchedulePosition, JournalError> {
        let path = self.path.clone();
        let failed = |error| JournalError::from_sqlite(&path, error);
        let connection = self.connection()?;
        let read = || {
            let sql = "SELECT handled, claimed FROM schedules WHERE schedule = ?1";
            connection.query_row(sql, [schedule], read_position).optional()
        };
        if let Some(position) = read().map_err(failed)? {
            return Ok(position);
        }
        // Another process may have been first.
        let sql = "INSERT INTO schedules (schedule, handled) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        connection.execute(sql, (schedule, stored(now))).map_err(failed)?;
        read().map_err(failed).map(|position| position.unwrap_or(SchedulePosition { handled: now, claimed: None }))
    }

    fn advance(&mut self, schedule: &str, from: SchedulePosition, to: SchedulePosition) -> Result<bool, JournalError> {
        let path = self.path.clone();
        let sql = "UPDATE schedules SET handled = ?1, claimed = ?2 \
                   WHERE schedule = ?3 AND handled = ?4 AND claimed IS ?5";
        let values =
            (stored(to.handled), to.claimed.map(stored), schedule, stored(from.handled), from.claimed.map(stored));
        let changed = self.connection()?.execute(sql, values);
        changed.map(|changed| changed == 1).map_err(|error| JournalError::from_sqlite(&path, error))
    }
}

fn stored(time: Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn read_position(row: &Row<'_>) -> rusqlite::Result<SchedulePosition> {
    let time = |value: i64| Timestamp(u64::try_from(value).unwrap_or_default());
    Ok(SchedulePosition { handled: time(row.get(0)?), claimed: row.get::<_, Option<i64>>(1)?.map(time) })
}
