//! Computes fingerprints that show whether an agent's section has changed since a run began. Values that may be secret
//! are not part of a fingerprint.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::yaml::document::DocumentNode;

/// The length of a fingerprint in bytes: enough to distinguish two versions of a section.
const FINGERPRINT_BYTES: usize = 8;

/// Returns a hash of a text.
pub fn fingerprint_of(text: &str) -> String {
    Sha256::digest(text).iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a hash of the section before variables are expanded. Excludes the values of its environment and headers:
/// they may be secret, and may change without changing the agent.
pub(super) fn fingerprint_of_section(section: &DocumentNode<'_>) -> String {
    let mut json = section.to_json();
    if let Value::Object(keys) = &mut json {
        for secret in ["env", "http_headers"] {
            if let Some(Value::Object(entries)) = keys.get_mut(secret) {
                entries.values_mut().for_each(|value| *value = Value::Null);
            }
        }
        // The order of keys has no meaning.
        keys.sort_keys();
    }
    fingerprint_of(&json.to_string())
}
