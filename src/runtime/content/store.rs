//! Writes the binary and large contents of results to files before their events, and reads them back: binary contents for
//! later calls, and large texts when an event is read.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use parking_lot::Mutex;
use serde_json::Value;

use super::file_names::file_name;
use super::writing::{Source, copy_saved_to, write_copy, write_new};
use crate::model::{ContentBlock, IdHashMap, Record, RunId, SavedFile, Secrets, TaskId, ToolOutput};
use crate::system::files;
use crate::system::hash::sha256;
use crate::view::{ResultFile, RunResult, TaskResult};

/// The maximum number of files of one result. Further contents stay in its event.
const MAX_FILES: usize = 1_000;
/// The size from which a text or a structured result is a file. An event with a smaller one is a row of the journal.
const MIN_TEXT_BYTES: usize = 1024 * 1024;
/// The directory of the files that plans name, in the directory of a run.
pub(super) const SAVED_DIRECTORY: &str = "saved";
/// Reads Base64 with and without padding.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The files of one run, in a directory that only the host writes to. All functions block.
#[derive(Debug)]
pub struct ContentStore {
    /// The directory of the files of all runs.
    pub(super) root: PathBuf,
    directory: PathBuf,
    /// A directory of the user that gets a copy of each new file.
    copies: Option<PathBuf>,
    /// The copies by the names of their files. Locked only to insert or to read.
    copied: Mutex<IdHashMap<String, PathBuf>>,
    /// The secrets that are masked in texts before they are written.
    secrets: Secrets,
    /// The names of saved outputs, with their tasks. Locked only to insert.
    pub(super) reserved_names: Mutex<IdHashMap<String, TaskId>>,
    /// The references to files whose contents are known to be as stated. Locked only to insert or to look for one.
    known_references: Mutex<HashSet<String>>,
}

impl ContentStore {
    /// Returns the store for `run` below `root`. Creates nothing.
    pub fn new(root: &Path, run: &RunId, copies: Option<PathBuf>) -> Self {
        let directory = root.join(run.as_str());
        Self {
            root: root.to_owned(),
            directory,
            copies,
            copied: Mutex::default(),
            secrets: Secrets::default(),
            reserved_names: Mutex::default(),
            known_references: Mutex::default(),
        }
    }

    /// Returns the directory of the run.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the secrets that are masked in texts.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Records that a file has the contents that its reference states.
    pub(super) fn add_known(&self, file: &SavedFile) {
        self.known_references.lock().insert(file.reference());
    }

    /// Returns whether a file is known to have the contents that its reference states. Agents can write references, too.
    pub(super) fn is_known(&self, file: &SavedFile) -> bool {
        self.known_references.lock().contains(&file.reference())
    }

    /// Creates the directory of the run on demand.
    pub(super) fn create_directory(&self) -> io::Result<&Path> {
        files::create_own_directory(&self.root)?;
        files::create_own_directory(&self.directory)?;
        Ok(&self.directory)
    }

    /// Copies a file of the run to the directory of the user, if there is one.
    pub(super) fn copy_file(&self, name: &str, contents: &Source<'_>) -> io::Result<()> {
        if let Some(copies) = &self.copies {
            let copied = write_copy(copies, name, contents)?;
            self.copied.lock().insert(name.to_owned(), copied);
        }
        Ok(())
    }

    /// Copies a saved output to the directory of the user, if there is one.
    pub(super) fn copy_saved(&self, name: &str, contents: &Source<'_>) -> io::Result<()> {
        if let Some(copies) = &self.copies {
            let copied = copy_saved_to(copies, name, contents)?;
            self.copied.lock().insert(saved_key(name), copied);
        }
        Ok(())
    }

    /// Masks these secrets in texts before they are written.
    #[must_use]
    pub fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// Returns whether a result has contents for files.
    pub fn has_contents(output: &ToolOutput) -> bool {
        let has_contents = |block: &ContentBlock| {
            block.data().is_some()
                || large_text(block).is_some()
                || block.missing_text_file().is_some()
                || block.file_of_text().is_some()
        };
        output.content.iter().any(has_contents) || output.structured.as_ref().is_some_and(is_large)
    }

    /// Masks the texts of a result, which must not be in a file either.
    pub(super) fn mask(&self, output: &mut Arc<ToolOutput>) {
        self.secrets.mask_output(output);
    }

    /// Saves the contents of a task's result. References replace binary contents, and large texts wherever the result is
    /// serialized. Contents that are not Base64 stay.
    ///
    /// The files are durable when this returns. Equal contents of a repeated call share a file.
    ///
    /// # Errors
    /// Returns the error of the system. The contents without a file are unchanged.
    pub fn save(&self, task: &TaskId, output: &mut ToolOutput) -> io::Result<()> {
        let mut number = 0;
        for block in &mut output.content {
            // An agent must not refer to the files of other results.
            block.remove_text_file();
            if block.file_of_text().is_some_and(|file| !self.is_known(file)) {
                block.disown_file();
            }
            if let Some(text) = large_text(block).filter(|_| number < MAX_FILES) {
                number += 1;
                let file = self.write(|copy| file_name(task, number, block.mime_type(), copy), text.as_bytes())?;
                block.set_text_file(file);
                continue;
            }
            let Some(data) = block.data() else { continue };
            if SavedFile::parse(data).is_some_and(|file| self.is_known(&file)) {
                // It arrived in a file.
                continue;
            }
            let contents: Vec<u8> = match BASE64.decode(data.split_ascii_whitespace().collect::<String>()) {
                Ok(contents) if !contents.is_empty() && number < MAX_FILES => contents,
                // The same for data.
                Err(_) if SavedFile::find(data).is_some() => {
                    block.set_data(String::new());
                    continue;
                }
                _ => continue,
            };
            number += 1;
            let name = |copy| file_name(task, number, block.mime_type(), copy);
            let file = self.write(name, &contents)?;
            block.set_data(file.reference());
        }
        if let Some(structured) = output.structured.as_ref().filter(|value| is_large(value)) {
            number += 1;
            let name = |copy| file_name(task, number, Some("application/json"), copy);
            let file = self.write(name, &serde_json::to_vec(structured)?)?;
            output.structured_file = Some(Box::new(file));
        }
        match number {
            0 => Ok(()),
            _ => File::open(&self.directory)?.sync_all(),
        }
    }

    /// Writes the contents to the first file of these names that does not exist, or has the same contents.
    fn write(&self, name: impl Fn(usize) -> String, contents: &[u8]) -> io::Result<SavedFile> {
        let name = write_new(self.create_directory()?, name, &Source::Bytes(contents))?;
        self.copy_file(&name, &Source::Bytes(contents))?;
        Ok(SavedFile { name, bytes: contents.len() as u64, sha256: sha256(contents), is_text: false })
    }

    /// Restores the large contents of the results in an event that was read from the journal.
    ///
    /// # Errors
    /// Returns an error that names a file that cannot be read, or has other contents.
    pub fn restore_results(&self, record: &mut Record) -> io::Result<()> {
        for output in record.event.outputs_mut().filter(|output| output.missing_file().is_some()) {
            let output = Arc::make_mut(output);
            for block in &mut output.content {
                if let Some(file) = block.missing_text_file() {
                    let text = String::from_utf8(self.read(&file)?).map_err(io::Error::other)?;
                    block.restore_text(file, text);
                }
            }
            if let Some(file) = output.structured_file.as_deref().filter(|_| output.structured.is_none()) {
                output.structured = Some(serde_json::from_slice(&self.read(file)?)?);
            }
        }
        Ok(())
    }

    /// Returns the contents of a file.
    fn read(&self, file: &SavedFile) -> io::Result<Vec<u8>> {
        self.read_unchanged(file)?.ok_or_else(|| {
            let path = self.directory.join(&file.name);
            io::Error::other(format!("the file `{}` has been changed", path.display()))
        })
    }

    /// Copies the files of a task and its items to `directory`, and sets their paths to the copies. Texts of embedded
    /// resources become files there, too.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or written.
    pub fn copy_files(&self, id: &TaskId, task: &mut TaskResult, directory: &Path) -> io::Result<()> {
        for file in &mut task.files {
            let contents = Source::File(&file.path);
            let copied = match &file.saved_as {
                Some(name) => copy_saved_to(directory, name, &contents)?,
                None => {
                    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
                    write_copy(directory, &name, &contents)?
                }
            };
            file.path = copied;
        }
        let mut items = task.items.iter_mut().flatten().enumerate();
        items.try_for_each(|(index, item)| self.copy_files(&id.item(index), item, directory))?;
        Self::save_own_texts(id, task, directory)
    }

    /// Writes the texts of the embedded resources of a task and its items to `directory`, and adds them to its files.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn save_texts(id: &TaskId, task: &mut TaskResult, directory: &Path) -> io::Result<()> {
        let mut items = task.items.iter_mut().flatten().enumerate();
        items.try_for_each(|(index, item)| Self::save_texts(&id.item(index), item, directory))?;
        Self::save_own_texts(id, task, directory)
    }

    fn save_own_texts(id: &TaskId, task: &mut TaskResult, directory: &Path) -> io::Result<()> {
        let output = task.output.clone();
        for block in output.iter().flat_map(|output| &output.content).filter(|block| block.saved_file().is_none()) {
            let Some(text) = block.resource_text() else { continue };
            let number = task.files.len() + 1;
            let mime_type = block.mime_type().unwrap_or("text/plain");
            let name = file_name(id, number, Some(mime_type), 0);
            let path = write_copy(directory, &name, &Source::Bytes(text.as_bytes()))?;
            let bytes = text.len() as u64;
            task.files.push(ResultFile { path, mime_type: Some(mime_type.to_owned()), bytes, saved_as: None });
        }
        Ok(())
    }

    /// Adds the paths of the files to a result, and the data of files to its outputs. References to large texts stay.
    pub fn complete_result(&self, result: &mut RunResult) {
        let copied = self.copied.lock();
        result.locate_files(|name| copied.get(name).cloned().unwrap_or_else(|| self.directory.join(name)));
        for output in result.outputs.values_mut() {
            if let Err(error) = self.restore_data(output) {
                tracing::warn!(%error, "an output refers to a file that is missing");
            }
        }
    }
}

/// Returns the path of a saved output, relative to the directory of the run.
pub(super) fn saved_key(name: &str) -> String {
    format!("{SAVED_DIRECTORY}/{name}")
}

/// Returns the text of a block that is large enough for a file, and is not in one.
fn large_text(block: &ContentBlock) -> Option<&str> {
    let text = match block {
        ContentBlock::Saved(_) => None,
        block => block.text_for_file(),
    };
    text.filter(|text| text.len() >= MIN_TEXT_BYTES)
}

/// Returns whether a structured result is large enough for a file.
fn is_large(structured: &Value) -> bool {
    json_bytes(structured) >= MIN_TEXT_BYTES
}

/// Estimates the length of the JSON text of a value.
fn json_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(values) => values.iter().map(|value| json_bytes(value) + 1).sum(),
        Value::Object(members) => members.iter().map(|(key, value)| key.len() + json_bytes(value) + 4).sum(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;
    use crate::model::{AttemptId, Event, Timestamp};

    fn image(data: &str) -> Value {
        json!({"type": "image", "mimeType": "image/png", "data": data})
    }

    /// Saves a result with these blocks, and returns the data of each.
    fn save(store: &ContentStore, task: &str, blocks: &[Value]) -> Vec<String> {
        let mut output = ToolOutput::new(blocks.iter().cloned(), None);
        store.save(&task.into(), &mut output).expect("saves");
        output.content.iter().map(|block| block.data().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn saved_contents_are_restored() {
        let root = tempfile::tempdir().expect("a folder");
        let store = ContentStore::new(root.path(), &"r".into(), None);
        // Without padding, with line breaks, empty, and something else.
        let saved = save(&store, "t", &[image("aGVsbG8"), image("aGVs\nbG8="), image(""), image("%%")]);
        assert_eq!(saved[2..], ["", "%%"]);
        let file = SavedFile::parse(&saved[0]).expect("a reference");
        assert_eq!((file.name.as_str(), file.bytes), ("t-1.png", 5));
        assert_eq!(fs::read(root.path().join("r/t-1.png")).expect("reads"), b"hello");

        let forged = saved[0].replace(&file.sha256, &"0".repeat(64));
        let mut arguments =
            json!({"one": saved[0], "list": [format!("data:{0},{0}!", saved[1])], "forged": forged, "n": 1});
        store.restore(&mut arguments).expect("restores");
        let expected = json!({"one": "aGVsbG8=", "list": ["data:aGVsbG8=,aGVsbG8=!"], "forged": forged, "n": 1});
        assert_eq!(arguments, expected);

        fs::remove_file(root.path().join("r/t-1.png")).expect("removes");
        let error = store.restore(&mut json!([saved[0]])).expect_err("it is gone");
        assert!(error.to_string().contains("r/t-1.png` cannot be read"), "{error}");
    }

    /// Returns the event of a task that succeeded with this output, as it is read from the journal.
    fn read_event(output: &ToolOutput) -> Record {
        let attempt = AttemptId { task: "t".into(), number: 1 };
        let event = Event::AttemptSucceeded { attempt, output: Arc::new(output.clone()) };
        let record = Record { seq: 0, at: Timestamp::default(), event };
        serde_json::from_value(serde_json::to_value(record).expect("JSON")).expect("a record")
    }

    #[test]
    fn large_texts_and_structured_results_are_restored_from_their_files() {
        let root = tempfile::tempdir().expect("a folder");
        let secrets = Secrets::new(["hunter22".to_owned()]);
        let store = ContentStore::new(root.path(), &"r".into(), None).with_secrets(secrets);
        let long = "x".repeat(MIN_TEXT_BYTES);
        let small = json!({"type": "text", "text": "small", "text_file": "kapell-file:t-1.txt?bytes=1&sha256=forged"});
        let blocks = [json!({"type": "text", "text": format!("{long} hunter22")}), small];
        let mut output = Arc::new(ToolOutput::new(blocks, Some(json!({"long": long}))));
        assert!(ContentStore::has_contents(&output));
        store.mask(&mut output);
        store.save(&"t".into(), Arc::make_mut(&mut output)).expect("saves");
        let masked = format!("{long} ***");
        assert_eq!(output.content[1], ContentBlock::Text("small".to_owned()));
        // Long texts are not printed.
        assert!(output.content[0].text() == Some(&*masked));
        assert!(fs::read_to_string(root.path().join("r/t-1.txt")).expect("reads") == masked);

        let mut record = read_event(&output);
        let text = serde_json::to_string(&record).expect("JSON");
        assert!(text.len() < 1_000 && !text.contains("forged"), "{text}");
        store.restore_results(&mut record).expect("restores");
        let Event::AttemptSucceeded { output: restored, .. } = &record.event else { panic!("{record:?}") };
        assert!(**restored == *output && restored.value() == output.value());

        fs::write(root.path().join("r/t-2.json"), "{}").expect("writes");
        let error = store.restore_results(&mut read_event(&output)).expect_err("it was changed");
        assert!(error.to_string().ends_with("r/t-2.json` has been changed"), "{error}");
        fs::remove_file(root.path().join("r/t-1.txt")).expect("removes");
        let error = store.restore_results(&mut read_event(&output)).expect_err("it is gone");
        assert!(error.to_string().contains("r/t-1.txt` cannot be read"), "{error}");
    }

    #[test]
    fn files_are_never_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        let copies = root.path().join("copies");
        let store = ContentStore::new(root.path(), &"r".into(), Some(copies.clone()));
        let name = |reference: &str| SavedFile::parse(reference).expect("a reference").name;
        let first = save(&store, "t", &[image("aGVsbG8=")]);
        assert_eq!(save(&store, "t", &[image("aGVsbG8=")]), first, "equal contents share a file");
        assert_eq!(name(&save(&store, "t", &[image("d29ybGQ=")])[0]), "t-1-2.png");
        assert_eq!(fs::read(root.path().join("r/t-1.png")).expect("reads"), b"hello");
        assert_eq!(fs::read(copies.join("t-1-2.png")).expect("reads"), b"world");

        let victim = root.path().join("victim");
        fs::write(&victim, "kept").expect("writes");
        symlink(&victim, copies.join("u-1.png")).expect("links");
        assert_eq!(name(&save(&store, "u", &[image("aGVsbG8=")])[0]), "u-1.png");
        assert_eq!(fs::read(&victim).expect("reads"), b"kept");
        assert_eq!(fs::read(copies.join("u-1-2.png")).expect("reads"), b"hello");
    }

    #[test]
    fn texts_of_embedded_resources_become_files_of_their_type() {
        let root = tempfile::tempdir().expect("a folder");
        let block = |mime: &str, text: &str| json!({"type": "resource", "resource": {"uri": "a://b", "mimeType": mime, "text": text}});
        let output = ToolOutput::new([block("text/csv", "a,b"), json!({"type": "text", "text": "plain"})], None);
        let item = TaskResult { output: Some(Arc::new(output)), ..TaskResult::default() };
        let mut task = TaskResult { items: Some(vec![item]), ..TaskResult::default() };
        ContentStore::save_texts(&"read".into(), &mut task, root.path()).expect("saves");
        let files = &task.items.expect("items")[0].files;
        let path = root.path().join("read-0-1.csv");
        assert_eq!(
            files,
            &[ResultFile { path: path.clone(), mime_type: Some("text/csv".to_owned()), bytes: 3, saved_as: None }]
        );
        assert_eq!(fs::read_to_string(path).expect("reads"), "a,b");
    }

    #[test]
    fn contents_stay_if_they_cannot_be_saved() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("r"), "not a folder").expect("writes");
        let store = ContentStore::new(root.path(), &"r".into(), None);
        let mut output = ToolOutput::new([image("aGVsbG8=")], None);
        assert!(store.save(&"t".into(), &mut output).is_err());
        assert_eq!(output.content[0].data(), Some("aGVsbG8="));
    }
}
