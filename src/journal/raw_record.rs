//! The stored form of a record.

use serde::Deserialize;

use super::JournalError;
use crate::model::{Record, RunId};

/// The size at which a page of records is complete, so that reading a long run takes little memory. One record may be
/// larger.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// A record in the journal's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// The sequence number in the run.
    pub seq: u64,
    /// Its JSON on one line, as `serde_json::to_string` writes a [`Record`].
    pub json: String,
}

impl RawRecord {
    /// Parses the record.
    ///
    /// # Errors
    /// Returns [`JournalError::InvalidRecord`] if the JSON is not a valid record.
    pub fn parse(&self, run: &RunId) -> Result<Record, JournalError> {
        let mut json = serde_json::Deserializer::from_str(&self.json);
        // An agent's result may be nested as deeply as the limit for external JSON, and its record adds a few levels.
        // Accepted content must be readable.
        json.disable_recursion_limit();
        Record::deserialize(&mut json).map_err(|error| JournalError::invalid_record(run, self.seq, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[test]
    fn every_event_round_trips() {
        for record in samples::sample_run() {
            let json = serde_json::to_string(&record).expect("serializes");
            let raw = RawRecord { seq: record.seq, json };
            assert_eq!(raw.parse(&samples::sample_run_id()).expect(&raw.json), record);
        }
    }
}
