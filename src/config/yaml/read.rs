//! Reads files and standard input as text, up to a maximum size.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::expression::closest_match;
use crate::system::files::{self, MAX_FILE_BYTES};

/// The maximum number of entries of a directory that are compared with a mistyped name.
const MAX_COMPARED_ENTRIES: usize = 10_000;

/// Reads a text file; `-` is the standard input.
///
/// # Errors
/// Returns an error if it cannot be read, is larger than 64 MiB, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Diagnostics> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let fail = |code, problem: String| Diagnostics::for_file(&name, code, format!("`{name}` {problem}"));
    let bytes = read_bytes(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let missing = fail("file::unreadable", "does not exist".to_owned());
            match similar_file(path) {
                Some(similar) => missing.with_help(format!("did you mean `{}`?", similar.display())),
                None => missing,
            }
        }
        ErrorKind::FileTooLarge => fail("file::too_large", format!("cannot be read: {error}")),
        _ => fail("file::unreadable", format!("cannot be read: {error}")),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fail("file::not_utf8", format!("is not valid UTF-8 at byte {at}"))
    })
}

/// Returns the YAML file with this name, if the name has no extension, or else the file in the same directory, with the
/// same extension, whose name is the most similar one.
fn similar_file(path: &Path) -> Option<PathBuf> {
    let with_extension = ["yaml", "yml"].map(|extension| path.with_extension(extension));
    if let Some(file) = with_extension.into_iter().find(|file| path.extension().is_none() && file.is_file()) {
        return Some(file);
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs::read_dir(directory).ok()?.take(MAX_COMPARED_ENTRIES).flatten();
    let paths = entries.map(|entry| entry.path()).filter(|entry| entry.extension() == path.extension());
    let names: Vec<String> = paths.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    let similar = closest_match(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(path.with_file_name(similar))
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    if path == Path::new("-") {
        files::read_all(io::stdin().lock(), MAX_FILE_BYTES)
    } else {
        files::read(path, MAX_FILE_BYTES)
    }
}
