//! References to the files that hold the data of results: images, audio, and other binary contents.

use super::ContentBlock;

/// The beginning of every reference.
const PREFIX: &str = "kapell-file:";
/// The length of a SHA-256 hash in hexadecimal digits.
const SHA256_DIGITS: usize = 64;

/// A file of a run. Its reference takes the place of the data in a content block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFile {
    /// The name within the directory of the run: letters, digits, `-`, `_`, and `.`.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The SHA-256 hash of the contents, in hexadecimal digits. A reference is not valid for other contents, so only
    /// one who has the contents can write it.
    pub sha256: String,
}

impl SavedFile {
    /// Returns the text that refers to the file.
    pub fn reference(&self) -> String {
        format!("{PREFIX}{}?bytes={}&sha256={}", self.name, self.bytes, self.sha256)
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
        let file = Self { name: name.to_owned(), bytes: bytes.parse().ok()?, sha256: sha256.to_owned() };
        is_valid.then_some((file, text.len() - rest.len() + SHA256_DIGITS))
    }
}

/// Returns whether `name` names a file within a directory, and not the directory or its parent.
fn is_file_name(name: &str) -> bool {
    !name.starts_with('.')
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

impl ContentBlock {
    /// Returns the data of an image, of audio, or of an embedded resource, in Base64 or as a reference.
    pub fn data(&self) -> Option<&str> {
        let block = self.as_non_text()?;
        let data = match block.get("resource") {
            Some(resource) => resource.get("blob"),
            None => block.get("data"),
        };
        data?.as_str()
    }

    /// Replaces the data that [`ContentBlock::data`] returns.
    pub fn set_data(&mut self, data: String) {
        let Self::Other(block) = self else { return };
        let member = match block.get_mut("resource") {
            Some(resource) => resource.get_mut("blob"),
            None => block.get_mut("data"),
        };
        if let Some(member) = member {
            *member = data.into();
        }
    }

    /// Returns the MIME type of the data, if the agent states it.
    pub fn mime_type(&self) -> Option<&str> {
        let block = self.as_non_text()?;
        block.get("resource").unwrap_or(block).get("mimeType")?.as_str()
    }

    /// Returns the file that holds the data.
    pub fn saved_file(&self) -> Option<SavedFile> {
        SavedFile::parse(self.data()?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file() -> SavedFile {
        SavedFile { name: "shot-1.png".to_owned(), bytes: 1_032, sha256: "0a".repeat(32) }
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

    #[test]
    fn data_of_each_kind_of_block_is_replaced() {
        for (block, mime_type, member) in [
            (json!({"type": "image", "mimeType": "image/png", "data": "AA=="}), Some("image/png"), "/data"),
            (json!({"type": "audio", "data": "AA=="}), None, "/data"),
            (
                json!({"type": "resource", "resource": {"uri": "u", "mimeType": "a/b", "blob": "AA=="}}),
                Some("a/b"),
                "/resource/blob",
            ),
        ] {
            let mut block = ContentBlock::from(block);
            assert_eq!((block.data(), block.mime_type(), block.saved_file()), (Some("AA=="), mime_type, None));
            block.set_data(file().reference());
            assert_eq!(block.saved_file(), Some(file()));
            assert_eq!(block.to_json().pointer(member), Some(&json!(file().reference())));
        }
        for block in [
            json!({"type": "text", "text": "data"}),
            json!({"type": "resource", "resource": {"uri": "u", "text": "t"}}),
            json!({"type": "resource_link", "uri": "u"}),
        ] {
            assert_eq!(ContentBlock::from(block).data(), None);
        }
    }
}
