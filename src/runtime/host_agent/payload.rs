//! Standard inputs of commands and bodies of requests, which can be files of earlier results.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::Value;

use super::tool::HostTools;
use crate::model::{Failure, FailureKind, SavedFile, ToolCall};
use crate::runtime::content::{self, ContentStore};

/// The contents of a standard input or a body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Payload {
    /// A text.
    Text(String),
    /// A value that is sent as JSON.
    Json(Value),
    /// A file of the run, which is read only while it is sent.
    File {
        /// Its path.
        path: PathBuf,
        /// Its reference.
        file: SavedFile,
    },
}

impl Payload {
    /// Returns the text or the JSON of a value, if there is one.
    fn of_value(value: Option<Value>) -> Option<Self> {
        match value? {
            Value::Null => None,
            Value::String(text) => Some(Self::Text(text)),
            value => Some(Self::Json(value)),
        }
    }

    /// Returns the standard input with these contents.
    ///
    /// # Errors
    /// Returns a failure if the file cannot be opened, or the value cannot be written to a temporary file.
    pub(super) async fn into_stdin(self) -> Result<Stdio, Failure> {
        let opening = tokio::task::spawn_blocking(move || match self {
            Self::Text(text) => unnamed_file(text.as_bytes()),
            Self::Json(value) => unnamed_file(value.to_string().as_bytes()),
            Self::File { path, .. } => File::open(path),
        });
        let opened = opening.await.unwrap_or_else(|error| Err(error.into()));
        opened.map(Stdio::from).map_err(|error| {
            Failure::new(FailureKind::InvalidArguments, format!("the standard input cannot be opened: {error}"))
        })
    }
}

/// Returns a file with these contents and without a name. A command reads it at its own pace, or not at all.
fn unnamed_file(contents: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(contents)?;
    file.rewind()?;
    Ok(file)
}

impl HostTools {
    /// Removes the parameter `key` from a call and returns its contents. Replaces the references in what is sent by the
    /// contents of their files.
    ///
    /// # Errors
    /// Returns a failure if a file cannot be read, or a large text is in a parameter that cannot contain it.
    pub(super) async fn remove_payload(&self, call: &mut ToolCall, key: &str) -> Result<Option<Payload>, Failure> {
        let value = call.arguments.shift_remove(key);
        let Some(store) = &self.content else { return Ok(Payload::of_value(value)) };
        // A text could end the quotes of a command, and the system limits the size of words, variables, and URLs.
        let large = call.arguments.iter().find_map(|(name, value)| Some((name, SavedFile::find_text(value)?)));
        if let Some((name, file)) = large {
            return Err(too_large_parameter(name, &file, key));
        }
        if let Some(value) = value {
            match file_of(store, &value).await? {
                Some((file, path)) => {
                    content::restore_arguments(store, call).await?;
                    return Ok(Some(Payload::File { path, file }));
                }
                None => drop(call.arguments.insert(key.to_owned(), value)),
            }
        }
        content::restore_arguments(store, call).await?;
        Ok(Payload::of_value(call.arguments.shift_remove(key)))
    }
}

/// Returns the file of a value that is one reference.
async fn file_of(store: &Arc<ContentStore>, value: &Value) -> Result<Option<(SavedFile, PathBuf)>, Failure> {
    if value.as_str().and_then(SavedFile::parse).is_none() {
        return Ok(None);
    }
    let (store, value) = (Arc::clone(store), value.clone());
    let finding = tokio::task::spawn_blocking(move || store.referenced_file(&value));
    finding.await.unwrap_or_else(|error| Err(error.into())).map_err(content::missing_file_failure)
}

/// Returns the failure of a call with a large text in a parameter other than `key`.
fn too_large_parameter(name: &str, file: &SavedFile, key: &str) -> Failure {
    let bytes = file.bytes;
    let message = format!("`{name}` cannot contain the output in the file `{}`, which has {bytes} bytes", file.name);
    let help = match key {
        "stdin" => "pass it as `stdin`, or save it with `save` and pass its path, `tasks.ID.saved`",
        _ => "send it as `body`",
    };
    Failure::new(FailureKind::InvalidArguments, message).with_help(help)
}
