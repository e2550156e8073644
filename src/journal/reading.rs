//! Finds runs, and iterates over their records one page at a time.

use std::vec;

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
        let wanted = name.trim().to_lowercase();
        let mut found = match wanted.as_str() {
            "" => Vec::new(),
            "last" => self.matching_runs("", 1)?,
            _ => self.matching_runs(&wanted, MAX_CANDIDATES)?,
        };
        match found.len() {
            0 => Err(JournalError::UnknownRun {
                wanted: name.to_owned(),
                known: self.matching_runs("", MAX_CANDIDATES)?,
            }),
            // An exact match wins, even if it is also a prefix of another ID.
            _ if found.len() == 1 || found[0].as_str() == wanted => Ok(found.swap_remove(0)),
            _ => Err(JournalError::AmbiguousRun { wanted: name.to_owned(), candidates: found }),
        }
    }

    /// Returns the records of `run` from `from_seq` on, oldest first. After its end, the iterator can be polled again
    /// for new records.
    pub fn records<'a>(&'a self, run: &'a RunId, from_seq: u64) -> Records<'a> {
        Records::new(self.raw_records(run, from_seq))
    }

    /// Returns the same records as unparsed JSON text.
    pub fn raw_records<'a>(&'a self, run: &'a RunId, from_seq: u64) -> RawRecords<'a> {
        RawRecords::new(self, run, from_seq)
    }
}

/// Iterator over records as text; reads one page at a time.
#[derive(Debug)]
pub struct RawRecords<'a> {
    reader: &'a dyn JournalReader,
    run: &'a RunId,
    next: u64,
    page: vec::IntoIter<RawRecord>,
}

impl<'a> RawRecords<'a> {
    pub(super) fn new(reader: &'a dyn JournalReader, run: &'a RunId, from_seq: u64) -> Self {
        Self { reader, run, next: from_seq, page: Vec::new().into_iter() }
    }
}

impl Iterator for RawRecords<'_> {
    type Item = Result<RawRecord, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 {
            match self.reader.read_page(self.run, self.next) {
                Ok(page) => self.page = page.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
        let record = self.page.next()?;
        self.next = record.seq + 1;
        Some(Ok(record))
    }
}

/// Iterator over records.
#[derive(Debug)]
pub struct Records<'a> {
    raw: RawRecords<'a>,
}

impl<'a> Records<'a> {
    pub(super) fn new(raw: RawRecords<'a>) -> Self {
        Self { raw }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let raw = self.raw.next()?;
        Some(raw.and_then(|record| record.parse(self.raw.run)))
    }
}
