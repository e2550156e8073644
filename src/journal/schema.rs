//! Opens the journal's file: where it lies, what is in it, and whether it is one at all.
//! Never changes a file that is not a journal of this format.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{JournalError, private};

/// The format of the tables and of the records in them. One more whenever either changes its meaning.
pub(super) const FORMAT: i64 = 3;

/// SQLite's `application_id` of a kapell journal: the letters `kapl`.
const APPLICATION_ID: i64 = i64::from_be_bytes(*b"\0\0\0\0kapl");

/// How long to wait for another process that writes. Its transactions take milliseconds; ten seconds is a
/// process that hangs or a disk that is failing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// `events` is the truth. `runs` is derived from it in the same transaction, so that listing the runs
/// need not read their events. `notes` holds what adapters need to find a session or a call again after a crash.
const SCHEMA: &str = "
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
    CREATE TABLE notes (
        run  TEXT NOT NULL,
        key  TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID;
    CREATE INDEX runs_by_start ON runs (started, run);
";

/// Where the journal lies unless a person says otherwise: `kapell/journal.db` in the platform's state directory.
///
/// # Errors
/// [`JournalError::NoHome`] when the platform names no such directory.
pub fn default_path() -> Result<PathBuf, JournalError> {
    let project = directories::ProjectDirs::from("", "", "kapell").ok_or(JournalError::NoHome)?;
    Ok(project.state_dir().unwrap_or_else(|| project.data_local_dir()).join("journal.db"))
}

/// Opens the journal at `path` for writing, and creates it with its folders where there is none.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, JournalError> {
    create_file(path).map_err(|source| JournalError::Create { path: path.to_path_buf(), source: Arc::new(source) })?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare(&mut connection, path)?;
    Ok(connection)
}

/// Opens the journal at `path` for reading.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, JournalError> {
    if !path.exists() {
        return Err(JournalError::Missing { path: path.to_path_buf() });
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match inspect_at_once(&connection, path)? {
        Content::Journal => Ok(connection),
        // Somebody is just about to create it.
        Content::Nothing => Err(JournalError::Missing { path: path.to_path_buf() }),
    }
}

/// What a file that may be a journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Nothing,
    Journal,
}

/// Creates the file and its folders. SQLite gives the files beside it the same permissions.
fn create_file(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        private::create_folder(folder)?;
    }
    match private::file().write(true).create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, JournalError> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| JournalError::from_sqlite(path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| JournalError::from_sqlite(path, error))?;
    Ok(connection)
}

/// Creates the tables where there are none.
fn prepare(connection: &mut Connection, path: &Path) -> Result<(), JournalError> {
    // Looking comes first: switching another program's database to WAL would change its file.
    if inspect_at_once(connection, path)? == Content::Nothing {
        create_tables(connection, path)?;
    }
    switch_to_write_ahead_log(connection, path)?;
    // A large result makes a large log, which is cut back to this at the next checkpoint.
    connection
        .pragma_update(None, "journal_size_limit", 16 << 20)
        .map_err(|error| JournalError::from_sqlite(path, error))
}

/// The one statement for which SQLite does not wait by itself while another process opens the same new file.
fn switch_to_write_ahead_log(connection: &Connection, path: &Path) -> Result<(), JournalError> {
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
    // Another process may have come first.
    if inspect(&transaction, path)? == Content::Nothing {
        transaction.execute_batch(SCHEMA).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.pragma_update(None, "user_version", FORMAT).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Inspects within one transaction, lest another process create the tables between two looks.
fn inspect_at_once(connection: &Connection, path: &Path) -> Result<Content, JournalError> {
    let transaction = connection.unchecked_transaction().map_err(|error| JournalError::from_sqlite(path, error))?;
    inspect(&transaction, path)
}

fn inspect(connection: &Connection, path: &Path) -> Result<Content, JournalError> {
    let number = |query: &str| {
        connection
            .query_row(query, [], |row| row.get::<_, i64>(0))
            .map_err(|error| JournalError::from_sqlite(path, error))
    };
    let application = number("PRAGMA application_id")?;
    let found = number("PRAGMA user_version")?;
    if application == APPLICATION_ID {
        return match found {
            FORMAT => Ok(Content::Journal),
            _ => Err(JournalError::Version { path: path.to_path_buf(), found, expected: FORMAT }),
        };
    }
    match (application, found, number("SELECT count(*) FROM sqlite_schema")?) {
        (0, 0, 0) => Ok(Content::Nothing),
        _ => Err(JournalError::Foreign { path: path.to_path_buf() }),
    }
}
