//! References to the files that hold contents of results: images, audio, other binary contents, and large texts; and the
//! files in which tasks save their outputs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The beginning of every reference.
const PREFIX: &str = "kapell-file:";
/// The end of a reference to a text.
const TEXT_SUFFIX: &str = "&as=text";
/// The length of a SHA-256 hash in hexadecimal digits.
const SHA256_DIGITS: usize = 64;

/// A file of a run. Its reference takes the place of the data in a content block, or of a large text in an event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SavedFile {
    /// The name within the directory of the run: letters, digits, `-`, `_`, and `.`.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The SHA-256 hash of the contents, in hexadecimal digits. A reference is not valid for other contents, so only
    /// one who has the contents can write it.
    pub sha256: String,
    /// True if the reference stands for the text of the file. Otherwise, it stands for the contents in Base64.
    pub is_text: bool,
}

impl SavedFile {
    /// Returns the text that refers to the file.
    pub fn reference(&self) -> String {
        let suffix = if self.is_text { TEXT_SUFFIX } else { "" };
        format!("{PREFIX}{}?bytes={}&sha256={}{suffix}", self.name, self.bytes, self.sha256)
    }

    /// Parses a value that is a reference to a text.
    pub fn parse_text(value: &Value) -> Option<Self> {
        Self::parse(value.as_str()?).filter(|file| file.is_text)
    }

    /// Finds the first reference to a text in a value and all that it contains.
    pub fn find_text(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::find_all(text).find(|file| file.is_text),
            Value::Array(values) => values.iter().find_map(Self::find_text),
            Value::Object(members) => members.values().find_map(Self::find_text),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    /// Returns the references in a text.
    pub fn find_all(text: &str) -> impl Iterator<Item = Self> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let (file, range) = Self::find(rest)?;
            rest = &rest[range.end..];
            Some(file)
        })
    }

    /// Parses a text that is a reference.
    pub fn parse(text: &str) -> Option<Self> {
        let (file, length) = Self::parse_start(text)?;
        (length == text.len()).then_some(file)
    }

    /// Finds the first reference in a text. Returns its file and its range.
    pub fn find(text: &str) -> Option<(Self, std::ops::Range<usize>)> {
        text.match_indices(PREFIX).find_map(|(start, _)| {
            let (file, length) = Self::parse_start(&text[start..])?;
            Some((file, start..start + length))
        })
    }

    /// Parses the reference at the start of a text. Returns its length too.
    fn parse_start(text: &str) -> Option<(Self, usize)> {
        let (name, rest) = text.strip_prefix(PREFIX)?.split_once("?bytes=")?;
        let (bytes, rest) = rest.split_once("&sha256=")?;
        let sha256 = rest.get(..SHA256_DIGITS)?;
        let is_valid = is_file_name(name)
            && bytes.bytes().all(|digit| digit.is_ascii_digit())
            && sha256.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let is_text = rest[SHA256_DIGITS..].starts_with(TEXT_SUFFIX);
        let bytes = bytes.parse().ok()?;
        let file = Self { name: name.to_owned(), bytes, sha256: sha256.to_owned(), is_text };
        let suffix = if is_text { TEXT_SUFFIX.len() } else { 0 };
        is_valid.then_some((file, text.len() - rest.len() + SHA256_DIGITS + suffix))
    }
}

impl TryFrom<String> for SavedFile {
    type Error = &'static str;

    fn try_from(reference: String) -> Result<Self, Self::Error> {
        Self::parse(&reference).ok_or("expected a reference to a file")
    }
}

/// A file of a run in which a task saved its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedOutput {
    /// The name that the task gives, relative to the saved files of the run.
    pub name: String,
    /// The absolute path.
    pub path: String,
    /// The size in bytes.
    pub bytes: u64,
}

/// The maximum length of the name of a saved file, and of each part between slashes, in bytes.
const MAX_NAME_BYTES: usize = 1_000;
const MAX_PART_BYTES: usize = 255;

/// Returns the name of a file within a directory, without `.` among its parts.
///
/// # Errors
/// Returns what is wrong with a name that could be outside of the directory, or that is not portable.
pub fn relative_file_name(name: &str) -> Result<String, &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.starts_with('/') {
        return Err("starts with `/`");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Err("contains a control character or a backslash");
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    if parts.contains(&"..") {
        return Err("contains `..`");
    }
    if parts.last().is_some_and(|last| matches!(*last, "" | ".")) {
        return Err("names a directory");
    }
    parts.retain(|part| !matches!(*part, "" | "."));
    if name.len() > MAX_NAME_BYTES || parts.iter().any(|part| part.len() > MAX_PART_BYTES) {
        return Err("is too long");
    }
    Ok(parts.join("/"))
}

/// Returns whether `name` names a file within a directory, and not the directory or its parent.
fn is_file_name(name: &str) -> bool {
    !name.starts_with('.')
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_saved_files_stay_within_their_directory() {
        for (name, expected) in [
            ("report.md", Ok("report.md")),
            ("./a//b/.c", Ok("a/b/.c")),
            ("..a/b..", Ok("..a/b..")),
            ("", Err("is empty")),
            ("/etc/passwd", Err("starts with `/`")),
            ("a/../../b", Err("contains `..`")),
            ("..", Err("contains `..`")),
            ("a/", Err("names a directory")),
            (".", Err("names a directory")),
            ("a\\b", Err("contains a control character or a backslash")),
            ("a\0b", Err("contains a control character or a backslash")),
            (&"x".repeat(256), Err("is too long")),
        ] {
            assert_eq!(relative_file_name(name), expected.map(str::to_owned), "{name:?}");
        }
    }

    fn file() -> SavedFile {
        SavedFile { name: "shot-1.png".to_owned(), bytes: 1_032, sha256: "0a".repeat(32), is_text: false }
    }

    #[test]
    fn references_to_texts_are_distinct() {
        let text = SavedFile { is_text: true, ..file() };
        let reference = text.reference();
        assert_eq!(SavedFile::parse(&reference), Some(text.clone()));
        let both = serde_json::json!({"a": [file().reference(), format!("x {reference} y")]});
        assert_eq!(SavedFile::find_text(&both), Some(text.clone()));
        assert_eq!(SavedFile::find_text(&both["a"][0]), None);
        assert_eq!(SavedFile::parse_text(&both["a"][1]), None, "it is only a part");
        let all: Vec<_> = SavedFile::find_all(&format!("{reference}{}", file().reference())).collect();
        assert_eq!(all, [text, file()]);
    }

    #[test]
    fn references_are_parsed() {
        let reference = file().reference();
        assert_eq!(SavedFile::parse(&reference), Some(file()));
        assert_eq!(SavedFile::parse(&format!("{reference}0")), None);
        let text = format!("kapell-file:no data:image/png;base64,{reference}, {reference}");
        let start = text.find(&reference).expect("is there");
        assert_eq!(SavedFile::find(&text), Some((file(), start..start + reference.len())));
        for name in ["", ".", "..", ".hidden", "a/b", "a b", "ä"] {
            assert_eq!(SavedFile::parse(&SavedFile { name: name.to_owned(), ..file() }.reference()), None, "{name}");
        }
        for wrong in ["", "kapell-file:a", "kapell-file:a?bytes=1&sha256=00", "kapell-file:a?bytes=-1&sha256="] {
            assert_eq!(SavedFile::find(wrong), None, "{wrong}");
        }
        assert_eq!(SavedFile::parse(&reference.replace("0a", "0A")), None);
    }
}
