//! Stores documents as files whose names are derived from their title and content. Never accesses a file outside its
//! directory.

use std::io;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::demo::fingerprint::fingerprint;

/// The prefix of document URIs.
pub(crate) const SCHEME: &str = "archive:///";
/// The maximum size of a document in bytes, well below the size of a message.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// The maximum length of the readable part of a file name, in characters.
const MAX_SLUG_CHARS: usize = 60;

/// The format of a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DocumentFormat {
    /// Markdown.
    #[default]
    Markdown,
    /// Plain text.
    Text,
    /// JSON.
    Json,
}

impl DocumentFormat {
    const ALL: [Self; 3] = [Self::Markdown, Self::Text, Self::Json];

    fn extension(self) -> &'static str {
        match self {
            Self::Markdown => "md",
            Self::Text => "txt",
            Self::Json => "json",
        }
    }

    /// Returns the media type of the format.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Markdown => "text/markdown",
            Self::Text => "text/plain",
            Self::Json => "application/json",
        }
    }
}

/// The metadata of a stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    /// The file name.
    pub(crate) name: String,
    /// The format.
    pub(crate) format: DocumentFormat,
    /// The size in bytes.
    pub(crate) bytes: u64,
}

impl Document {
    /// Returns the URI of the document.
    pub(crate) fn uri(&self) -> String {
        format!("{SCHEME}{}", self.name)
    }
}

/// An error of storing or reading a document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the document has {bytes} bytes: at most {MAX_BYTES} are kept")]
    TooLarge { bytes: usize },
    #[error("`{uri}` is not the URI of a document: expected `{SCHEME}NAME`, as returned by `store_document`")]
    Address { uri: String },
    #[error("document `{uri}` does not exist")]
    Unknown { uri: String },
    #[error("cannot use the archive in `{}`: {source}", directory.display())]
    Directory { directory: PathBuf, source: io::Error },
}

/// The document store of the archive.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    directory: PathBuf,
}

impl Documents {
    /// Creates the store in `directory`. Defaults to the platform's directory for application state.
    pub(crate) fn new(directory: Option<PathBuf>) -> Self {
        let directory = directory.unwrap_or_else(|| {
            directories::ProjectDirs::from("", "", "kapell")
                .map(|directories| {
                    directories.state_dir().unwrap_or_else(|| directories.data_local_dir()).join("demo-archive")
                })
                .unwrap_or_else(|| std::env::temp_dir().join("kapell-demo-archive"))
        });
        Self { directory }
    }

    /// Returns the directory of the store.
    pub(crate) fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Stores a document. The same title, text, and format result in the same file, so repeating this changes nothing.
    ///
    /// # Errors
    /// Returns an error if the document is too large or cannot be written.
    pub(crate) async fn store(
        &self,
        title: &str,
        text: &str,
        format: DocumentFormat,
    ) -> Result<Document, DocumentError> {
        if text.len() > MAX_BYTES {
            return Err(DocumentError::TooLarge { bytes: text.len() });
        }
        let number = fingerprint(&[title, text]);
        let name = format!("{}-{number:016x}.{}", slug(title), format.extension());
        let write = async {
            tokio::fs::create_dir_all(&self.directory).await?;
            // The file is written to a temporary path first, so that readers never see a partial document.
            let temporary = self.directory.join(format!(".{}.{name}", std::process::id()));
            tokio::fs::write(&temporary, text).await?;
            tokio::fs::rename(&temporary, self.directory.join(&name)).await
        };
        write.await.map_err(|source| self.directory_error(source))?;
        Ok(Document { name, format, bytes: text.len() as u64 })
    }

    /// Returns a document and its text.
    ///
    /// # Errors
    /// Returns an error if the URI is not a document URI of this archive, or if the document does not exist.
    pub(crate) async fn read(&self, uri: &str) -> Result<(Document, String), DocumentError> {
        let name = uri.strip_prefix(SCHEME).unwrap_or_default();
        let format = format_of(name).ok_or_else(|| DocumentError::Address { uri: uri.to_owned() })?;
        match tokio::fs::read_to_string(self.directory.join(name)).await {
            Ok(text) => Ok((Document { name: name.to_owned(), format, bytes: text.len() as u64 }, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(DocumentError::Unknown { uri: uri.to_owned() })
            }
            Err(source) => Err(self.directory_error(source)),
        }
    }

    /// Returns all documents, sorted by name.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be read. A missing directory counts as empty.
    pub(crate) async fn list(&self) -> Result<Vec<Document>, DocumentError> {
        let read = async {
            let mut documents = Vec::new();
            let mut entries = tokio::fs::read_dir(&self.directory).await?;
            while let Some(entry) = entries.next_entry().await? {
                let Ok(name) = entry.file_name().into_string() else { continue };
                if let Some(format) = format_of(&name) {
                    documents.push(Document { name, format, bytes: entry.metadata().await?.len() });
                }
            }
            documents.sort_by(|first, second| first.name.cmp(&second.name));
            Ok::<_, io::Error>(documents)
        };
        match read.await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|source| self.directory_error(source)),
        }
    }

    fn directory_error(&self, source: io::Error) -> DocumentError {
        DocumentError::Directory { directory: self.directory.clone(), source }
    }
}

/// Returns the format of a valid document file name. Valid names contain no separator and no leading dot, which keeps
/// every path inside the directory.
fn format_of(name: &str) -> Option<DocumentFormat> {
    let (stem, extension) = name.rsplit_once('.')?;
    let is_slug_char =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    let is_valid = !stem.is_empty() && stem.chars().all(is_slug_char) && stem.len() <= MAX_SLUG_CHARS + 17;
    DocumentFormat::ALL.into_iter().find(|format| is_valid && format.extension() == extension)
}

/// Returns the title in lowercase ASCII letters, digits, and hyphens.
fn slug(title: &str) -> String {
    let mut slug = String::new();
    for character in title.to_lowercase().chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() == MAX_SLUG_CHARS {
            break;
        }
    }
    match slug.trim_end_matches('-') {
        "" => "document".to_owned(),
        slug => slug.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_derived_from_titles() {
        assert_eq!(slug("Lisbon: a Brief!"), "lisbon-a-brief");
        assert_eq!(slug("  ../../etc/passwd "), "etc-passwd");
        assert_eq!(slug("東京"), "document");
        assert_eq!(slug(&"long ".repeat(40)).len(), 59);
    }

    #[tokio::test]
    async fn storing_twice_changes_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let documents = Documents::new(Some(directory.path().join("deep/inside")));
        assert_eq!(documents.list().await.expect("an empty archive"), []);

        let stored = documents.store("A brief", "# Lisbon\n", DocumentFormat::Markdown).await.expect("stored");
        assert_eq!(stored.bytes, 9);
        let again = documents.store("A brief", "# Lisbon\n", DocumentFormat::Markdown).await.expect("stored again");
        assert_eq!(again, stored);
        assert_eq!(documents.list().await.expect("one document"), std::slice::from_ref(&stored));
        let read = documents.read(&stored.uri()).await.expect("read");
        assert_eq!(read, (stored, "# Lisbon\n".to_owned()));
    }

    #[tokio::test]
    async fn paths_outside_the_directory_are_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let documents = Documents::new(Some(directory.path().join("inside")));
        std::fs::write(directory.path().join("secret.md"), "secret").expect("written");
        documents.store("a", "b", DocumentFormat::Text).await.expect("stored");
        for uri in [
            "archive:///../secret.md",
            "archive:////etc/passwd",
            "archive:///..%2fsecret.md",
            "archive:///sub/dir.md",
            "archive:///.hidden.md",
            "file:///etc/hosts",
            "secret.md",
            "archive:///",
        ] {
            let refused = documents.read(uri).await;
            assert!(matches!(refused, Err(DocumentError::Address { .. })), "{uri}: {refused:?}");
        }
        let unknown = documents.read("archive:///nothing-0.md").await;
        assert!(matches!(unknown, Err(DocumentError::Unknown { .. })), "{unknown:?}");
    }

    #[tokio::test]
    async fn oversized_documents_are_refused() {
        let documents = Documents::new(Some(std::env::temp_dir().join("never-created")));
        let error =
            documents.store("big", &"x".repeat(MAX_BYTES + 1), DocumentFormat::Text).await.expect_err("too large");
        assert_eq!(error.to_string(), "the document has 1048577 bytes: at most 1048576 are kept");
    }
}
