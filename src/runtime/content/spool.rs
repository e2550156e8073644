//! Receives the output of a call in pieces. What is larger than a value goes to a file while it arrives.

use std::io::{self, Write as _};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::store::ContentStore;
use crate::model::{SavedFile, Secrets, TaskId};
use crate::system::hash::StreamHash;

/// The number of bytes that are written to a file at once.
const WRITE_BYTES: usize = 1024 * 1024;
/// The maximum size of an output in bytes, if the run has no files.
const MAX_MEMORY_BYTES: u64 = 64 * 1024 * 1024;
/// The size of the end of an output that [`Spool::end_of_output`] returns, in bytes.
const END_BYTES: usize = 4 * 1024;

/// The limits of an output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpoolLimits {
    /// The size up to which it is a value, in bytes.
    pub(crate) max_value_bytes: usize,
    /// The maximum size in bytes.
    pub(crate) max_bytes: u64,
}

/// The reason why an output cannot be received.
#[derive(Debug)]
pub(crate) enum SpoolError {
    /// It is larger than this limit, in bytes.
    TooLarge(u64),
    /// The file cannot be written.
    File(io::Error),
}

/// An output that is received in pieces. Without [`Spool::finish`], its file is removed.
pub(crate) struct Spool {
    store: Option<Arc<ContentStore>>,
    limits: SpoolLimits,
    /// The size of all pieces, in bytes.
    bytes: u64,
    /// The pieces that are not in the file yet.
    buffer: Vec<u8>,
    /// The end of what is in the file.
    end: Vec<u8>,
    file: Option<SpoolFile>,
}

/// An output that is complete.
pub(crate) enum Received {
    /// A small one.
    Value(Vec<u8>),
    /// A large one, in a file of the run.
    File(SavedFile),
}

/// What is in the file of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileContents {
    /// UTF-8 text without null characters, with its secrets masked.
    Text,
    /// UTF-8 text with null characters, with its secrets masked.
    TextWithNull,
    /// Anything else.
    Data,
}

impl Spool {
    /// Returns an output without pieces. It stays in memory without a store.
    pub(crate) fn new(store: Option<Arc<ContentStore>>, limits: SpoolLimits) -> Self {
        Self { store, limits, bytes: 0, buffer: Vec::new(), end: Vec::new(), file: None }
    }

    /// Returns the number of bytes that were received.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what is in memory, without what is in a file.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// Returns an error if the output is too large, or its file cannot be written.
    pub(crate) async fn push(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        self.bytes += piece.len() as u64;
        let max_bytes = match &self.store {
            Some(_) => self.limits.max_bytes,
            None => self.limits.max_bytes.min(MAX_MEMORY_BYTES),
        };
        if self.bytes > max_bytes {
            return Err(SpoolError::TooLarge(max_bytes));
        }
        self.buffer.extend_from_slice(piece);
        let max_buffered = if self.file.is_some() { WRITE_BYTES } else { self.limits.max_value_bytes };
        match &self.store {
            Some(store) if self.buffer.len() > max_buffered => {
                let store = Arc::clone(store);
                self.write_buffer(store).await.map_err(SpoolError::File)
            }
            _ => Ok(()),
        }
    }

    /// Moves the buffer to the file, which is created on demand.
    async fn write_buffer(&mut self, store: Arc<ContentStore>) -> io::Result<()> {
        let (file, buffer) = (self.file.take(), std::mem::take(&mut self.buffer));
        self.end = buffer[buffer.len().saturating_sub(END_BYTES)..].to_vec();
        let writing = tokio::task::spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => SpoolFile::new(store.create_spool_file()?, &buffer),
            };
            buffer.chunks(WRITE_BYTES).try_for_each(|chunk| file.write(chunk, store.secrets()))?;
            Ok::<_, io::Error>(file)
        });
        self.file = Some(writing.await.unwrap_or_else(|error| Err(error.into()))?);
        Ok(())
    }

    /// Returns the end of the output received so far: all of it, or its last few lines.
    pub(crate) fn end_of_output(&self) -> Vec<u8> {
        let end = [self.end.as_slice(), self.buffer.as_slice()].concat();
        end[end.len().saturating_sub(END_BYTES)..].to_vec()
    }

    /// Returns the complete output of `task`. Its file is durable. `describe` returns the MIME type for the contents of
    /// the file, and whether a reference stands for them as text.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub(crate) async fn finish(
        mut self,
        task: &TaskId,
        describe: impl FnOnce(FileContents) -> (String, ReferenceKind) + Send + 'static,
    ) -> io::Result<Received> {
        let store = match (&self.store, &self.file) {
            (Some(store), Some(_)) => Arc::clone(store),
            _ => {
                self.buffer.shrink_to_fit();
                return Ok(Received::Value(self.buffer));
            }
        };
        self.write_buffer(Arc::clone(&store)).await?;
        let (file, task) = (self.file, task.clone());
        let finishing = tokio::task::spawn_blocking(move || {
            let mut file = file.ok_or_else(|| io::Error::other("the output has no file"))?;
            file.write_rest(store.secrets())?;
            let (mime_type, kind) = describe(file.contents.kind());
            let saved = SavedFile {
                name: String::new(),
                bytes: file.contents.bytes,
                sha256: file.hash.digits(),
                is_text: kind == ReferenceKind::Text,
            };
            store.adopt_spool_file(file.file, &task, (saved, &mime_type)).map(Received::File)
        });
        finishing.await.unwrap_or_else(|error| Err(error.into()))
    }
}

/// What a reference to the file of an output stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReferenceKind {
    /// Its text.
    Text,
    /// Its contents in Base64.
    Data,
}

/// The file of an output, while it is written.
struct SpoolFile {
    file: NamedTempFile,
    hash: StreamHash,
    contents: ContentsCheck,
    /// True if secrets are masked: data that is not text stays as it is.
    is_masked: bool,
    /// What may be the beginning of a secret.
    pending: Vec<u8>,
    masked: Vec<u8>,
}

impl SpoolFile {
    /// Returns an empty file for an output with this beginning.
    fn new(file: NamedTempFile, beginning: &[u8]) -> Self {
        let mut check = ContentsCheck::default();
        check.add(beginning);
        Self {
            file,
            hash: StreamHash::default(),
            contents: ContentsCheck::default(),
            is_masked: check.is_text_so_far(),
            pending: Vec::new(),
            masked: Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8], secrets: &Secrets) -> io::Result<()> {
        if !self.is_masked {
            return self.write_masked(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let mut masked = std::mem::take(&mut self.masked);
        secrets.mask_chunk(&mut self.pending, &mut masked);
        let written = self.write_masked(&masked);
        masked.clear();
        self.masked = masked;
        written
    }

    /// Writes what may have been the beginning of a secret, and makes the file durable.
    fn write_rest(&mut self, secrets: &Secrets) -> io::Result<()> {
        let (mut pending, mut masked) = (std::mem::take(&mut self.pending), Vec::new());
        secrets.mask_last_chunk(&mut pending, &mut masked);
        self.write_masked(&masked)?;
        self.file.as_file().sync_all()
    }

    fn write_masked(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.add(bytes);
        self.contents.add(bytes);
        self.file.write_all(bytes)
    }
}

/// Checks in pieces whether bytes are text.
#[derive(Default)]
struct ContentsCheck {
    bytes: u64,
    has_null: bool,
    is_invalid: bool,
    /// The beginning of a character whose end is in the next piece.
    partial: Vec<u8>,
}

impl ContentsCheck {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.is_invalid {
            return;
        }
        self.has_null |= bytes.contains(&0);
        let mut rest = bytes;
        while let (false, [next, after @ ..]) = (self.partial.is_empty(), rest) {
            self.partial.push(*next);
            rest = after;
            match std::str::from_utf8(&self.partial) {
                Ok(_) => self.partial.clear(),
                Err(error) if error.error_len().is_some() => {
                    self.is_invalid = true;
                    return;
                }
                Err(_) => {}
            }
        }
        match std::str::from_utf8(rest) {
            Ok(_) => {}
            Err(error) if error.error_len().is_some() => self.is_invalid = true,
            Err(error) => self.partial = rest[error.valid_up_to()..].to_vec(),
        }
    }

    fn is_text_so_far(&self) -> bool {
        !self.is_invalid
    }

    fn kind(&self) -> FileContents {
        match self.is_invalid || !self.partial.is_empty() {
            true => FileContents::Data,
            false if self.has_null => FileContents::TextWithNull,
            false => FileContents::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::system::hash::sha256;

    const LIMITS: SpoolLimits = SpoolLimits { max_value_bytes: 8, max_bytes: 1_000 };

    fn store(root: &Path) -> Arc<ContentStore> {
        let secrets = Secrets::new(["hunter22".to_owned()]);
        Arc::new(ContentStore::new(root, &"r".into(), None).with_secrets(secrets))
    }

    fn describe(contents: FileContents) -> (String, ReferenceKind) {
        match contents {
            FileContents::Text => ("text/plain".to_owned(), ReferenceKind::Text),
            _ => ("application/octet-stream".to_owned(), ReferenceKind::Data),
        }
    }

    async fn receive(store: &Arc<ContentStore>, pieces: &[&[u8]]) -> Received {
        let mut spool = Spool::new(Some(Arc::clone(store)), LIMITS);
        for piece in pieces {
            spool.push(piece).await.expect("is small enough");
        }
        spool.finish(&"t".into(), describe).await.expect("is received")
    }

    /// Returns the names of the files of the run.
    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join("r")).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("reads").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn large_output_is_a_file_with_masked_secrets() {
        let root = tempfile::tempdir().expect("a folder");
        let store = store(root.path());
        assert!(matches!(receive(&store, &[b"1234", b"5678"]).await, Received::Value(value) if value == b"12345678"));
        assert_eq!(names(root.path()), Vec::<String>::new());

        let pieces: [&[u8]; 4] = ["a long \u{e4}".as_bytes(), b" text hun", b"ter", b"22 end"];
        let Received::File(file) = receive(&store, &pieces).await else { panic!("it is large") };
        let text = "a long \u{e4} text *** end";
        let expected = SavedFile {
            name: "t-1.txt".to_owned(),
            bytes: text.len() as u64,
            sha256: sha256(text.as_bytes()),
            is_text: true,
        };
        assert_eq!(file, expected);
        assert_eq!(fs::read_to_string(root.path().join("r/t-1.txt")).expect("reads"), text);
        // Equal contents of a repeated call share a file; others have their own.
        let Received::File(again) = receive(&store, &pieces).await else { panic!("it is large") };
        assert_eq!(again, file);
        receive(&store, &[b"another long text"]).await;
        assert_eq!(names(root.path()), ["t-1-2.txt", "t-1.txt"]);
    }

    #[tokio::test]
    async fn large_data_stays_as_it_is() {
        let root = tempfile::tempdir().expect("a folder");
        let store = store(root.path());
        let data = b"\xff\x00 hunter22";
        let Received::File(file) = receive(&store, &[data]).await else { panic!("it is large") };
        assert_eq!((file.name.as_str(), file.is_text), ("t-1.bin", false));
        assert_eq!(fs::read(root.path().join("r/t-1.bin")).expect("reads"), data);
        // A character that is not complete is not text either.
        let Received::File(file) = receive(&store, &[b"long enough \xc3"]).await else { panic!("it is large") };
        assert!(!file.is_text);
    }

    #[tokio::test]
    async fn output_that_is_not_complete_has_no_file() {
        let root = tempfile::tempdir().expect("a folder");
        let store = store(root.path());
        let mut spool = Spool::new(Some(Arc::clone(&store)), LIMITS);
        spool.push(b"more than eight").await.expect("is small enough");
        assert_eq!(spool.end_of_output(), b"more than eight");
        assert_eq!(names(root.path()).len(), 1);
        let failed = spool.push(&[b'x'; 1_000]).await;
        assert!(matches!(failed, Err(SpoolError::TooLarge(1_000))), "{failed:?}");
        drop(spool);
        assert_eq!(names(root.path()), Vec::<String>::new());

        // The file of a process that was killed.
        fs::write(root.path().join("r/.spool-1"), "x").expect("writes");
        store.remove_unfinished_files();
        assert_eq!(names(root.path()), Vec::<String>::new());
    }

    #[test]
    fn characters_are_checked_across_pieces() {
        let text = "a\u{e4}\u{20ac}\u{1f600}z";
        for size in 1..=text.len() {
            let mut check = ContentsCheck::default();
            text.as_bytes().chunks(size).for_each(|piece| check.add(piece));
            assert_eq!(check.kind(), FileContents::Text, "pieces of {size} bytes");
        }
        for (pieces, expected) in [
            (vec![&b"a\xc3"[..], b"b"], FileContents::Data),
            (vec![b"a\xc3", b""], FileContents::Data),
            (vec![b"a", b"\0"], FileContents::TextWithNull),
        ] {
            let mut check = ContentsCheck::default();
            pieces.iter().for_each(|piece| check.add(piece));
            assert_eq!(check.kind(), expected, "{pieces:?}");
        }
    }
}
