//! Writes files under names that are free.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::system::files;
use crate::system::hash::sha256_of_file;

/// The maximum number of names that are tried for a file.
const MAX_NAMES: usize = 1_000;

/// What a file gets as its contents.
pub(super) enum Source<'c> {
    /// These bytes.
    Bytes(&'c [u8]),
    /// Those of a file, which is never in memory as a whole.
    File(&'c Path),
}

impl Source<'_> {
    /// Returns the size in bytes.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => Ok(fs::metadata(path)?.len()),
        }
    }

    /// Writes the contents to a private file, which may replace another one.
    pub(super) fn replace(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => files::write_private(path, bytes, true),
            Self::File(from) => files::copy_private(from, path, true),
        }
    }

    /// Writes the contents to a private file that does not exist.
    fn create(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => files::write_private(path, bytes, false),
            Self::File(from) => files::copy_private(from, path, false),
        }
    }

    /// Returns whether a file has these contents.
    fn is_in(&self, path: &Path) -> io::Result<bool> {
        match self {
            Self::Bytes(bytes) => Ok(files::read(path, bytes.len() as u64)? == *bytes),
            Self::File(from) => {
                let (one, other) = (fs::metadata(from)?, fs::metadata(path)?);
                let is_similar = other.is_file() && one.len() == other.len();
                Ok(is_similar && sha256_of_file(from)? == sha256_of_file(path)?)
            }
        }
    }
}

/// Writes a copy of a saved output to a directory of the user, in the same subdirectory. Returns its path.
pub(super) fn copy_saved_to(directory: &Path, name: &str, contents: &Source<'_>) -> io::Result<PathBuf> {
    match name.rsplit_once('/') {
        Some((folder, name)) => write_copy(&directory.join(folder), name, contents),
        None => write_copy(directory, name, contents),
    }
}

/// Writes a copy of the file `name` of a run to a directory of the user, which is created on demand. Returns its path.
pub(super) fn write_copy(directory: &Path, name: &str, contents: &Source<'_>) -> io::Result<PathBuf> {
    // The name is known to be harmless.
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, "bin"));
    let copy_name = |copy| match copy {
        0 => name.to_owned(),
        copy => format!("{stem}-{}.{extension}", copy + 1),
    };
    fs::create_dir_all(directory)?;
    write_new(directory, copy_name, contents).map(|copied| directory.join(copied))
}

/// Writes the contents to the first of these names that is free, or has the same contents. Returns the name.
pub(super) fn write_new(directory: &Path, name: impl Fn(usize) -> String, contents: &Source<'_>) -> io::Result<String> {
    for name in (0..MAX_NAMES).map(name) {
        let path = directory.join(&name);
        match contents.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            written => return written.map(|()| name),
        }
        if contents.is_in(&path).unwrap_or(false) {
            return Ok(name);
        }
    }
    Err(no_free_name(directory))
}

/// Moves a temporary file in the same directory to the first of these names that is free. Returns the name. If a file
/// with one of the names has the same contents, the temporary file is removed instead.
pub(super) fn keep_as_new(
    mut file: tempfile::NamedTempFile,
    directory: &Path,
    name: impl Fn(usize) -> String,
) -> io::Result<String> {
    for name in (0..MAX_NAMES).map(name) {
        let path = directory.join(&name);
        file = match file.persist_noclobber(&path) {
            Ok(_) => return Ok(name),
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => refused.file,
            Err(refused) => return Err(refused.error),
        };
        if Source::File(file.path()).is_in(&path).unwrap_or(false) {
            return Ok(name);
        }
    }
    Err(no_free_name(directory))
}

fn no_free_name(directory: &Path) -> io::Error {
    let message = format!("`{}` has too many files of one task", directory.display());
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}
