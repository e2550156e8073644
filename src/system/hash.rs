//! Computes SHA-256 hashes as hexadecimal digits.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// The number of bytes that a short hash keeps.
const SHORT_BYTES: usize = 16;
/// The number of bytes of a file that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// Returns the hash of `contents`.
pub fn sha256(contents: &[u8]) -> String {
    hex_digits(&Sha256::digest(contents))
}

/// Returns a short hash of several texts, as the name of a file or an entry. It does not show the texts, which may
/// contain secrets.
pub fn short_hash<'t>(parts: impl IntoIterator<Item = &'t str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex_digits(&hash.finalize()[..SHORT_BYTES])
}

/// A hash of contents that are read or written in pieces.
#[derive(Debug, Clone, Default)]
pub struct StreamHash(Sha256);

impl StreamHash {
    /// Adds a piece.
    pub fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Returns the hash of all pieces.
    pub fn digits(self) -> String {
        hex_digits(&self.0.finalize())
    }
}

/// Returns the hash of the contents of a file, which are read in pieces.
///
/// # Errors
/// Returns the error of the system.
pub fn sha256_of_file(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut piece) = (File::open(path)?, StreamHash::default(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.digits()),
            length => hash.add(&piece[..length]),
        }
    }
}

fn hex_digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_hexadecimal_and_depend_on_the_limits_of_the_parts() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(short_hash(["a", "b"]).len(), 2 * SHORT_BYTES);
        let mut pieces = StreamHash::default();
        [&b"ab"[..], b"", b"c"].into_iter().for_each(|piece| pieces.add(piece));
        assert_eq!(pieces.digits(), sha256(b"abc"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let contents = vec![b'x'; READ_BYTES + 1];
        std::fs::write(file.path(), &contents).expect("writes");
        assert_eq!(sha256_of_file(file.path()).expect("reads"), sha256(&contents));
        assert_ne!(short_hash(["a", "b"]), short_hash(["ab"]));
        assert_ne!(short_hash(["a", "b"]), short_hash(["", "ab"]));
    }
}
