//! The files of outputs while they arrive: temporary ones in the directory of the run.

use std::fs::{self, File};
use std::io;

use tempfile::NamedTempFile;

use super::file_names::file_name;
use super::store::ContentStore;
use super::writing::{Source, keep_as_new};
use crate::model::{SavedFile, TaskId};

/// The beginning of the names of temporary files. The names of other files start with a letter or a digit.
const TEMPORARY_PREFIX: &str = ".spool-";

impl ContentStore {
    /// Creates a temporary file for an output. Dropping it removes it.
    pub(super) fn create_spool_file(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(self.create_directory()?)
    }

    /// Makes a complete temporary file a file of the run, with a name for `task` and a MIME type. Returns it with its
    /// name. It is durable when this returns.
    pub(super) fn adopt_spool_file(
        &self,
        file: NamedTempFile,
        task: &TaskId,
        (mut saved, mime_type): (SavedFile, &str),
    ) -> io::Result<SavedFile> {
        let directory = self.directory();
        saved.name = keep_as_new(file, directory, |copy| file_name(task, 1, Some(mime_type), copy))?;
        File::open(directory)?.sync_all()?;
        self.copy_file(&saved.name, &Source::File(&directory.join(&saved.name)))?;
        self.add_known(&saved);
        Ok(saved)
    }

    /// Removes the files of outputs that an earlier process did not complete, because it was killed.
    pub(crate) fn remove_unfinished_files(&self) {
        for entry in fs::read_dir(self.directory()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with('.')
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(file = %entry.path().display(), %error, "a file of an unfinished output remains");
            }
        }
    }
}
