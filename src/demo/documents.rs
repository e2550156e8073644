//! Documents on disk, each a file whose name follows from its title and content.
//! Never touches a file outside its directory.

use std::{io, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fingerprint::fingerprint;

/// What the addresses of documents begin with.
const SCHEME: &str = "archive:///";
/// The most bytes of a document: what fits into one message many times over.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// The longest readable part of a file name, in characters.
const MAX_SLUG_CHARS: usize = 60;

/// How a document is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum DocumentFormat {
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

    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Markdown => "text/markdown",
            Self::Text => "text/plain",
            Self::Json => "application/json",
        }
    }
}

/// A document's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    /// Its file name.
    pub(super) name: String,
    /// How it is written.
    pub(super) format: DocumentFormat,
    /// Its size.
    pub(super) bytes: u64,
}

impl Document {
    /// Its address.
    pub(super) fn uri(&self) -> String {
        format!("{SCHEME}{}", self.name)
    }
}

/// Why a document cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("the document has {bytes} bytes: at most {MAX_BYTES} are kept")]
    TooLarge { bytes: usize },
    #[error("`{uri}` is not the address of a document: expected `{SCHEME}NAME`, as `store_document` returned it")]
    Address { uri: String },
    #[error("there is no document `{uri}`")]
    Unknown { uri: String },
    #[error("cannot use the archive in `{}`: {source}", directory.display())]
    Directory { directory: PathBuf, source: io::Error },
}

/// The archive.
#[derive(Debug, Clone)]
pub(super) struct Documents {
    directory: PathBuf,
}

impl Documents {
    /// The archive in `directory`, else in the platform's directory for application state.
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        let directory = directory.unwrap_or_else(|| {
            directories::ProjectDirs::from("", "", "kapell")
                .map(|places| places.state_dir().unwrap_or_else(|| places.data_local_dir()).join("demo-archive"))
                .unwrap_or_else(|| std::env::temp_dir().join("kapell-demo-archive"))
        });
        Self { directory }
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Keeps a document. The same title, text and format give the same file, so doing it again changes nothing.
    ///
    /// # Errors
    /// When it is too large or cannot be written.
    pub(super) async fn store(
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
            // Written aside first, so that a reader never sees half a document.
            let aside = self.directory.join(format!(".{}.{name}", std::process::id()));
            tokio::fs::write(&aside, text).await?;
            tokio::fs::rename(&aside, self.directory.join(&name)).await
        };
        write.await.map_err(|source| self.directory_error(source))?;
        Ok(Document { name, format, bytes: text.len() as u64 })
    }

    /// A document and its text.
    ///
    /// # Errors
    /// When the address is not one of this archive's, or nothing is there.
    pub(super) async fn read(&self, uri: &str) -> Result<(Document, String), DocumentError> {
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

    /// Every document, by name.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist yet is empty.
    pub(super) async fn list(&self) -> Result<Vec<Document>, DocumentError> {
        let read = async {
            let mut documents = Vec::new();
            let mut entries = tokio::fs::read_dir(&self.directory).await?;
            while let Some(entry) = entries.next_entry().await? {
                let Ok(name) = entry.file_name().into_string() else { continue };
                if let Some(format) = format_of(&name) {
                    documents.push(Document { name, format, bytes: entry.metadata().await?.len() });
                }
            }
            documents.sort_by(|left, right| left.name.cmp(&right.name));
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

/// The format of a file name that [`Documents::store`] could have given. This is what keeps every path inside the
/// directory: such a name has neither a separator nor a leading dot.
fn format_of(name: &str) -> Option<DocumentFormat> {
    let (stem, extension) = name.rsplit_once('.')?;
    let plain = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    let own = !stem.is_empty() && stem.chars().all(plain) && stem.len() <= MAX_SLUG_CHARS + 17;
    DocumentFormat::ALL.into_iter().find(|format| own && format.extension() == extension)
}

/// The title in lower-case ASCII letters, digits and hyphens.
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
