//! Watches a file by looking at it repeatedly, so that it works on every file system.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use tokio::sync::oneshot;

use crate::model::{Failure, FailureKind, Timestamp, ToolOutput};

/// The time between two looks at the file. A look takes microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The fingerprint of a file that is not there.
const MISSING: &str = "missing";

/// What the system says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState {
    size: u64,
    /// The time of the last change since 1970.
    modified: Duration,
    /// The number of the file, which differs after a replacement. Zero on systems without one.
    number: u64,
}

/// Waits for the file at `path`, and returns its path, size, and time of change. A file that is being written is
/// complete when two looks find the same.
///
/// With `changed`, the file must also differ from `baseline`. Without a baseline, it is what the first look finds, which
/// `observed` gets.
///
/// # Errors
/// Returns a failure if the system does not let the process look at the file.
pub(super) async fn watch_file(
    path: PathBuf,
    changed: bool,
    mut baseline: Option<String>,
    observed: oneshot::Sender<String>,
) -> Result<Arc<ToolOutput>, Failure> {
    let mut observed = Some(observed);
    let mut previous = None;
    loop {
        let state = look_at(&path).await.map_err(|error| {
            let message = format!("the file `{}` cannot be watched: {error}", path.display());
            Failure::new(FailureKind::InvalidArguments, message).with_help("check the permissions of its directory")
        })?;
        let fingerprint = state.as_ref().map_or_else(|| MISSING.to_owned(), FileState::fingerprint);
        if let (true, None) = (changed, &baseline) {
            if let Some(observed) = observed.take() {
                // Without a receiver, the task has ended.
                let _ = observed.send(fingerprint.clone());
            }
            baseline = Some(fingerprint.clone());
        }
        if let Some(state) = &state
            && previous.as_ref() == Some(state)
            && (!changed || baseline.as_ref() != Some(&fingerprint))
        {
            return Ok(Arc::new(state.output(&path)));
        }
        previous = state;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Returns the state of the file; `None` if it is not there.
async fn look_at(path: &Path) -> io::Result<Option<FileState>> {
    let metadata = match tokio::fs::metadata(path).await {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Some(FileState { size: metadata.len(), modified, number: file_number(&metadata) }))
}

#[cfg(unix)]
fn file_number(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn file_number(_: &std::fs::Metadata) -> u64 {
    0
}

impl FileState {
    fn fingerprint(&self) -> String {
        format!("{}-{}-{}", self.size, self.modified.as_nanos(), self.number)
    }

    fn output(&self, path: &Path) -> ToolOutput {
        let modified = u64::try_from(self.modified.as_millis()).map_or_else(|_| Timestamp::default(), Timestamp);
        let structured = json!({
            "path": path.display().to_string(),
            "size": self.size,
            "modified": modified.to_rfc3339(),
        });
        ToolOutput { structured: Some(structured), ..ToolOutput::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the result of a watch that began at `baseline`, and the fingerprint that it reported.
    async fn watched(path: &Path, changed: bool, baseline: Option<String>) -> (Arc<ToolOutput>, Option<String>) {
        let (sender, receiver) = oneshot::channel();
        let output = watch_file(path.to_owned(), changed, baseline, sender).await.expect("a file");
        (output, receiver.await.ok())
    }

    #[tokio::test(start_paused = true)]
    async fn existing_file_ends_wait_without_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.txt");
        std::fs::write(&path, "one").expect("writes");
        let (output, reported) = watched(&path, false, None).await;
        let structured = output.structured.as_ref().expect("an object");
        assert_eq!((&structured["size"], &structured["path"]), (&json!(3), &json!(path.display().to_string())));
        assert_eq!(reported, None);
    }

    #[tokio::test(start_paused = true)]
    async fn change_before_watch_counts_from_baseline() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.txt");
        let (output, reported) = watched_after_creation(&path).await;
        assert_eq!(
            (output.structured.as_ref().map(|value| value["size"].clone()), reported.as_deref()),
            (Some(json!(3)), Some(MISSING))
        );
        let before = look_at(&path).await.expect("looks").expect("a file").fingerprint();
        std::fs::write(&path, "longer").expect("writes");
        let (output, reported) = watched(&path, true, Some(before)).await;
        assert_eq!((output.structured.as_ref().map(|value| value["size"].clone()), reported), (Some(json!(6)), None));
    }

    /// Watches for a change, and creates the file once the baseline is known.
    async fn watched_after_creation(path: &Path) -> (Arc<ToolOutput>, Option<String>) {
        let (sender, receiver) = oneshot::channel();
        let watching = tokio::spawn(watch_file(path.to_owned(), true, None, sender));
        let reported = receiver.await.ok();
        std::fs::write(path, "one").expect("writes");
        (watching.await.expect("no panic").expect("a file"), reported)
    }

    #[tokio::test(start_paused = true)]
    async fn directory_that_is_a_file_has_no_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.txt");
        std::fs::write(&path, "one").expect("writes");
        assert_eq!(look_at(&path.join("b.txt")).await.expect("looks"), None);
    }
}
