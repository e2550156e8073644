//! Prevents two processes from driving the same run: the driver holds a lock on a file of the run. The system releases
//! the lock of a dead process, and child processes do not inherit it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::schema;
use crate::journal::{Holder, JournalError};
use crate::model::RunId;
use crate::system::files;

/// The timeout for acquiring a held lock. A process that only looks for the holder locks it for microseconds.
const LOCK_RETRY_TIMEOUT: Duration = Duration::from_millis(100);

/// The exclusive right to drive a run, until it is dropped.
#[derive(Debug)]
pub(super) struct FileLease {
    path: PathBuf,
    /// Locked while open.
    _file: File,
}

impl FileLease {
    /// Acquires the lease of `run`, whose events are in the journal at `journal`. Blocks for a tenth of a second if
    /// another process holds it.
    ///
    /// # Errors
    /// Returns [`JournalError::Driven`] if another process holds it, and [`JournalError::LeaseUnavailable`] if locking
    /// fails.
    pub(super) fn acquire(journal: &Path, run: &RunId) -> Result<Self, JournalError> {
        let path = lease_path(journal, run);
        match Self::acquire_at(&path, run) {
            Ok(acquired) => acquired.map_err(|holder| JournalError::Driven { run: run.clone(), holder }),
            Err(source) => Err(JournalError::LeaseUnavailable { path, source: Arc::new(source) }),
        }
    }

    /// Returns the lease, or the process that holds it.
    fn acquire_at(path: &Path, run: &RunId) -> io::Result<Result<Self, Holder>> {
        check_run_id(run)?;
        if let Some(folder) = path.parent() {
            files::create_own_directory(folder)?;
        }
        let give_up = Instant::now() + LOCK_RETRY_TIMEOUT;
        loop {
            let mut file =
                files::open_private(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
            match file.try_lock() {
                Ok(()) if is_same_file(&file, path)? => {
                    file.set_len(0)?;
                    file.write_all(std::process::id().to_string().as_bytes())?;
                    return Ok(Ok(Self { path: path.to_path_buf(), _file: file }));
                }
                // The previous holder removed the file after it was opened here.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < give_up => thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::WouldBlock) => return Ok(Err(parse_holder(file))),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

/// Returns the process that drives `run`, if any.
///
/// # Errors
/// Returns an error if the lock cannot be checked.
pub(super) fn holder(journal: &Path, run: &RunId) -> Result<Option<Holder>, JournalError> {
    let path = lease_path(journal, run);
    read_holder(&path, run).map_err(|source| JournalError::LeaseUnavailable { path, source: Arc::new(source) })
}

impl Drop for FileLease {
    fn drop(&mut self) {
        // A remaining file is not locked, so it is harmless.
        let _ = fs::remove_file(&self.path);
    }
}

fn read_holder(path: &Path, run: &RunId) -> io::Result<Option<Holder>> {
    check_run_id(run)?;
    let file = match files::open_private(path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(parse_holder(file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Parses the holder from a locked file.
fn parse_holder(mut file: File) -> Holder {
    let mut text = String::new();
    let process = file.read_to_string(&mut text).ok().and_then(|_| text.parse().ok());
    Holder { pid: process }
}

/// Returns whether `path` still refers to the open file.
fn is_same_file(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(current) => Ok((current.dev(), current.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the lease file of a run, next to the journal itself after resolving links.
fn lease_path(journal: &Path, run: &RunId) -> PathBuf {
    let journal = fs::canonicalize(journal).unwrap_or_else(|_| journal.to_path_buf());
    schema::with_suffix(&journal, ".leases").join(run.as_str())
}

/// Rejects an ID that could lead to another folder, since the journal may have been edited.
fn check_run_id(run: &RunId) -> io::Result<()> {
    let mut parts = Path::new(run.as_str()).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid run ID `{run}`"))),
    }
}

#[cfg(test)]
mod tests;
