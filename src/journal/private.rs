//! Makes files and folders that this user alone may read: goals and agents' answers are nobody else's business.
//! Never changes those that are there already.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    path::Path,
};

/// Makes a folder, and those that it lies in, where there is none.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    let mut folders = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folders, 0o700);
    folders.recursive(true).create(path)
}

/// How a file is opened that may have to be made.
pub(crate) fn file() -> OpenOptions {
    let mut file = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    file
}
