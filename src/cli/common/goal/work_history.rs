//! Reads what calls and model requests took in earlier runs.

use crate::journal::{self, JournalLocation};
use crate::view::WorkHistory;

/// The maximum number of latest runs and of their events that are read.
const MAX_RUNS: usize = 20;
const MAX_RECORDS: usize = 20_000;

/// Returns the history of the latest runs. What cannot be read is left out, because estimates are only a help.
pub(crate) fn work_history(location: &JournalLocation) -> WorkHistory {
    let mut history = WorkHistory::default();
    let Ok(reader) = journal::store(location).open_reader() else { return history };
    let mut remaining = MAX_RECORDS;
    for run in reader.runs(MAX_RUNS).unwrap_or_default() {
        let records: Vec<_> = reader.records(&run.run, 0).map_while(Result::ok).take(remaining).collect();
        remaining -= records.len();
        history.add_run(records);
    }
    history
}
