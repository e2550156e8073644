//! Finds out what can still be read of a journal that is damaged.
//! Never writes, and never fails: what it cannot read is lost.

use std::path::Path;

use super::{JournalError, JournalReader};
use crate::model::RunId;

/// What can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryScan {
    /// Runs of which every event can be read, latest first.
    pub intact: Vec<RunId>,
    /// Runs of which only this many first events can be read; none, for all that is known.
    pub damaged: Vec<(RunId, u64)>,
}

/// Reads through the journal at `path`: as long as that takes, so only where there is damage.
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
    /// Returns the journal that is damaged, if this says that one is.
    pub fn damaged_path(&self) -> Option<&Path> {
        match self {
            Self::Damaged { path, .. } | Self::RecordCorrupted { path, .. } => Some(path),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
