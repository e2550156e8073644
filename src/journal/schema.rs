//! Opens the journal's file: where it lies, what is in it, and whether it is one at all.
//! Never changes a file that is not a journal of this format or of the one before.

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

/// The format of the tables and of the records in them. One more whenever either changes its meaning.
pub(super) const FORMAT_VERSION: i64 = 5;

/// SQLite's `application_id` of a kapell journal: the letters `kapl`.
const APPLICATION_ID: i64 = i64::from_be_bytes(*b"\0\0\0\0kapl");

/// How long to wait for another process that writes. Its transactions take milliseconds; ten seconds is a
/// process that hangs or a disk that is failing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// `events` is the truth. A row is what was appended together, or a part of that: `body` has a line for each event, `seq`
/// is the number of the first, `at` belongs to the last, and `sum` holds their checksums, eight bytes each, the least
/// significant first. In rows that an older format wrote there is one event, and its checksum is a number, or absent. Rows
/// are long, so that they are kept apart from the keys by which they are found.
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

/// `runs` is derived from `events` in the same transaction, so that listing the runs need not read their events. Its own
/// `events` is their number, by which a lost tail is noticed; it is absent where format 2 wrote them. `number` orders the
/// runs: a start time is what a clock said, and clocks are set back.
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

/// `notes` holds what adapters need to find a session or a call again after a crash, `inbox` what other processes want of
/// a run. Ids of requests are never used again, so that a process knows by the last one it took which are new.
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

/// Makes format 3 of format 2, which had neither checksums nor `notes` and `inbox`.
const MIGRATION_2_TO_3: &str = "
    ALTER TABLE events ADD COLUMN sum INTEGER;
    ALTER TABLE runs ADD COLUMN events INTEGER;
";

/// Makes format 4 of format 3, with [`EVENTS_TABLE`] between the two. Format 3 kept its rows, one event each, among their keys.
const MIGRATION_3_TO_4: [&str; 2] = [
    "ALTER TABLE events RENAME TO events_before;",
    "INSERT INTO events (run, seq, at, body, sum)
        SELECT run, seq, at, body, sum FROM events_before ORDER BY run, seq;
    DROP TABLE events_before;",
];

/// Makes format 5 of format 4, with [`RUNS_TABLE`] between the two. Format 4 ordered its runs by their start.
const FROM_4_TO_5: [&str; 2] = [
    "DROP INDEX runs_by_start;
    ALTER TABLE runs RENAME TO runs_before;",
    "INSERT INTO runs (run, name, started, status, ended, events)
        SELECT run, name, started, status, ended, events FROM runs_before ORDER BY
            (SELECT rowid FROM events WHERE events.run = runs_before.run AND events.seq = 0), started, run;
    DROP TABLE runs_before;",
];

/// How many events a row of `events` holds, as SQL. It is known from the beginning of the row, however long that is.
pub(super) const EVENTS_PER_ROW_SQL: &str = "iif(typeof(sum) = 'blob', length(sum) / 8, 1)";

/// Where the journal lies unless a person says otherwise: `kapell/journal.db` in the platform's state directory.
///
/// # Errors
/// [`JournalError::NoDataDirectory`] when the platform names no such directory.
pub fn default_path() -> Result<PathBuf, JournalError> {
    let project = directories::ProjectDirs::from("", "", "kapell").ok_or(JournalError::NoDataDirectory)?;
    Ok(project.state_dir().unwrap_or_else(|| project.data_local_dir()).join("journal.db"))
}

/// Opens the journal at `path` for writing, and creates it with its folders where there is none.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, JournalError> {
    check_write_ahead_log(path)?;
    create_file(path).map_err(|source| JournalError::Create { path: path.to_path_buf(), source: Arc::new(source) })?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare_tables(&mut connection, path)?;
    Ok(connection)
}

/// Opens the journal at `path` for reading. One of an older format is brought up to date first.
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
        // Somebody is just about to create it.
        FileContent::Empty => return Err(JournalError::Missing { path: path.to_path_buf() }),
    }
    Ok(connection)
}

/// What a file that may be a journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileContent {
    Empty,
    /// A journal of this older format, which can be brought up to date.
    OlderFormat(i64),
    Journal,
}

/// Creates the file and its folders. SQLite gives the files beside it the same permissions.
fn create_file(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        files::create_directory(folder)?;
    }
    match files::open_private(path, OpenOptions::new().write(true).create_new(true)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => files::check_regular(path),
        created => created.map(|_| ()),
    }
}

/// Refuses a file that is empty or gone while its write-ahead log is not: SQLite would throw the log away, and the
/// latest events with it.
///
/// The log is looked at first. A journal has its first page before anything is in its log, so that a log found here belongs
/// to a file that has content by now, also while other processes create the two.
pub(super) fn check_write_ahead_log(path: &Path) -> Result<(), JournalError> {
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let log = with_suffix(path, "-wal");
    if size(&log) > 0 && size(path) == 0 {
        return Err(JournalError::OrphanedLog { path: path.to_path_buf(), log });
    }
    Ok(())
}

/// Returns the path with `suffix` at its end, as SQLite names the files beside its own.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns the checksum of a record: a disk can change a byte, and SQLite does not see it in a text. After FNV-1a of 64
/// bits, but eight bytes at a time.
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
        // Otherwise a statement is compiled anew for each run that it is about.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
    });
    prepared.map_err(|error| JournalError::from_sqlite(path, error))?;
    Ok(connection)
}

/// Creates the tables that are not there.
fn prepare_tables(connection: &mut Connection, path: &Path) -> Result<(), JournalError> {
    let failed = |error| JournalError::from_sqlite(path, error);
    // Looking comes first: switching another program's database to WAL would change its file.
    let content = inspect_in_transaction(connection, path)?;
    if content == FileContent::Empty {
        // Of a new file, one page is on the disk before there are tables, and that is all it needs; see below.
        connection.pragma_update(None, "synchronous", "off").map_err(failed)?;
    }
    enable_write_ahead_log(connection, path)?;
    if content != FileContent::Journal {
        create_tables(connection, path)?;
        connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    }
    // A large result makes a large log, which is cut back to this at the next checkpoint.
    connection.pragma_update(None, "journal_size_limit", 16 << 20).map_err(failed)
}

/// Returns the one statement for which SQLite does not wait by itself while another process opens the same new file.
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
    // Another process may have come first. One that is still driving a run by the older format may go on: what it
    // writes means the same.
    let missing = match inspect(&transaction, path)? {
        FileContent::Empty => {
            // SQLite throws away the log of a file that is empty. So this one is on the disk before anybody sees tables in
            // the log; the log and the folder follow with the first commit that is to last.
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

/// Inspects within one transaction, lest another process create the tables between two looks.
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

    /// Makes a journal of an older format as an earlier version did, with these statements' content.
    pub(in crate::journal) fn create_journal_of_format(path: &Path, format: i64, content: &str) {
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
