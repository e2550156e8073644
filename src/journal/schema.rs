//! Opens, creates, and migrates the journal's file. Never changes a file that is not a journal of a supported format.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, config::DbConfig, types::Type};
use serde::{Deserialize, de::IntoDeserializer};

use super::JournalError;
use crate::{
    model::{RunId, RunStatus},
    system::files,
};

/// The format of the tables and their records. It is incremented when either changes its meaning.
pub(super) const FORMAT_VERSION: i64 = 5;

/// SQLite's `application_id` of a kapell journal: the letters `kapl`.
const APPLICATION_ID: i64 = i64::from_be_bytes(*b"\0\0\0\0kapl");

/// The timeout for another writing process. Its transactions take milliseconds; ten seconds mean a hanging process or a
/// failing disk.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// `events` is the source of truth. A row contains the events of one append or a part of them. `body` has a line for
/// each event, `seq` is the number of the first, and `at` is the time of the last. `sum` contains their checksums,
/// eight bytes each, little-endian. Rows of older formats have one event, and its checksum is a number or absent. Rows
/// are long, so they are stored apart from their keys.
const EVENTS_TABLE: &str = "
    CREATE TABLE events (
        run  TEXT    NOT NULL,
        seq  INTEGER NOT NULL,
        at   INTEGER NOT NULL,
        body TEXT    NOT NULL,
        sum  INTEGER,
        PRIMARY KEY (run, seq)
    );
";

/// `runs` is derived from `events` in the same transaction, so that a list of runs need not read events. Its `events`
/// column is their number, which detects a lost tail; it is absent in rows from format 2. `number` orders the runs,
/// since clocks can be set back.
const RUNS_TABLE: &str = "
    CREATE TABLE runs (
        number  INTEGER PRIMARY KEY,
        run     TEXT    NOT NULL UNIQUE,
        name    TEXT    NOT NULL,
        started INTEGER NOT NULL,
        status  TEXT    NOT NULL,
        ended   INTEGER,
        events  INTEGER
    );
";

/// `notes` stores checkpoints, with which adapters resume sessions and calls after a crash. `inbox` is the control
/// queue: requests of other processes. Request IDs are never reused, so the last consumed ID identifies new requests.
const CHECKPOINT_AND_QUEUE_TABLES: &str = "
    CREATE TABLE notes (
        run  TEXT NOT NULL,
        key  TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID;
    CREATE TABLE inbox (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        run      TEXT NOT NULL,
        question TEXT,
        body     TEXT NOT NULL,
        UNIQUE (run, question)
    );
";

/// Migrates format 2, which had neither checksums nor `notes` and `inbox`, to format 3.
const MIGRATION_2_TO_3: &str = "
    ALTER TABLE events ADD COLUMN sum INTEGER;
    ALTER TABLE runs ADD COLUMN events INTEGER;
";

/// Migrates format 3 to format 4, with [`EVENTS_TABLE`] in between. Format 3 stored its rows, one event each, with
/// their keys.
const MIGRATION_3_TO_4: [&str; 2] = [
    "ALTER TABLE events RENAME TO events_before;",
    "INSERT INTO events (run, seq, at, body, sum)
        SELECT run, seq, at, body, sum FROM events_before ORDER BY run, seq;
    DROP TABLE events_before;",
];

/// Migrates format 4 to format 5, with [`RUNS_TABLE`] in between. Format 4 ordered runs by start time.
const FROM_4_TO_5: [&str; 2] = [
    "DROP INDEX runs_by_start;
    ALTER TABLE runs RENAME TO runs_before;",
    "INSERT INTO runs (run, name, started, status, ended, events)
        SELECT run, name, started, status, ended, events FROM runs_before ORDER BY
            (SELECT rowid FROM events WHERE events.run = runs_before.run AND events.seq = 0), started, run;
    DROP TABLE runs_before;",
];

/// The number of events in a row of `events`, as SQL. SQLite reads it from the beginning of the row, regardless of the
/// row's length.
pub(super) const EVENTS_PER_ROW_SQL: &str = "iif(typeof(sum) = 'blob', length(sum) / 8, 1)";

/// Returns the default path of the journal: `kapell/journal.db` in the platform's state directory.
///
/// # Errors
/// Returns [`JournalError::NoDataDirectory`] if the platform has no such directory.
pub fn default_path() -> Result<PathBuf, JournalError> {
    let project = directories::ProjectDirs::from("", "", "kapell").ok_or(JournalError::NoDataDirectory)?;
    Ok(project.state_dir().unwrap_or_else(|| project.data_local_dir()).join("journal.db"))
}

/// Opens the journal at `path` for writing, creating the file and its folders if missing.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, JournalError> {
    check_write_ahead_log(path)?;
    create_file(path).map_err(|source| JournalError::Create { path: path.to_path_buf(), source: Arc::new(source) })?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare_tables(&mut connection, path)?;
    Ok(connection)
}

/// Opens the journal at `path` for reading, after migrating an older format.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, JournalError> {
    check_write_ahead_log(path)?;
    if !path.exists() {
        return Err(JournalError::Missing { path: path.to_path_buf() });
    }
    if files::check_regular(path).is_err() {
        return Err(JournalError::NotAJournal { path: path.to_path_buf() });
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match inspect_in_transaction(&connection, path)? {
        FileContent::Journal => {}
        FileContent::OlderFormat(_) => drop(open_for_writing(path)?),
        // Another process is about to create it.
        FileContent::Empty => return Err(JournalError::Missing { path: path.to_path_buf() }),
    }
    Ok(connection)
}

/// The content of a file that may be a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileContent {
    Empty,
    /// A journal of this older format, which can be migrated.
    OlderFormat(i64),
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
        return Err(JournalError::OrphanedLog { path: path.to_path_buf(), log });
    }
    Ok(())
}

/// Returns the path with `suffix` appended, as SQLite names its auxiliary files.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns the checksum of a record. SQLite does not detect a changed byte in a text. The algorithm is 64-bit FNV-1a,
/// but over eight bytes at a time.
pub(super) fn checksum(run: &RunId, seq: u64, body: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(PRIME).rotate_left(23);
    let text = |sum: u64, text: &[u8]| {
        let (words, rest) = text.as_chunks::<8>();
        let sum = words.iter().fold(sum, |sum, word| mix(sum, u64::from_le_bytes(*word)));
        rest.iter().fold(mix(sum, text.len() as u64), |sum, byte| mix(sum, u64::from(*byte)))
    };
    text(mix(text(0xcbf2_9ce4_8422_2325, run.as_str().as_bytes()), seq), body)
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
    // Another process may have been first. A process that drives a run with the older format may continue, since its
    // writes have the same meaning.
    let missing = match inspect(&transaction, path)? {
        FileContent::Empty => {
            // SQLite discards the log of an empty file. Therefore the file is synced before the tables are visible in
            // the log; the log and the folder are synced with the first durable commit.
            let synced = File::open(path).and_then(|file| file.sync_all());
            synced.map_err(|source| JournalError::Create { path: path.to_path_buf(), source: Arc::new(source) })?;
            [EVENTS_TABLE, RUNS_TABLE, CHECKPOINT_AND_QUEUE_TABLES].concat()
        }
        FileContent::OlderFormat(format) => {
            let steps = [
                (2, [MIGRATION_2_TO_3, CHECKPOINT_AND_QUEUE_TABLES].concat()),
                (3, [MIGRATION_3_TO_4[0], EVENTS_TABLE, MIGRATION_3_TO_4[1]].concat()),
                (4, [FROM_4_TO_5[0], RUNS_TABLE, FROM_4_TO_5[1]].concat()),
            ];
            steps.into_iter().filter(|(from, _)| *from >= format).map(|(_, step)| step).collect()
        }
        FileContent::Journal => return Ok(()),
    };
    transaction.execute_batch(&missing).map_err(failed)?;
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
    let found = number("PRAGMA user_version")?;
    if application == APPLICATION_ID {
        return match found {
            FORMAT_VERSION => Ok(FileContent::Journal),
            2..FORMAT_VERSION => Ok(FileContent::OlderFormat(found)),
            _ => Err(JournalError::UnsupportedVersion { path: path.to_path_buf(), found, expected: FORMAT_VERSION }),
        };
    }
    match (application, found, number("SELECT count(*) FROM sqlite_schema")?) {
        (0, 0, 0) => Ok(FileContent::Empty),
        _ => Err(JournalError::NotAJournal { path: path.to_path_buf() }),
    }
}

/// Returns the status of a run in a column.
pub(super) fn read_status(row: &Row<'_>, column: usize) -> rusqlite::Result<RunStatus> {
    let status: String = row.get(column)?;
    RunStatus::deserialize(status.as_str().into_deserializer()).map_err(|error: serde::de::value::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The tables of format 2.
    const TABLES_OF_FORMAT_2: &str = "
        CREATE TABLE events (
            run  TEXT    NOT NULL,
            seq  INTEGER NOT NULL,
            at   INTEGER NOT NULL,
            body TEXT    NOT NULL,
            PRIMARY KEY (run, seq)
        ) WITHOUT ROWID;
        CREATE TABLE runs (
            run     TEXT    NOT NULL PRIMARY KEY,
            name    TEXT    NOT NULL,
            started INTEGER NOT NULL,
            status  TEXT    NOT NULL,
            ended   INTEGER
        ) WITHOUT ROWID;
        CREATE INDEX runs_by_start ON runs (started, run);
    ";

    /// Creates a journal of an older format as an earlier version did, with the rows that these statements insert.
    pub(crate) fn create_journal_of_format(path: &Path, format: i64, content: &str) {
        let connection = Connection::open(path).expect("opens");
        let to_3 = [MIGRATION_2_TO_3, CHECKPOINT_AND_QUEUE_TABLES];
        let to_4 = [MIGRATION_3_TO_4[0], EVENTS_TABLE, MIGRATION_3_TO_4[1]];
        let since = match format {
            2 => Vec::new(),
            3 => to_3.to_vec(),
            _ => [&to_3[..], &to_4[..]].concat(),
        };
        connection.execute_batch(&[&[TABLES_OF_FORMAT_2], &*since, &[content]].concat().concat()).expect("creates");
        connection.pragma_update(None, "application_id", APPLICATION_ID).expect("updates");
        connection.pragma_update(None, "user_version", format).expect("updates");
        connection.pragma_update(None, "journal_mode", "wal").expect("switches");
    }
}
