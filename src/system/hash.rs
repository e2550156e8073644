//! Computes SHA-256 hashes as hexadecimal digits.

use sha2::{Digest as _, Sha256};

/// The number of bytes that a short hash keeps.
const SHORT_BYTES: usize = 16;

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
        assert_ne!(short_hash(["a", "b"]), short_hash(["ab"]));
        assert_ne!(short_hash(["a", "b"]), short_hash(["", "ab"]));
    }
}
