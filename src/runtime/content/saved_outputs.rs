//! Writes the outputs of tasks to the files that the plan names, in a directory of the run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use base64::Engine as _;
use serde_json::Value;

use super::file_names::extension;
use super::store::{BASE64, ContentStore, SAVED_DIRECTORY, saved_key};
use super::writing::Source;
use crate::model::{
    ContentBlock, Event, Failure, FailureKind, Record, RunId, SavedFile, SavedOutput, TaskId, ToolOutput,
    relative_file_name,
};
use crate::system::files;

impl ContentStore {
    /// Reserves the name of a file for a task, before anything that the file is for takes effect.
    ///
    /// # Errors
    /// Returns a failure if another task of this process uses the name.
    pub(crate) fn reserve_name(&self, name: &str, task: &TaskId) -> Result<(), Failure> {
        let mut reserved = self.reserved_names.lock();
        match reserved.get(name) {
            Some(other) if other != task => {
                let message = format!("`save`: the output of task `{other}` is already saved as `{name}`");
                let help = "use different names, such as `pages/${{ loop.index }}.html` for the items of a list";
                Err(Failure::new(FailureKind::InvalidArguments, message).with_help(help))
            }
            _ => {
                reserved.insert(name.to_owned(), task.clone());
                Ok(())
            }
        }
    }

    /// Writes an output to the file `name` of the run, which replaces an earlier one of the same task.
    ///
    /// # Errors
    /// Returns the error of the system, or an error for a name outside of the directory.
    fn write_output(&self, name: &str, output: &ToolOutput) -> io::Result<SavedOutput> {
        let name = relative_file_name(name).map_err(|problem| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("the file name `{name}` {problem}"))
        })?;
        let contents = self.output_contents(&name, output)?;
        let contents = match &contents {
            OutputContents::Bytes(bytes) => Source::Bytes(bytes),
            OutputContents::File(path) => Source::File(path),
        };
        let mut path = self.directory().join(SAVED_DIRECTORY);
        files::create_own_directory(&path)?;
        let mut parts = name.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_some() {
                // A symbolic link in place of a directory is an error.
                files::create_own_directory(&path)?;
            }
        }
        contents.replace(&path)?;
        self.copy_saved(&name, &contents)?;
        Ok(SavedOutput { name, path: path.display().to_string(), bytes: contents.bytes()? })
    }

    /// Returns what the file of an output contains: the data of the first block whose type is that of the name, or else
    /// its text, the data of its first block, or its value as JSON.
    fn output_contents(&self, name: &str, output: &ToolOutput) -> io::Result<OutputContents> {
        let data = |block: &ContentBlock| -> io::Result<Option<OutputContents>> {
            let Some(data) = block.data() else { return Ok(None) };
            if let Some((_, path)) = self.referenced_file(&Value::from(data))? {
                return Ok(Some(OutputContents::File(path)));
            }
            let data = data.split_ascii_whitespace().collect::<String>();
            Ok(BASE64.decode(data).ok().filter(|data| !data.is_empty()).map(OutputContents::Bytes))
        };
        let named = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
        let is_named = |block: &&ContentBlock| {
            block.data().is_some() && named.is_some() && block.mime_type().and_then(extension) == named
        };
        let named = output.content.iter().find(is_named).map(data).transpose()?.flatten();
        if let Some(contents) = named {
            return Ok(contents);
        }
        let text = output.text();
        if output.file_of_text().is_some()
            && let Some((_, path)) = self.referenced_file(&Value::from(text.as_ref()))?
        {
            return Ok(OutputContents::File(path));
        }
        if !text.is_empty() {
            return Ok(OutputContents::Bytes(text.into_owned().into_bytes()));
        }
        for block in &output.content {
            if let Some(contents) = data(block)? {
                return Ok(contents);
            }
        }
        if let Some(text) = output.content.iter().find_map(ContentBlock::resource_text) {
            return Ok(OutputContents::Bytes(text.as_bytes().to_vec()));
        }
        Ok(OutputContents::Bytes(match &output.structured {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => serde_json::to_vec_pretty(value).unwrap_or_default(),
        }))
    }

    /// Links the files of results that the first events of a run keep from run `earlier`. A file that no longer exists
    /// is missing in both runs.
    pub fn keep_from(&self, earlier: &RunId, records: &[Record]) {
        let outputs = records.iter().flat_map(|record| match &record.event {
            Event::TaskReused { output, .. } => vec![output],
            Event::ResultsKept { results, .. } => results.iter().map(|kept| &kept.output).collect(),
            _ => Vec::new(),
        });
        let earlier = self.root.join(earlier.as_str());
        let mut files = BTreeSet::new();
        for output in outputs {
            let saved = output.content.iter().filter_map(ContentBlock::saved_file);
            files.extend(saved.chain(output.structured_file.as_deref().cloned()).map(|file| file.name));
            files.extend(output.saved.iter().map(|saved| saved_key(&saved.name)));
            // The outputs of a group have the references of its tasks.
            output.structured.iter().for_each(|value| add_referenced_files(value, &mut files));
        }
        for file in files {
            let (from, to) = (earlier.join(&file), self.directory().join(&file));
            if to.exists() {
                continue;
            }
            let directory = to.parent().unwrap_or(self.directory());
            let kept = files::create_own_directory(self.directory())
                .and_then(|()| files::create_directory(directory))
                .and_then(|()| fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)));
            if let Err(error) = kept {
                tracing::warn!(file = %from.display(), %error, "a file of the earlier run cannot be kept");
            }
        }
    }

    /// Makes the file of a result that comes from an earlier run a file of the run of `store`. Without a store, the run
    /// has no files.
    pub(crate) fn adopt_saved_output(store: Option<&Self>, output: &mut Arc<ToolOutput>) {
        let Some(saved) = &output.saved else { return };
        let path = store.map(|store| store.directory().join(SAVED_DIRECTORY).join(&saved.name).display().to_string());
        if path.as_ref() == Some(&saved.path) {
            return;
        }
        let output = Arc::make_mut(output);
        match (path, &mut output.saved) {
            (Some(path), Some(saved)) => saved.path = path,
            (_, saved) => *saved = None,
        }
    }

    /// Keeps the saved outputs of an event that comes from an earlier run: they are files of run `to`.
    pub fn move_saved_outputs(root: &Path, record: &mut Record, to: &RunId) {
        for output in record.event.outputs_mut().filter(|output| output.saved.is_some()) {
            if let Some(saved) = &mut Arc::make_mut(output).saved {
                let path = root.join(to.as_str()).join(SAVED_DIRECTORY).join(&saved.name);
                saved.path = path.display().to_string();
            }
        }
    }
}

/// Saves the output of a task in the file `name`. Returns the output with its file.
///
/// # Errors
/// Returns [`FailureKind::InvalidResult`] if the file cannot be written.
pub(crate) async fn save_output(
    store: &Arc<ContentStore>,
    name: &str,
    output: Arc<ToolOutput>,
) -> Result<Arc<ToolOutput>, Failure> {
    let (store, file) = (Arc::clone(store), name.to_owned());
    let saving = tokio::task::spawn_blocking(move || {
        let mut output = output;
        store.mask(&mut output);
        let saved = store.write_output(&file, &output)?;
        Arc::make_mut(&mut output).saved = Some(Box::new(saved));
        Ok(output)
    });
    let saved = saving.await.unwrap_or_else(|error| Err(io::Error::from(error)));
    saved.map_err(|error| {
        Failure::new(FailureKind::InvalidResult, format!("the output cannot be saved as `{name}`: {error}"))
    })
}

/// What the file of an output contains.
enum OutputContents {
    Bytes(Vec<u8>),
    /// The contents of a file of the run.
    File(PathBuf),
}

/// Adds the names of the files to which a value refers.
fn add_referenced_files(value: &Value, files: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => files.extend(SavedFile::find_all(text).map(|file| file.name)),
        Value::Array(values) => values.iter().for_each(|value| add_referenced_files(value, files)),
        Value::Object(members) => members.values().for_each(|value| add_referenced_files(value, files)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn files_contain_data_text_or_json() {
        let store = ContentStore::new(Path::new("/x"), &"r".into(), None);
        let image = json!({"type": "image", "mimeType": "image/png", "data": "aGVsbG8="});
        let blob =
            json!({"type": "resource", "resource": {"uri": "a:b", "mimeType": "application/pdf", "blob": "UERG"}});
        let text = json!({"type": "text", "text": "caption"});
        let page = json!({"type": "resource", "resource": {"uri": "a:b", "text": "page"}});
        for (name, blocks, structured, expected) in [
            ("a.png", vec![text.clone(), image.clone()], None, "hello"),
            ("a.txt", vec![text.clone(), image.clone()], None, "caption"),
            ("a", vec![image.clone()], Some(json!({"n": 1})), "hello"),
            ("a.PDF", vec![text.clone(), image, blob], None, "PDF"),
            ("a.json", vec![text], Some(json!({"n": 1})), "caption"),
            ("a.json", vec![], Some(json!({"n": 1})), "{\n  \"n\": 1\n}"),
            ("a.txt", vec![page], None, "page"),
            ("a", vec![], None, ""),
        ] {
            let contents = store.output_contents(name, &ToolOutput::new(blocks, structured)).expect("nothing is read");
            assert!(matches!(contents, OutputContents::Bytes(bytes) if bytes == expected.as_bytes()), "{name}");
        }
    }

    #[tokio::test]
    async fn files_stay_within_the_directory_of_the_run() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Arc::new(ContentStore::new(root.path(), &"r".into(), Some(root.path().join("copies"))));
        let output = Arc::new(ToolOutput::new([json!({"type": "text", "text": "hi"})], None));
        let saved = save_output(&store, "a/b.md", Arc::clone(&output)).await.expect("saves");
        let path = root.path().join("r/saved/a/b.md");
        let expected = SavedOutput { name: "a/b.md".to_owned(), path: path.display().to_string(), bytes: 2 };
        assert_eq!(saved.saved.as_deref(), Some(&expected));
        assert_eq!(fs::read(&path).expect("reads"), b"hi");
        assert_eq!(fs::read(root.path().join("copies/a/b.md")).expect("reads"), b"hi");

        assert!(save_output(&store, "../b.md", Arc::clone(&output)).await.is_err());
        symlink(root.path(), root.path().join("r/saved/link")).expect("links");
        let failure = save_output(&store, "link/c.md", output).await.expect_err("a link");
        assert!(failure.message.contains("symbolic link"), "{failure}");
        assert!(!root.path().join("c.md").exists());
    }

    #[tokio::test]
    async fn large_outputs_are_copied_and_kept() {
        let root = tempfile::tempdir().expect("a folder");
        let store = |run: &str| Arc::new(ContentStore::new(root.path(), &run.into(), None));
        fs::create_dir_all(root.path().join("earlier")).expect("creates");
        fs::write(root.path().join("earlier/t-1.txt"), "long").expect("writes");
        let sha256 = crate::system::hash::sha256(b"long");
        let file = SavedFile { name: "t-1.txt".to_owned(), bytes: 4, sha256, is_text: true };
        let value = json!({"stdout": file.reference()});
        let output = Arc::new(ToolOutput::new([ContentBlock::text_in_file(file, None)], Some(value)));
        let saved = save_output(&store("earlier"), "b.md", output).await.expect("saves");
        assert_eq!(saved.saved.as_ref().map(|saved| saved.bytes), Some(4));
        assert_eq!(fs::read(root.path().join("earlier/saved/b.md")).expect("reads"), b"long");

        let event = Event::TaskReused { task: "t".into(), agent: None, output: saved };
        store("later").keep_from(&"earlier".into(), &[Record { seq: 0, at: Timestamp::default(), event }]);
        for (name, original) in [("t-1.txt", "t-1.txt"), ("saved/b.md", "saved/b.md")] {
            assert_eq!(fs::read(root.path().join("later").join(name)).expect("is kept"), b"long");
            assert_eq!(fs::read(root.path().join("earlier").join(original)).expect("is unchanged"), b"long");
        }
    }

    #[tokio::test]
    async fn kept_result_has_the_file_of_its_run() {
        let root = tempfile::tempdir().expect("a folder");
        let store = |run: &str| Arc::new(ContentStore::new(root.path(), &run.into(), None));
        let output = Arc::new(ToolOutput::new([json!({"type": "text", "text": "hi"})], None));
        let mut saved = save_output(&store("earlier"), "b.md", output).await.expect("saves");
        ContentStore::adopt_saved_output(Some(&store("later")), &mut saved);
        let path = |output: &ToolOutput| output.saved.as_deref().map(|saved| saved.path.clone());
        assert_eq!(path(&saved), Some(root.path().join("later/saved/b.md").display().to_string()));
        ContentStore::adopt_saved_output(None, &mut saved);
        assert_eq!(path(&saved), None);
    }

    #[test]
    fn names_belong_to_one_task() {
        let store = ContentStore::new(Path::new("/x"), &"r".into(), None);
        assert!(store.reserve_name("a", &"t[0]".into()).is_ok() && store.reserve_name("a", &"t[0]".into()).is_ok());
        let failure = store.reserve_name("a", &"t[1]".into()).expect_err("it is taken");
        assert_eq!(failure.kind, FailureKind::InvalidArguments);
    }
}
