//! Stores the events of runs in memory, for tests and for drivers that need no durability.

use std::{collections::HashMap, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Journal, JournalError};
use crate::model::{CheckpointKey, Checkpoints, Record, RunId};

/// A journal that lasts as long as its process. Clones share their records.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    // A lock, since `append` takes `&self` and may be called from any thread; held only to push or clone.
    runs: Arc<Mutex<HashMap<RunId, Vec<Record>>>>,
    // Held only to insert or clone.
    checkpoints: Arc<Mutex<HashMap<RunId, Checkpoints>>>,
}

impl MemoryJournal {
    /// Returns the records of `run`, oldest first; empty if the run is unknown.
    pub fn records(&self, run: &RunId) -> Vec<Record> {
        let runs = self.runs.lock();
        runs.get(run).cloned().unwrap_or_default()
    }

    /// Returns the checkpoints of `run`.
    pub fn checkpoints(&self, run: &RunId) -> Checkpoints {
        let notes = self.checkpoints.lock();
        notes.get(run).cloned().unwrap_or_default()
    }
}

impl Journal for MemoryJournal {
    fn append(&self, run: &RunId, records: Arc<[Record]>) -> BoxFuture<'static, Result<(), JournalError>> {
        let mut runs = self.runs.lock();
        let kept = runs.entry(run.clone()).or_default();
        let gap = records.iter().zip(kept.len() as u64..).find(|(record, expected)| record.seq != *expected);
        let result = match gap {
            Some((record, expected)) => {
                Err(JournalError::SequenceGap { run: run.clone(), expected, found: record.seq })
            }
            None => {
                kept.extend_from_slice(&records);
                Ok(())
            }
        };
        futures::future::ready(result).boxed()
    }

    fn save_checkpoint(
        &self,
        run: &RunId,
        key: CheckpointKey,
        note: Value,
    ) -> BoxFuture<'static, Result<(), JournalError>> {
        let mut notes = self.checkpoints.lock();
        notes.entry(run.clone()).or_default().insert(key, note);
        futures::future::ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Timestamp};

    fn record(seq: u64) -> Record {
        Record { seq, at: Timestamp(seq), event: Event::CancelRequested { by: None } }
    }

    #[test]
    fn keeps_runs_separate_and_ordered() {
        let journal = MemoryJournal::default();
        let (first, second) = (RunId::from("one"), RunId::from("two"));
        for (run, seqs) in [(&first, vec![0, 1]), (&second, vec![0]), (&first, vec![2])] {
            let records: Vec<_> = seqs.into_iter().map(record).collect();
            futures::executor::block_on(journal.append(run, records.into())).expect("appends");
        }
        assert_eq!(journal.records(&first), [record(0), record(1), record(2)]);
        assert_eq!(journal.records(&second), [record(0)]);
        assert_eq!(journal.records(&RunId::from("three")), []);
    }

    #[test]
    fn rejects_sequence_gap() {
        let journal = MemoryJournal::default();
        let run = RunId::from("one");
        let error = futures::executor::block_on(journal.append(&run, vec![record(0), record(2)].into()));
        assert!(matches!(error, Err(JournalError::SequenceGap { expected: 1, found: 2, .. })), "{error:?}");
        assert_eq!(journal.records(&run), []);
    }
}
