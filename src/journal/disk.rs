//! The files of a journal on its disk.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::JournalLocation;

/// What the disk of a journal has of it, and room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalDisk {
    /// The size of the journal and its write-ahead log in bytes; absent if the journal does not exist yet.
    pub size: Option<u64>,
    /// The space on the disk that is available to this user, in bytes.
    pub free: u64,
    /// Whether this user may write the journal and its directory, or create them.
    pub is_writable: bool,
}

/// Returns what the disk has of a journal. Creates nothing.
///
/// # Errors
/// Fails if the directory, or the one that would contain it, cannot be inspected.
pub fn journal_disk(location: &JournalLocation) -> io::Result<JournalDisk> {
    let path = std::path::absolute(location.path())?;
    let size_of = |path: &Path| path.metadata().ok().map(|file| file.len());
    let log = format!("{}-wal", path.display());
    let size = size_of(&path).map(|size| size + size_of(Path::new(&log)).unwrap_or(0));
    let directory = path.ancestors().skip(1).find(|directory| directory.exists()).unwrap_or(Path::new("/"));
    let space = statvfs(directory)?;
    let may_write = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    Ok(JournalDisk {
        size,
        free: space.blocks_available() as u64 * space.fragment_size() as u64,
        is_writable: directory.is_dir() && may_write(directory) && (size.is_none() || may_write(&path)),
    })
}
