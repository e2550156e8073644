//! Reads the journal while other processes write to it. Holds no transaction open between two calls.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    vec,
};

use rusqlite::{
    Connection, OptionalExtension, Row,
    types::{Type, ValueRef},
};
use serde::Deserialize;

use super::{
    Holder, JournalError, Lease,
    schema::{self, EVENTS_PER_ROW_SQL},
};
use crate::model::{CheckpointKey, Checkpoints, QuestionId, Record, RunId, RunStatus, Timestamp};

/// The size at which a page of records is complete, so that reading a long run takes little memory. One record may be
/// larger.
const PAGE_BYTES: usize = 1 << 20;

/// The maximum number of candidates in an error about a run's name, so that they fit a terminal.
const MAX_CANDIDATES: usize = 8;

/// A read-only connection to the journal.
#[derive(Debug)]
pub struct JournalReader {
    connection: Connection,
    path: PathBuf,
}

/// A run, as listed by `kapell runs list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// The run ID.
    pub run: RunId,
    /// The name of the plan.
    pub name: String,
    /// The start time.
    pub started: Timestamp,
    /// The end time; absent while it runs, and after its process died.
    pub ended: Option<Timestamp>,
    /// The status.
    pub status: RunStatus,
    /// The time of the latest event.
    pub last_event: Timestamp,
    /// The driving process. A run that has not ended and has no driver was interrupted.
    pub driver: Option<Holder>,
}

impl RunSummary {
    /// Returns whether the run can continue: it is running, interrupted, or paused.
    pub fn is_unfinished(&self) -> bool {
        self.status.is_unfinished()
    }
}

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
        Record::deserialize(&mut json).map_err(|source| JournalError::InvalidRecord {
            run: run.clone(),
            seq: self.seq,
            source: Arc::new(source),
        })
    }
}

impl JournalReader {
    /// Opens the journal at `path`.
    ///
    /// # Errors
    /// Returns an error if the file is missing, damaged, of another kind, or of another format.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self { connection: schema::open_for_reading(path)?, path: path.to_path_buf() })
    }

    /// Returns the latest `limit` runs, latest first. The order is that of the journal, since clocks can be set back.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunSummary>, JournalError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.summaries("ORDER BY number DESC LIMIT ?1", [limit])
    }

    /// Returns one run.
    ///
    /// # Errors
    /// Returns [`JournalError::UnknownRun`], or another error if the journal cannot be read.
    pub fn run(&self, run: &RunId) -> Result<RunSummary, JournalError> {
        let found = self.summaries("WHERE run = ?1", [run.as_str()])?.pop();
        found.ok_or_else(|| JournalError::UnknownRun { wanted: run.to_string(), known: Vec::new() })
    }

    /// Returns the process that drives `run`, if any.
    ///
    /// # Errors
    /// Returns an error if the lease cannot be read.
    pub fn driver(&self, run: &RunId) -> Result<Option<Holder>, JournalError> {
        Lease::holder(&self.path, run)
    }

    /// Returns the runs that can continue, latest first: running, interrupted, and paused ones.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn unfinished_runs(&self) -> Result<Vec<RunSummary>, JournalError> {
        self.summaries("WHERE status IN ('running', 'paused', 'interrupted') ORDER BY number DESC", [])
    }

    /// Returns the questions of `run` with answers that the run has not consumed yet.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn pending_answers(&self, run: &RunId) -> Result<Vec<QuestionId>, JournalError> {
        let query = "SELECT question FROM inbox WHERE run = ?1 AND question IS NOT NULL ORDER BY id";
        self.query_rows(query, [run.as_str()], |row| Ok(QuestionId::from(row.get::<_, String>(0)?)))
    }

    /// Returns the runs selected by `which`, each with its driver.
    fn summaries(&self, which: &str, parameters: impl rusqlite::Params) -> Result<Vec<RunSummary>, JournalError> {
        const COLUMNS: &str = "
            SELECT run, name, started, ended, status,
                (SELECT at FROM events WHERE events.run = runs.run ORDER BY seq DESC LIMIT 1)
            FROM runs ";
        let mut found = self.query_rows(&(COLUMNS.to_owned() + which), parameters, row_summary)?;
        for summary in found.iter_mut().filter(|summary| summary.ended.is_none()) {
            summary.driver = self.driver(&summary.run)?;
            if summary.driver.is_none() {
                // It may have ended since the first query. A driver releases its lease after the end is durable.
                let again = self.query_rows(
                    &(COLUMNS.to_owned() + "WHERE run = ?1"),
                    [summary.run.as_str()],
                    self::row_summary,
                )?;
                *summary = again.into_iter().next().unwrap_or_else(|| summary.clone());
            }
        }
        Ok(found)
    }

    /// Returns the run whose ID equals, starts with, or ends with `name`; `last` is the run that started last.
    ///
    /// # Errors
    /// Returns [`JournalError::UnknownRun`] or [`JournalError::AmbiguousRun`], with candidates.
    pub fn find_run(&self, name: &str) -> Result<RunId, JournalError> {
        let wanted = name.trim().to_lowercase();
        let latest = |limit| self.query_run_ids("SELECT run FROM runs ORDER BY number DESC LIMIT ?1", (limit,));
        let mut found = match wanted.as_str() {
            "" => Vec::new(),
            "last" => latest(1)?,
            _ => self.query_run_ids(
                "SELECT run FROM runs
                WHERE substr(run, 1, length(?1)) = ?1 OR substr(run, -length(?1)) = ?1
                ORDER BY run <> ?1, number DESC LIMIT ?2",
                (&wanted, MAX_CANDIDATES),
            )?,
        };
        match found.len() {
            0 => Err(JournalError::UnknownRun { wanted: name.to_owned(), known: latest(MAX_CANDIDATES)? }),
            // An exact match wins, even if it is also a prefix of another ID.
            _ if found.len() == 1 || found[0].as_str() == wanted => Ok(found.swap_remove(0)),
            _ => Err(JournalError::AmbiguousRun { wanted: name.to_owned(), candidates: found }),
        }
    }

    /// Returns the records of `run` from `from_seq` on, oldest first. After its end, the iterator can be polled again
    /// for new records.
    pub fn records<'a>(&'a self, run: &'a RunId, from_seq: u64) -> Records<'a> {
        Records { raw: self.raw_records(run, from_seq) }
    }

    /// Returns the same records as unparsed JSON text.
    pub fn raw_records<'a>(&'a self, run: &'a RunId, from_seq: u64) -> RawRecords<'a> {
        RawRecords { reader: self, run, next: from_seq, page: Vec::new().into_iter() }
    }

    /// Returns the checkpoints of `run`; empty once the run has ended for good.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or contains an invalid checkpoint.
    pub fn checkpoints(&self, run: &RunId) -> Result<Checkpoints, JournalError> {
        let mut query =
            self.with_journal_path(self.connection.prepare_cached("SELECT key, body FROM notes WHERE run = ?1"))?;
        let rows = query.query_map([run.as_str()], |row| {
            let wrong = |column, error: Box<dyn std::error::Error + Send + Sync>| {
                rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error)
            };
            let key: String = row.get(0)?;
            let key = CheckpointKey::parse(&key).ok_or_else(|| wrong(0, format!("`{key}` is no key").into()))?;
            let note = serde_json::from_str(&row.get::<_, String>(1)?).map_err(|error| wrong(1, error.into()))?;
            Ok((key, note))
        });
        let mut notes = Checkpoints::default();
        for row in self.with_journal_path(rows)? {
            let (key, note) = self.with_journal_path(row)?;
            notes.insert(key, note);
        }
        Ok(notes)
    }

    /// Returns the IDs of the runs, latest first, as far as they are readable.
    pub(super) fn run_ids(&self) -> Vec<RunId> {
        let of = |query: &str| {
            let mut found = Vec::new();
            if let Ok(mut query) = self.connection.prepare(query)
                && let Ok(mut rows) = query.query([])
            {
                while let Ok(Some(row)) = rows.next() {
                    found.extend(row.get::<_, String>(0).ok().map(RunId::from));
                }
            }
            found
        };
        let mut found = of("SELECT run FROM runs ORDER BY number DESC");
        if found.is_empty() {
            // The run list is lost, but the events contain the same IDs.
            found = of("SELECT run FROM events GROUP BY run ORDER BY min(rowid) DESC");
        }
        found
    }

    fn with_journal_path<T>(&self, result: rusqlite::Result<T>) -> Result<T, JournalError> {
        result.map_err(|error| JournalError::from_sqlite(&self.path, error))
    }

    /// Returns the records from `from_seq` on, up to the end of the row that completes [`PAGE_BYTES`]; empty at the
    /// end.
    fn read_page(&self, run: &RunId, from_seq: u64) -> Result<Vec<RawRecord>, JournalError> {
        let failed = |error| JournalError::from_sqlite(&self.path, error);
        let altered = |seq| JournalError::RecordCorrupted { path: self.path.clone(), run: run.clone(), seq };
        // One snapshot for the records and their number, regardless of concurrent appends.
        let _look = self.connection.unchecked_transaction().map_err(failed)?;
        let mut next = self.row_containing(run, from_seq).map_err(failed)?;
        let query = "SELECT seq, body, sum FROM events WHERE run = ?1 AND seq >= ?2 ORDER BY seq";
        let mut query = self.connection.prepare_cached(query).map_err(failed)?;
        let mut rows = query.query((run.as_str(), next)).map_err(failed)?;
        let (mut page, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES {
            let Some(row) = rows.next().map_err(failed)? else {
                return if self.record_count(run).map_err(failed)?.is_none_or(|count| count <= next) {
                    Ok(page)
                } else {
                    Err(altered(next))
                };
            };
            let (first, lines): (u64, &str) = (row.get(0).map_err(failed)?, column_text(row, 1).map_err(failed)?);
            let mut sums = row_checksums(row.get_ref(2).map_err(failed)?).into_iter();
            if first != next {
                return Err(altered(next));
            }
            for line in lines.split('\n') {
                let is_intact =
                    |sum: Option<u64>| sum.is_none_or(|sum| sum == schema::checksum(run, next, line.as_bytes()));
                if !sums.next().is_some_and(is_intact) {
                    return Err(altered(next));
                }
                if next >= from_seq {
                    page.push(RawRecord { seq: next, json: line.to_owned() });
                }
                next += 1;
            }
            if sums.next().is_some() {
                return Err(altered(next));
            }
            bytes += lines.len();
        }
        Ok(page)
    }

    /// Returns the start of the row that contains event `seq`, or `seq` itself if there is none yet.
    fn row_containing(&self, run: &RunId, seq: u64) -> rusqlite::Result<u64> {
        let query = format!(
            "SELECT iif(seq + {EVENTS_PER_ROW_SQL} > ?2, seq, ?2)
            FROM events WHERE run = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1"
        );
        let found =
            self.connection.prepare_cached(&query)?.query_row((run.as_str(), seq), |row| row.get(0)).optional()?;
        Ok(found.unwrap_or(seq))
    }

    /// Returns the number of records of `run` according to the run list, if known.
    fn record_count(&self, run: &RunId) -> rusqlite::Result<Option<u64>> {
        let mut query = self.connection.prepare_cached("SELECT events FROM runs WHERE run = ?1")?;
        Ok(query.query_row([run.as_str()], |row| row.get(0)).optional()?.flatten())
    }

    fn query_run_ids(&self, query: &str, parameters: impl rusqlite::Params) -> Result<Vec<RunId>, JournalError> {
        self.query_rows(query, parameters, |row| Ok(RunId::from(row.get::<_, String>(0)?)))
    }

    fn query_rows<T>(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let collect = || self.connection.prepare_cached(query)?.query_map(parameters, read)?.collect::<Result<_, _>>();
        collect().map_err(|error| JournalError::from_sqlite(&self.path, error))
    }
}

/// Returns the text of a column without copying it.
fn column_text<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r str> {
    row.get_ref(column)?
        .as_str()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

/// Returns the checksums of a row's events, if any. Format 2 had none, and format 3 had one for its single event.
fn row_checksums(column: ValueRef<'_>) -> Vec<Option<u64>> {
    match column {
        ValueRef::Null => vec![None],
        ValueRef::Integer(sum) => vec![Some(sum.cast_unsigned())],
        ValueRef::Blob(sums) => sums.as_chunks().0.iter().map(|sum| Some(u64::from_le_bytes(*sum))).collect(),
        // No version wrote this type. An event without a checksum must not count as intact.
        ValueRef::Real(_) | ValueRef::Text(_) => Vec::new(),
    }
}

fn row_summary(row: &Row<'_>) -> rusqlite::Result<RunSummary> {
    Ok(RunSummary {
        run: RunId::from(row.get::<_, String>(0)?),
        name: row.get(1)?,
        started: Timestamp(row.get(2)?),
        ended: row.get::<_, Option<u64>>(3)?.map(Timestamp),
        status: schema::read_status(row, 4)?,
        last_event: Timestamp(row.get(5)?),
        driver: None,
    })
}

/// Iterator over records as text; reads one page at a time.
#[derive(Debug)]
pub struct RawRecords<'a> {
    reader: &'a JournalReader,
    run: &'a RunId,
    next: u64,
    page: vec::IntoIter<RawRecord>,
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

impl Iterator for Records<'_> {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let raw = self.raw.next()?;
        Some(raw.and_then(|record| record.parse(self.raw.run)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::samples;

    #[test]
    fn every_event_round_trips() {
        for record in samples::sample_run() {
            let json = serde_json::to_string(&record).expect("serialises");
            let raw = RawRecord { seq: record.seq, json };
            assert_eq!(raw.parse(&samples::sample_run_id()).expect(&raw.json), record);
        }
    }
}
