//! Tells whether an agent's section is still what it was when a run began.
//! Never takes in a value that may be a secret.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::document::DocumentNode;

/// Bytes of the hash that are kept: enough to tell two versions of a section apart.
const FINGERPRINT_BYTES: usize = 8;

/// A hash of a file's text.
pub fn fingerprint_of_text(text: &str) -> String {
    short_hash(text)
}

fn short_hash(text: &str) -> String {
    Sha256::digest(text).iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// A hash of the section as it is written, before variables are expanded, and without the values of its environment
/// and headers, which may be secrets and may change without making another agent of it.
pub(super) fn fingerprint_of_section(section: &DocumentNode<'_>) -> String {
    let mut written = section.to_json();
    if let Value::Object(keys) = &mut written {
        for secret in ["env", "http_headers"] {
            if let Some(Value::Object(entries)) = keys.get_mut(secret) {
                entries.values_mut().for_each(|value| *value = Value::Null);
            }
        }
        // A map keeps the order of the file, which means nothing.
        keys.sort_keys();
    }
    short_hash(&written.to_string())
}
