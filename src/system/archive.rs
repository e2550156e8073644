//! Reads archives of others: bounded, and without paths that lead out of their directory.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

/// The maximum number of files in an archive: more than a program with its libraries has.
const MAX_FILES: usize = 100_000;

/// Reads one file of an archive, up to `limit` bytes.
///
/// # Errors
/// Returns an error if the archive cannot be read, or if the file is missing or larger.
pub fn read_file(archive: &Path, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut archive = open(archive)?;
    let file = archive.by_name(name).map_err(|error| match error {
        ZipError::FileNotFound => io::Error::new(io::ErrorKind::NotFound, format!("it has no file `{name}`")),
        error => error.into(),
    })?;
    super::files::read_all(file, limit)
}

/// Unpacks an archive of at most `limit` bytes into a new directory. The directory exists only if all of it was unpacked.
///
/// # Errors
/// Returns an error if the archive cannot be read, is larger, or has a path that leads out of the directory or a link.
pub fn unpack(archive: &Path, directory: &Path, limit: u64) -> io::Result<()> {
    let mut archive = open(archive)?;
    let parent = directory.parent().unwrap_or(Path::new("."));
    super::files::create_own_directory(parent)?;
    let unpacked = tempfile::tempdir_in(parent)?;
    let mut remaining = limit;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let Some(path) = file.enclosed_name().filter(|_| !file.is_symlink()) else {
            let name = String::from_utf8_lossy(file.name_raw());
            return Err(invalid(format!("it has the path `{name}`, which is not allowed")));
        };
        let path = unpacked.path().join(path);
        if file.is_dir() {
            fs::create_dir_all(path)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let is_executable = file.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
        let mode = if is_executable { 0o700 } else { 0o600 };
        let mut output = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        // The sizes that the archive states may be wrong.
        let written = io::copy(&mut (&mut file).take(remaining + 1), &mut output)?;
        remaining = remaining.checked_sub(written).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes when it is unpacked"))
        })?;
    }
    fs::set_permissions(unpacked.path(), Permissions::from_mode(0o700))?;
    fs::rename(unpacked.path(), directory)?;
    // The directory has been moved, so nothing is removed.
    let _ = unpacked.keep();
    Ok(())
}

fn open(path: &Path) -> io::Result<ZipArchive<File>> {
    super::files::check_regular(path)?;
    let archive = ZipArchive::new(File::open(path)?)?;
    if archive.len() > MAX_FILES { Err(invalid(format!("it has more than {MAX_FILES} files"))) } else { Ok(archive) }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(files: &[(&str, u32, &str)]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.zip");
        let mut writer = ZipWriter::new(File::create(&path).expect("creates"));
        for (name, mode, text) in files {
            let options =
                SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).unix_permissions(*mode);
            writer.start_file(*name, options).expect("starts");
            writer.write_all(text.as_bytes()).expect("writes");
        }
        writer.finish().expect("ends");
        (folder, path)
    }

    #[test]
    fn archives_are_unpacked_within_their_limits() {
        let (folder, path) = archive(&[("manifest.json", 0o644, "{}"), ("bin/run", 0o755, "run")]);
        assert_eq!(read_file(&path, "manifest.json", 2).expect("reads"), b"{}");
        assert_eq!(read_file(&path, "manifest.json", 1).expect_err("larger").kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_file(&path, "missing", 1).expect_err("missing").to_string(), "it has no file `missing`");

        let target = folder.path().join("bundles/a");
        assert_eq!(unpack(&path, &target, 4).expect_err("larger").kind(), io::ErrorKind::FileTooLarge);
        assert!(!target.exists());
        unpack(&path, &target, 5).expect("unpacks");
        assert_eq!(fs::read(target.join("bin/run")).expect("reads"), b"run");
        assert_eq!(fs::metadata(target.join("bin/run")).expect("exists").permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(folder.path().join("bundles")).expect("reads").count(), 1);
    }

    #[test]
    fn paths_out_of_the_directory_and_links_are_refused() {
        let (folder, outside) = archive(&[("../up", 0o644, "x")]);
        let link = folder.path().join("link.zip");
        let mut writer = ZipWriter::new(File::create(&link).expect("creates"));
        writer.add_symlink("link", "/etc", SimpleFileOptions::default()).expect("adds");
        writer.finish().expect("ends");
        for path in [outside, link] {
            let error = unpack(&path, &folder.path().join("out/a"), 100).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert!(!folder.path().join("out/up").exists() && !folder.path().join("out/a").exists());
        }
    }
}
