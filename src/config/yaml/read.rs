//! Reads files and standard input as text, up to a maximum size.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::system::files::{self, MAX_FILE_BYTES};

/// Reads a text file; `-` is the standard input.
///
/// # Errors
/// Returns an error if it cannot be read, is larger than 64 MiB, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Diagnostics> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let fail = |code, problem: String| Diagnostics::for_file(&name, code, format!("`{name}` {problem}"));
    let bytes = read_bytes(path).map_err(|error| {
        let code = if error.kind() == ErrorKind::FileTooLarge { "file::too_large" } else { "file::unreadable" };
        fail(code, format!("cannot be read: {error}"))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fail("file::not_utf8", format!("is not valid UTF-8 at byte {at}"))
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    if path == Path::new("-") {
        files::read_all(io::stdin().lock(), MAX_FILE_BYTES)
    } else {
        files::read(path, MAX_FILE_BYTES)
    }
}
