//! Creates files that only their owner can read, and reads files with a size limit.

use std::fs::{self, DirBuilder, File, FileType, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

/// The permission bits of the group and of other users.
const GROUP_AND_OTHER_BITS: u32 = 0o077;

/// The maximum size of files that a person writes: plans, parameters, answers, and the agents file.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Creates a directory and its missing parents with access for this user only.
///
/// # Errors
/// Returns the error of the system.
pub fn create_directory(path: &Path) -> io::Result<()> {
    // An empty path is the parent of a bare file name.
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

/// Creates a directory that only kapell uses, and removes access of other users from an existing one.
///
/// # Errors
/// Returns an error for a symbolic link, since its creator would control where files are written.
pub fn create_own_directory(path: &Path) -> io::Result<()> {
    create_directory(path)?;
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Err(wrong_kind_error(path, describe_kind(metadata.file_type()), "a directory"));
    }
    make_private(&metadata, |permissions| fs::set_permissions(path, permissions))
}

/// Opens a private regular file for writing. Does not follow symbolic links.
///
/// # Errors
/// Returns an error that names the kind of a path that is not a regular file, or the error of the system.
pub fn open_private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Without `O_NONBLOCK`, opening a FIFO waits for its other end.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = options.mode(0o600).custom_flags(flags).open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Err(error) => {
            return Err(match fs::symlink_metadata(path) {
                Ok(metadata) if !metadata.is_file() => {
                    wrong_kind_error(path, describe_kind(metadata.file_type()), "a regular file")
                }
                _ => error,
            });
        }
    };
    if !metadata.is_file() {
        return Err(wrong_kind_error(path, describe_kind(metadata.file_type()), "a regular file"));
    }
    make_private(&metadata, |permissions| file.set_permissions(permissions))?;
    Ok(file)
}

/// Opens a private file for writing, in a directory that only kapell uses.
///
/// # Errors
/// See [`create_own_directory`] and [`open_private`].
pub fn open_in_own_directory(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        create_own_directory(directory)?;
    }
    open_private(path, options)
}

/// Replaces a private file as a whole, in a directory that only kapell uses. Another process reads either the old or the
/// new contents.
///
/// # Errors
/// See [`create_own_directory`] and [`write_private`].
pub fn replace_in_own_directory(path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        create_own_directory(directory)?;
    }
    write_private(path, contents, true)
}

/// Writes a private file atomically. Does not follow symbolic links.
///
/// # Errors
/// Returns the error of the system, and [`io::ErrorKind::AlreadyExists`] if the file exists and `replaces` is false.
pub fn write_private(path: &Path, contents: &[u8], replaces: bool) -> io::Result<()> {
    write_private_with(path, |file| file.write_all(contents), replaces)
}

/// Copies a regular file to a private file atomically. Its contents are never in memory as a whole.
///
/// # Errors
/// As [`write_private`].
pub fn copy_private(from: &Path, path: &Path, replaces: bool) -> io::Result<()> {
    let mut source = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(from)?;
    let metadata = source.metadata()?;
    if !metadata.is_file() {
        return Err(wrong_kind_error(from, describe_kind(metadata.file_type()), "a regular file"));
    }
    // The system copies between the files if it can.
    write_private_with(path, |file| io::copy(&mut source, file).map(drop), replaces)
}

/// Writes a private file atomically with `write`.
fn write_private_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>, replaces: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    // The umask can only have removed permissions.
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    match replaces {
        // Renaming replaces a link itself, not the file that it points to.
        true => file.persist(path).map(drop),
        false => file.persist_noclobber(path).map(drop),
    }
    .map_err(|error| error.error)
}

/// Replaces a file of the user as a whole, or creates it with its directories. Keeps its permissions, and a symbolic link
/// to it.
///
/// # Errors
/// Returns the error of the system.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path))?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let permissions = fs::metadata(&path).ok().map(|metadata| metadata.permissions());
    write_private(&path, contents, true)?;
    permissions.map_or(Ok(()), |permissions| fs::set_permissions(&path, permissions))
}

/// Checks that a path is a regular file or does not exist. Follows symbolic links.
///
/// # Errors
/// Returns an error that names the kind of any other path.
pub fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(wrong_kind_error(path, describe_kind(metadata.file_type()), "a regular file"))
        }
        _ => Ok(()),
    }
}

/// Reads a file of at most `limit` bytes. `/dev/null` is empty, and `/dev/fd/N` and `/dev/stdin` may be pipes.
///
/// # Errors
/// Returns an error without reading for a directory, a device, a named FIFO, or a file above the limit.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    let is_own_descriptor = ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|prefix| path.starts_with(prefix));
    let is_allowed = metadata.is_file() || is_own_descriptor && !metadata.is_dir() || path == Path::new("/dev/null");
    if !is_allowed {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {}, not a regular file", describe_kind(metadata.file_type())),
        ));
    }
    // The file may have been replaced since the check, and opening a FIFO would wait.
    let file = match metadata.is_file() {
        true => OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?,
        false => File::open(path)?,
    };
    if metadata.len() > limit {
        return Err(too_large(limit));
    }
    read_all(file, limit)
}

/// Reads `input` to its end, up to `limit` bytes.
///
/// # Errors
/// Returns an error if the input exceeds the limit.
pub fn read_all(input: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than the limit of {limit} bytes"))
}

fn wrong_kind_error(path: &Path, kind: &str, expected: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is {kind}, not {expected}", path.display()))
}

/// Describes the kind of a file, with its article.
pub fn describe_kind(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "a regular file"
    }
}

/// Removes the permissions of other users if this user owns the file. Files of other owners stay unchanged.
fn make_private(metadata: &Metadata, set: impl FnOnce(Permissions) -> io::Result<()>) -> io::Result<()> {
    let mode = metadata.mode() & 0o7777;
    if mode & GROUP_AND_OTHER_BITS == 0 || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    set(Permissions::from_mode(mode & !GROUP_AND_OTHER_BITS))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("exists").mode() & 0o777
    }

    fn open_for_append(path: &Path) -> io::Result<File> {
        open_private(path, OpenOptions::new().append(true).create(true))
    }

    #[test]
    fn files_and_directories_become_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("a/own");
        create_own_directory(&own).expect("creates");
        assert_eq!((mode(&own), mode(&folder.path().join("a"))), (0o700, 0o700));
        open_for_append(&own.join("log")).expect("creates");
        assert_eq!(mode(&own.join("log")), 0o600);

        for (path, shared) in [(&own, 0o777), (&own.join("log"), 0o666)] {
            fs::set_permissions(path, Permissions::from_mode(shared)).expect("changes");
        }
        create_own_directory(&own).expect("exists");
        open_for_append(&own.join("log")).expect("opens");
        assert_eq!((mode(&own), mode(&own.join("log"))), (0o700, 0o600));
    }

    #[test]
    fn writes_refuse_links_and_fifos() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "kept").expect("writes");
        fs::create_dir(at("elsewhere")).expect("creates");
        symlink(at("victim"), at("to-file")).expect("links");
        symlink(at("missing"), at("to-nothing")).expect("links");
        symlink(at("elsewhere"), at("to-directory")).expect("links");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("makes");

        for (name, kind) in [("to-file", "a symbolic link"), ("to-nothing", "a symbolic link"), ("fifo", "a FIFO")] {
            let error = open_for_append(&at(name)).expect_err(name);
            assert_eq!(error.to_string(), format!("`{}` is {kind}, not a regular file", at(name).display()));
        }
        let error = open_for_append(&at("elsewhere")).expect_err("a directory");
        assert!(error.to_string().ends_with("is a directory, not a regular file"), "{error}");
        let error = open_in_own_directory(&at("to-directory").join("log"), OpenOptions::new().write(true).create(true))
            .expect_err("a link");
        assert!(error.to_string().ends_with("is a symbolic link, not a directory"), "{error}");
        assert_eq!(fs::read(at("victim")).expect("reads"), b"kept");
        assert!(!at("missing").exists() && fs::read_dir(at("elsewhere")).expect("reads").next().is_none());
    }

    #[test]
    fn reads_refuse_oversized_and_special_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "12345").expect("writes");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("makes");
        let message = |path: PathBuf| read(&path, 4).expect_err("refuses").to_string();
        assert_eq!(read(&at("file"), 5).expect("reads"), b"12345");
        assert_eq!(read(Path::new("/dev/null"), 5).expect("reads"), b"");
        assert_eq!(message(at("file")), "it is larger than the limit of 4 bytes");
        assert_eq!(message(at("fifo")), "it is a FIFO, not a regular file");
        assert_eq!(message(folder.path().to_owned()), "it is a directory, not a regular file");
        assert_eq!(message("/dev/zero".into()), "it is a device, not a regular file");
        assert_eq!(read_all(io::repeat(0), 9).expect_err("refuses").kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn replaced_files_keep_links_and_permissions() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        replace(&at("new/agents.toml"), b"one").expect("creates");
        assert_eq!(mode(&at("new/agents.toml")), 0o600);
        fs::set_permissions(at("new/agents.toml"), Permissions::from_mode(0o644)).expect("changes");
        symlink(at("new/agents.toml"), at("link")).expect("links");
        replace(&at("link"), b"two").expect("replaces");
        assert!(at("link").is_symlink());
        assert_eq!(
            (fs::read(at("new/agents.toml")).expect("reads"), mode(&at("new/agents.toml"))),
            (b"two".to_vec(), 0o644)
        );
    }

    #[test]
    fn copies_are_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "contents").expect("writes");
        copy_private(&at("file"), &at("copy"), false).expect("copies");
        assert_eq!((fs::read(at("copy")).expect("reads"), mode(&at("copy"))), (b"contents".to_vec(), 0o600));
        let refused = copy_private(&at("file"), &at("copy"), false).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::AlreadyExists));
        let error = copy_private(folder.path(), &at("copy"), true).expect_err("a directory");
        assert!(error.to_string().ends_with("is a directory, not a regular file"), "{error}");
    }

    #[test]
    fn files_are_replaced_only_on_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plan.yaml");
        write_private(&path, b"one", false).expect("written");
        assert_eq!(
            write_private(&path, b"two", false).map_err(|error| error.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        assert_eq!(fs::read(&path).expect("reads"), b"one");
        write_private(&path, b"three", true).expect("written");
        assert_eq!(fs::read(&path).expect("reads"), b"three");
        assert_eq!(mode(&path), 0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).expect("links");
        assert!(write_private(&link, b"four", false).is_err());
        write_private(&link, b"five", true).expect("written");
        assert_eq!((fs::read(&path).expect("reads"), link.is_symlink()), (b"three".to_vec(), false));
        assert_eq!(fs::read_dir(folder.path()).expect("reads").count(), 2);
    }
}
