//! Replaces references by the contents of their files, or hands on the files themselves.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::Value;

use super::store::{BASE64, ContentStore};
use crate::model::{JsonObject, SavedFile};
use crate::system::files;
use crate::system::hash::{sha256, sha256_of_file};

impl ContentStore {
    /// Returns whether some arguments have references.
    pub fn has_references(arguments: &JsonObject) -> bool {
        arguments.values().any(value_has_references)
    }

    /// Returns the file of a value that is one reference, and its path. A reference to other contents is only text.
    ///
    /// # Errors
    /// Returns an error that names a file that cannot be read.
    pub(crate) fn referenced_file(&self, value: &Value) -> io::Result<Option<(SavedFile, PathBuf)>> {
        let Some(file) = value.as_str().and_then(SavedFile::parse) else { return Ok(None) };
        let path = self.directory().join(&file.name);
        if !self.is_known(&file) {
            if sha256_of_file(&path).map_err(|error| unreadable(&path, &error))? != file.sha256 {
                return Ok(None);
            }
            self.add_known(&file);
        }
        Ok(Some((file, path)))
    }

    /// Replaces the references in arguments by the contents of their files: texts as they are, and data in Base64. A
    /// reference to other contents is only text.
    ///
    /// # Errors
    /// Returns an error that names a file that cannot be read.
    pub fn restore(&self, value: &mut Value) -> io::Result<()> {
        self.restore_if(value, |_| true)
    }

    /// Does the same as [`ContentStore::restore`] for the members of an object.
    ///
    /// # Errors
    /// Returns the same errors.
    pub fn restore_members(&self, members: &mut JsonObject) -> io::Result<()> {
        members.values_mut().try_for_each(|value| self.restore(value))
    }

    /// Does the same as [`ContentStore::restore`], except for large texts.
    pub(super) fn restore_data(&self, value: &mut Value) -> io::Result<()> {
        self.restore_if(value, |file| !file.is_text)
    }

    fn restore_if(&self, value: &mut Value, is_restored: fn(&SavedFile) -> bool) -> io::Result<()> {
        match value {
            Value::String(text) => {
                if let Some(restored) = self.restored_text(text, is_restored)? {
                    *text = restored;
                }
                Ok(())
            }
            Value::Array(values) => values.iter_mut().try_for_each(|value| self.restore_if(value, is_restored)),
            Value::Object(members) => members.values_mut().try_for_each(|value| self.restore_if(value, is_restored)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    /// Returns the text with its references replaced, or `None` if it has none.
    fn restored_text(&self, text: &str, is_restored: fn(&SavedFile) -> bool) -> io::Result<Option<String>> {
        let Some((mut file, mut range)) = SavedFile::find(text) else { return Ok(None) };
        let (mut restored, mut rest) = (String::new(), text);
        loop {
            restored.push_str(&rest[..range.start]);
            let contents = if is_restored(&file) { self.read_unchanged(&file)? } else { None };
            match contents {
                Some(contents) if file.is_text => {
                    // The only text is moved, so that it is in memory once.
                    let text = String::from_utf8(contents).map_err(io::Error::other)?;
                    match restored.is_empty() {
                        true => restored = text,
                        false => restored.push_str(&text),
                    }
                }
                Some(contents) => BASE64.encode_string(contents, &mut restored),
                None => restored.push_str(&rest[range.clone()]),
            }
            rest = &rest[range.end..];
            match SavedFile::find(rest) {
                Some(next) => (file, range) = next,
                None => break,
            }
        }
        restored.push_str(rest);
        Ok(Some(restored))
    }

    /// Returns the contents of a file, unless they are other ones than its reference states.
    ///
    /// # Errors
    /// Returns an error that names a file that cannot be read.
    pub(super) fn read_unchanged(&self, file: &SavedFile) -> io::Result<Option<Vec<u8>>> {
        let path = self.directory().join(&file.name);
        let contents = files::read(&path, file.bytes).map_err(|error| unreadable(&path, &error))?;
        Ok((sha256(&contents) == file.sha256).then_some(contents))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the file `{}` cannot be read: {error}", path.display()))
}

fn value_has_references(value: &Value) -> bool {
    match value {
        Value::String(text) => SavedFile::find(text).is_some(),
        Value::Array(values) => values.iter().any(value_has_references),
        Value::Object(members) => ContentStore::has_references(members),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    /// Writes a file of the run, and returns it.
    fn file(root: &Path, name: &str, contents: &str) -> SavedFile {
        fs::create_dir_all(root.join("r")).expect("creates");
        fs::write(root.join("r").join(name), contents).expect("writes");
        let (bytes, sha256) = (contents.len() as u64, sha256(contents.as_bytes()));
        SavedFile { name: name.to_owned(), bytes, sha256, is_text: true }
    }

    #[test]
    fn references_to_texts_are_replaced_by_texts() {
        let root = tempfile::tempdir().expect("a folder");
        let store = ContentStore::new(root.path(), &"r".into(), None);
        let text = file(root.path(), "t-1.txt", "it's \"long\"").reference();
        let mut arguments = json!({"whole": text, "parts": [format!("<{text}|{text}>")]});
        store.restore_data(&mut arguments).expect("nothing is read");
        assert_eq!(arguments["whole"], json!(text));
        store.restore(&mut arguments).expect("restores");
        assert_eq!(arguments, json!({"whole": "it's \"long\"", "parts": ["<it's \"long\"|it's \"long\">"]}));
    }

    #[test]
    fn only_references_to_their_own_contents_are_files() {
        let root = tempfile::tempdir().expect("a folder");
        let store = ContentStore::new(root.path(), &"r".into(), None);
        let text = file(root.path(), "t-1.txt", "long");
        let found = store.referenced_file(&json!(text.reference())).expect("reads");
        assert_eq!(found, Some((text.clone(), root.path().join("r/t-1.txt"))));
        let forged = SavedFile { sha256: "0".repeat(64), ..text.clone() };
        for other in [json!(forged.reference()), json!(format!("{} ", text.reference())), json!(1)] {
            assert_eq!(store.referenced_file(&other).expect("reads"), None, "{other}");
        }
        let missing = SavedFile { name: "u-1.txt".to_owned(), ..text };
        let error = store.referenced_file(&json!(missing.reference())).expect_err("it does not exist");
        assert!(error.to_string().contains("r/u-1.txt` cannot be read"), "{error}");
    }
}
