//! Recognizes secrets in texts, such as keys and tokens. Recognizes too much rather than too little.

use serde_json::Value;

use super::references::replace_references;
use crate::config::agents::secret_collector::is_secret_name;

/// The starts of keys and tokens that their issuers mark.
const TOKEN_PREFIXES: [&str; 22] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
    "npm_",
    "hf_",
    "ntn_",
    "secret_",
];
/// The minimum length of a token that starts with a known prefix.
const MIN_PREFIXED_LENGTH: usize = 12;
/// The minimum length of a secret without punctuation.
const MIN_RUN_LENGTH: usize = 20;
/// The minimum length of a secret in Base64.
const MIN_BASE64_LENGTH: usize = 32;
/// The endings of names whose values are paths.
const PATH_ENDINGS: [&str; 3] = ["_FILE", "_PATH", "_DIR"];
/// Values that are not secret, even under the name of a secret.
const SWITCHES: [&str; 9] = ["", "0", "1", "true", "false", "yes", "no", "on", "off"];

/// Returns whether `value` is a literal secret, either by its name or by its form.
pub(super) fn is_literal_secret(name: &str, value: &str) -> bool {
    let has_reference = value.contains("${");
    let names_path = PATH_ENDINGS.iter().any(|ending| name.to_ascii_uppercase().ends_with(ending));
    let is_switch = SWITCHES.contains(&value.trim().to_ascii_lowercase().as_str());
    let is_named = is_secret_name(name) && !has_reference && !names_path && !is_switch;
    is_named || contains_secret(value)
}

/// Returns whether a text contains a secret outside of its `${…}`.
pub(super) fn contains_secret(text: &str) -> bool {
    let literal = replace_references(text, " ");
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.+/=~@:".contains(c);
    let mut words = literal.split(|c: char| !is_word(c));
    let has_scheme = |scheme: &str| literal.split_whitespace().any(|word| word.eq_ignore_ascii_case(scheme));
    let has_credentials = (has_scheme("bearer") || has_scheme("basic")) && literal.split_whitespace().count() > 1;
    has_credentials || words.any(is_token) || serde_json::from_str(&literal).is_ok_and(|value| names_secret(&value))
}

/// Returns whether a JSON object has a text under the name of a secret.
fn names_secret(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(name, value)| match value {
            Value::String(text) => is_secret_name(name) && !text.trim().is_empty(),
            other => names_secret(other),
        }),
        Value::Array(values) => values.iter().any(names_secret),
        _ => false,
    }
}

fn is_token(word: &str) -> bool {
    // Digests of images and commits of repositories are public.
    let word = word.split_once("@sha256:").map_or(word, |(name, _)| name);
    let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = word.rsplit_once('@').filter(|(_, commit)| is_commit(commit)).map_or(word, |(name, _)| name);
    let mut parts = word.split(['/', ':', '@', '=']);
    let is_path = word.starts_with(['/', '~', '.']);
    let has_run = |part: &str| part.split(|c: char| !c.is_ascii_alphanumeric()).any(is_run);
    parts.any(|part| is_prefixed(part) || is_uuid(part) || !is_path && has_run(part)) || !is_path && is_base64(word)
}

fn is_prefixed(part: &str) -> bool {
    part.len() >= MIN_PREFIXED_LENGTH && TOKEN_PREFIXES.iter().any(|prefix| part.starts_with(prefix))
}

fn is_uuid(part: &str) -> bool {
    let lengths: Vec<usize> = part.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Returns whether a text of letters and digits is a secret, and not a word with a number.
fn is_run(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    part.len() >= MIN_RUN_LENGTH && digits >= 2 && part.len() - digits >= 2
}

fn is_base64(word: &str) -> bool {
    let is_path = word.starts_with(['/', '~', '.', '@']) || word.contains([':', '.']);
    let has = |is_kind: fn(&u8) -> bool| word.as_bytes().iter().any(is_kind);
    let has_all_kinds = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    word.len() >= MIN_BASE64_LENGTH && !is_path && has_all_kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_recognized_by_their_form() {
        for text in [
            "sk-proj-0123456789",
            "Bearer abc",
            "ghp_abcdefghijklmnop",
            "0b1e4a52-6f0c-4f6e-9d0e-1a2b3c4d5e6f",
            "a8f5f167f44f4964e6c998dee827110c",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            r#"{"apiKey": "abc"}"#,
            r#"{"a": [{"password": "x"}]}"#,
            "${HOST} eyJhbGciOiJIUzI1NiJ9.e30.x",
        ] {
            assert!(contains_secret(text), "{text}");
        }
        for text in [
            "@modelcontextprotocol/server-filesystem@2025.11.18",
            "/home/me/Documents/Project2025Final/notes",
            "https://mcp.example.com/v1/mcp?tenant=acme",
            "ghcr.io/acme/server@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "git+https://github.com/acme/server@9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
            "gpt-4o-mini-2024-07-18",
            "${GITHUB_TOKEN_WITH_A_LONG_NAME_123}",
            r#"{"mode": "fast"}"#,
            "bearer",
        ] {
            assert!(!contains_secret(text), "{text}");
        }
    }

    #[test]
    fn secrets_are_recognized_by_their_name() {
        for (name, value) in [("API_KEY", "x"), ("GITHUB_TOKEN", "<your token>"), ("PIN", "1234")] {
            assert!(is_literal_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("API_KEY", "${KEY}"),
            ("API_KEY", ""),
            ("DISABLE_AUTH", "true"),
            ("TLS_KEY_FILE", "/k.pem"),
            ("MODE", "x"),
        ] {
            assert!(!is_literal_secret(name, value), "{name}");
        }
    }
}
