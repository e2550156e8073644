//! Reads files and standard input as text, within bounds.
//! Never knows what is in them.

use std::{
    io::{self, Read},
    path::Path,
};

use super::diagnostic::Diagnostics;

/// Largest file that is read: far more than anyone writes, and an end for `/dev/zero`.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a text file; `-` is the standard input.
///
/// # Errors
/// When it cannot be read, is larger than 64 MiB, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Diagnostics> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let fail = |code, problem: String| Diagnostics::whole_file(&name, code, format!("`{name}` {problem}"));
    let bytes = read_bytes(path).map_err(|error| fail("file::unreadable", format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fail("file::too_large", format!("is larger than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fail("file::not_utf8", format!("is not UTF-8: byte {at} starts no character"))
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let reader: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(std::fs::File::open(path)?) };
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
