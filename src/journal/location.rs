//! Where a journal is stored.

use std::fmt;
use std::path::{Path, PathBuf};

/// The location of a journal: the path of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalLocation(PathBuf);

impl JournalLocation {
    /// Returns the directory for other files of the runs in this journal, for example `plans` or `logs`.
    pub fn companion_directory(&self, name: &str) -> PathBuf {
        self.0.with_extension(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl From<PathBuf> for JournalLocation {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<&Path> for JournalLocation {
    fn from(path: &Path) -> Self {
        Self(path.to_path_buf())
    }
}

impl fmt::Display for JournalLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}
