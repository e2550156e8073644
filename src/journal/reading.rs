//! Finds runs, and iterates over their records.

use std::{iter, vec};

use super::{JournalError, JournalReader, RawRecord};
use crate::model::{Record, RunId};

/// The maximum number of candidates in an error about a run's name, so that they fit a terminal.
const MAX_CANDIDATES: usize = 8;

impl<'r> dyn JournalReader + 'r {
    /// Returns the run whose ID equals, starts with, or ends with `name`; `last` is the run that started last.
    ///
    /// # Errors
    /// Returns [`JournalError::UnknownRun`] or [`JournalError::AmbiguousRun`], with candidates.
    pub fn find_run(&self, name: &str) -> Result<RunId, JournalError> {
        let lowercase = name.trim().to_lowercase();
        let mut matches = match lowercase.as_str() {
            "" => Vec::new(),
            "last" => self.matching_runs("", 1)?,
            _ => self.matching_runs(&lowercase, MAX_CANDIDATES)?,
        };
        match matches.len() {
            0 => {
                Err(JournalError::UnknownRun { name: name.to_owned(), known: self.matching_runs("", MAX_CANDIDATES)? })
            }
            // An exact match wins, even if it is also a prefix of another ID.
            _ if matches.len() == 1 || matches[0].as_str() == lowercase => Ok(matches.swap_remove(0)),
            _ => Err(JournalError::AmbiguousRun { name: name.to_owned(), candidates: matches }),
        }
    }

    /// Returns the records of `run` from `from_seq` on, oldest first. After its end, the iterator can be polled again
    /// for new records.
    pub fn records<'a>(&'a self, run: &'a RunId, from_seq: u64) -> impl Iterator<Item = Result<Record, JournalError>> {
        self.raw_records(run, from_seq).map(|raw| raw?.parse(run))
    }

    /// Returns the same records as unparsed JSON text. Reads one page at a time.
    pub fn raw_records<'a>(
        &'a self,
        run: &'a RunId,
        from_seq: u64,
    ) -> impl Iterator<Item = Result<RawRecord, JournalError>> {
        let (mut next, mut page) = (from_seq, vec::IntoIter::default());
        iter::from_fn(move || {
            if page.len() == 0 {
                match self.read_page(run, next) {
                    Ok(read) => page = read.into_iter(),
                    Err(error) => return Some(Err(error)),
                }
            }
            let record = page.next()?;
            next = record.seq + 1;
            Some(Ok(record))
        })
    }
}
