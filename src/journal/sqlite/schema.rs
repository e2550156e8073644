//! Opens and creates the journal's file. Never changes a file that is not a journal of the supported format.

use std::fs::{self, File, OpenOptions};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior};
use serde::Deserialize;
use serde::de::IntoDeserializer;

use crate::journal::JournalError;
use crate::model::{RunId, RunStatus};
use crate::system::files;

/// The format of the tables and their records. Each change of their meaning is a new format.
///
/// [`DEVELOPMENT_FORMATS`] are used, so the next format is 6.
pub(in crate::journal) const FORMAT_VERSION: i64 = 1;

/// The formats of unreleased versions.
pub(super) const DEVELOPMENT_FORMATS: RangeInclusive<i64> = 2..=5;

/// SQLite's `application_id` of a kapell journal: the letters `kapl`.
const APPLICATION_ID: i64 = i64::from_be_bytes(*b"\0\0\0\0kapl");

/// The timeout for another writing process. Its transactions take milliseconds; ten seconds mean a hanging process or a
/// failing disk.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// `events` is the source of truth. A row contains the events of one append or a part of them. `json_lines` has a line
/// for each event, `first_seq` is the number of the first, and `last_at` is the time of the last. `checksums` contains
/// their checksums, four bytes each, little-endian. Rows are long, so they are stored apart from their keys.
const EVENTS_TABLE: &str = "
    CREATE TABLE events (
        run_id     TEXT    NOT NULL,
        first_seq  INTEGER NOT NULL,
        last_at    INTEGER NOT NULL,
        json_lines TEXT    NOT NULL,
        checksums  BLOB    NOT NULL,
        PRIMARY KEY (run_id, first_seq)
    ) STRICT;
";

/// `runs` is derived from `events` in the same transaction, so that a list of runs need not read events. `event_count`
/// detects a lost tail. `number` orders the runs, since clocks can be set back.
const RUNS_TABLE: &str = "
    CREATE TABLE runs (
        number      INTEGER PRIMARY KEY,
        run_id      TEXT    NOT NULL UNIQUE,
        plan_name   TEXT    NOT NULL,
        status      TEXT    NOT NULL,
        started_at  INTEGER NOT NULL,
        ended_at    INTEGER,
        event_count INTEGER NOT NULL
    ) STRICT;
";

/// With `checkpoints`, adapters resume sessions and calls after a crash. `control_requests` is the control queue:
/// requests of other processes. Request IDs are never reused, so the last consumed ID identifies new requests.
const CHECKPOINT_AND_QUEUE_TABLES: &str = "
    CREATE TABLE checkpoints (
        run_id TEXT NOT NULL,
        key    TEXT NOT NULL,
        json   TEXT NOT NULL,
        PRIMARY KEY (run_id, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE control_requests (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id      TEXT NOT NULL,
        question_id TEXT,
        json        TEXT NOT NULL,
        UNIQUE (run_id, question_id)
    ) STRICT;
";

/// The number of events in a row of `events`, as SQL. SQLite reads it from the beginning of the row, regardless of the
/// row's length.
pub(super) const EVENTS_PER_ROW_SQL: &str = "(length(checksums) / 4)";

/// The checksum of a record, as it is stored.
pub(super) type Checksum = [u8; 4];

/// Opens the journal at `path` for writing, creating the file and its folders if missing.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, JournalError> {
    check_write_ahead_log(path)?;
    create_file(path).map_err(|source| JournalError::Create { journal: path.into(), source: Arc::new(source) })?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare_tables(&mut connection, path)?;
    Ok(connection)
}

/// Opens the journal at `path` for reading.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, JournalError> {
    check_write_ahead_log(path)?;
    if !path.exists() {
        return Err(JournalError::Missing { journal: path.into() });
    }
    if files::check_regular(path).is_err() {
        return Err(JournalError::NotAJournal { journal: path.into() });
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match inspect_in_transaction(&connection, path)? {
        FileContent::Journal => Ok(connection),
        // Another process is about to create it.
        FileContent::Empty => Err(JournalError::Missing { journal: path.into() }),
    }
}

/// The content of a file that may be a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileContent {
    Empty,
    Journal,
}

/// Creates the file and its folders. SQLite gives its auxiliary files the same permissions.
fn create_file(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        files::create_directory(folder)?;
    }
    match files::open_private(path, OpenOptions::new().write(true).create_new(true)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => files::check_regular(path),
        created => created.map(|_| ()),
    }
}

/// Rejects a file that is empty or missing while its write-ahead log is not: SQLite would discard the log and the
/// latest events.
///
/// The log is checked first. A journal has its first page before its log has content. A log found here therefore
/// belongs to a file that has content by now, even while other processes create both.
pub(super) fn check_write_ahead_log(path: &Path) -> Result<(), JournalError> {
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let log = with_suffix(path, "-wal");
    if size(&log) > 0 && size(path) == 0 {
        return Err(JournalError::OrphanedLog { journal: path.into(), log });
    }
    Ok(())
}

/// Returns the path with `suffix` appended, as SQLite names its auxiliary files.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns the checksum of a record: the CRC-32 of the run ID, the sequence number in eight bytes, and the JSON. SQLite
/// does not detect a changed byte in a text.
pub(super) fn checksum(run: &RunId, seq: u64, json: &[u8]) -> Checksum {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(run.as_str().as_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(json);
    hasher.finalize().to_le_bytes()
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, JournalError> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| JournalError::from_sqlite(path, error))?;
    let prepared = connection.busy_timeout(BUSY_TIMEOUT).and_then(|()| {
        // Otherwise SQLite recompiles a statement for each run ID.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
    });
    prepared.map_err(|error| JournalError::from_sqlite(path, error))?;
    Ok(connection)
}

/// Creates missing tables.
fn prepare_tables(connection: &mut Connection, path: &Path) -> Result<(), JournalError> {
    let failed = |error| JournalError::from_sqlite(path, error);
    // Inspect first: switching another program's database to WAL would change its file.
    let content = inspect_in_transaction(connection, path)?;
    if content == FileContent::Empty {
        // A new file needs only one page on disk before the tables are created; see below.
        connection.pragma_update(None, "synchronous", "off").map_err(failed)?;
    }
    enable_write_ahead_log(connection, path)?;
    if content != FileContent::Journal {
        create_tables(connection, path)?;
        connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    }
    // A large result makes a large log, which is truncated to this size at the next SQLite checkpoint.
    connection.pragma_update(None, "journal_size_limit", 16 << 20).map_err(failed)
}

/// Switches to WAL, and retries while busy: SQLite does not wait here while another process opens the same new file.
fn enable_write_ahead_log(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let give_up = Instant::now() + BUSY_TIMEOUT;
    loop {
        let switched = connection.pragma_update(None, "journal_mode", "wal");
        match switched.map_err(|error| JournalError::from_sqlite(path, error)) {
            Err(JournalError::Busy { .. }) if Instant::now() < give_up => thread::sleep(Duration::from_millis(5)),
            result => return result,
        }
    }
}

fn create_tables(connection: &mut Connection, path: &Path) -> Result<(), JournalError> {
    let failed = |error| JournalError::from_sqlite(path, error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have been first.
    if inspect(&transaction, path)? == FileContent::Journal {
        return Ok(());
    }
    // SQLite discards the log of an empty file. Therefore the file is synced before the tables are visible in the log;
    // the log and the folder are synced with the first durable commit.
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|source| JournalError::Create { journal: path.into(), source: Arc::new(source) })?;
    transaction.execute_batch(&[EVENTS_TABLE, RUNS_TABLE, CHECKPOINT_AND_QUEUE_TABLES].concat()).map_err(failed)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction.pragma_update(None, "user_version", FORMAT_VERSION).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Inspects within one transaction, in case another process creates the tables between two queries.
fn inspect_in_transaction(connection: &Connection, path: &Path) -> Result<FileContent, JournalError> {
    let transaction = connection.unchecked_transaction().map_err(|error| JournalError::from_sqlite(path, error))?;
    inspect(&transaction, path)
}

fn inspect(connection: &Connection, path: &Path) -> Result<FileContent, JournalError> {
    let number = |query: &str| {
        connection
            .query_row(query, [], |row| row.get::<_, i64>(0))
            .map_err(|error| JournalError::from_sqlite(path, error))
    };
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    if application == APPLICATION_ID {
        return match version {
            FORMAT_VERSION => Ok(FileContent::Journal),
            _ if DEVELOPMENT_FORMATS.contains(&version) => {
                Err(JournalError::DevelopmentFormat { journal: path.into(), found: version })
            }
            _ => {
                Err(JournalError::UnsupportedVersion { journal: path.into(), found: version, expected: FORMAT_VERSION })
            }
        };
    }
    match (application, version, number("SELECT count(*) FROM sqlite_schema")?) {
        (0, 0, 0) => Ok(FileContent::Empty),
        _ => Err(JournalError::NotAJournal { journal: path.into() }),
    }
}

/// Returns the status of a run in a column.
pub(super) fn read_status(row: &Row<'_>, column: usize) -> rusqlite::Result<RunStatus> {
    let status: String = row.get(column)?;
    RunStatus::deserialize(status.as_str().into_deserializer()).map_err(|error: serde::de::value::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}
