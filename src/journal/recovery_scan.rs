//! Determines how much of a damaged journal is readable. Read-only and infallible: unreadable data counts as lost.

use std::path::Path;

use super::{JournalError, JournalReader};
use crate::model::RunId;

/// The readable part of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryScan {
    /// Completely readable runs, latest first.
    pub intact: Vec<RunId>,
    /// Partially readable runs, each with the number of readable events from its beginning. The number may be 0.
    pub damaged: Vec<(RunId, u64)>,
}

/// Reads the whole journal at `path`. This is slow, so it is only for damaged journals.
pub fn recovery_scan(path: &Path) -> RecoveryScan {
    let mut found = RecoveryScan::default();
    let Ok(reader) = JournalReader::open(path) else { return found };
    for run in reader.run_ids() {
        let mut readable = 0;
        let mut records = reader.records(&run, 0);
        let broken = loop {
            match records.next() {
                Some(Ok(_)) => readable += 1,
                Some(Err(_)) => break true,
                None => break readable == 0,
            }
        };
        if broken {
            found.damaged.push((run, readable));
        } else {
            found.intact.push(run);
        }
    }
    found
}

impl JournalError {
    /// Returns the path of the damaged journal, if this error reports one.
    pub fn damaged_path(&self) -> Option<&Path> {
        match self {
            Self::Damaged { path, .. } | Self::RecordCorrupted { path, .. } => Some(path),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
