//! Determines how much of a damaged journal is readable. Read-only and infallible: unreadable data counts as lost.

use std::path::Path;

use super::reader::SqliteReader;
use crate::journal::{JournalReader, RecoveryScan};

/// Reads the whole journal at `path`. This is slow, so it is only for damaged journals.
pub(super) fn recovery_scan(path: &Path) -> RecoveryScan {
    let mut scan = RecoveryScan::default();
    let Ok(reader) = SqliteReader::open(path) else { return scan };
    for run in reader.run_ids() {
        let mut readable = 0;
        let records = (&reader as &dyn JournalReader).records(&run, 0);
        let is_damaged = records.map(|record| record.map(|_| readable += 1)).any(|counted| counted.is_err());
        if is_damaged || readable == 0 {
            scan.damaged.push((run, readable));
        } else {
            scan.intact.push(run);
        }
    }
    scan
}

#[cfg(test)]
mod tests;
