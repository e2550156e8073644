//! Makes files and folders that this user alone may read: goals and agents' answers are nobody else's business.
//! Never changes those that are there already.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
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

/// Writes a whole file that this user alone may read, or leaves the path as it was. Links are not followed.
///
/// # Errors
/// When the file cannot be written, or exists and `replaces` is false.
pub(crate) fn write(path: &Path, contents: &[u8], replaces: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    // The umask can only have taken permissions away.
    #[cfg(unix)]
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    match replaces {
        // Renaming replaces a link itself, and not the file that it points to.
        true => file.persist(path).map(drop),
        false => file.persist_noclobber(path).map(drop),
    }
    .map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_asked_and_links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plan.yaml");
        write(&path, b"one", false).expect("written");
        assert_eq!(write(&path, b"two", false).map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&path).expect("reads"), b"one");
        write(&path, b"three", true).expect("written");
        assert_eq!(fs::read(&path).expect("reads"), b"three");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(&path, &link).expect("linked");
            assert!(write(&link, b"four", false).is_err());
            write(&link, b"five", true).expect("written");
            assert_eq!((fs::read(&path).expect("reads"), link.is_symlink()), (b"three".to_vec(), false));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), if cfg!(unix) { 2 } else { 1 });
    }
}
