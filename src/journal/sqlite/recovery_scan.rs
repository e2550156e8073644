//! Determines how much of a damaged journal is readable. Read-only and infallible: unreadable data counts as lost.

use std::path::Path;

use super::SqliteReader;
use crate::journal::{JournalReader, RecoveryScan};

/// Reads the whole journal at `path`. This is slow, so it is only for damaged journals.
pub(super) fn recovery_scan(path: &Path) -> RecoveryScan {
    let mut found = RecoveryScan::default();
    let Ok(reader) = SqliteReader::open(path) else { return found };
    let run_ids = reader.run_ids();
    let reader: &dyn JournalReader = &reader;
    for run in run_ids {
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

#[cfg(test)]
mod tests;
