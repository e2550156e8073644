//! Reads what the journal holds, while others write to it.
//! Never writes, and never holds a transaction open between two calls.

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

/// A page of records ends with the one that makes it this long, so that reading takes little memory however long
/// the run is. One record may be larger.
const PAGE_BYTES: usize = 1 << 20;

/// Most candidates that an error about a run's name shows: what fits a terminal.
const MAX_CANDIDATES: usize = 8;

/// A connection that reads.
#[derive(Debug)]
pub struct JournalReader {
    connection: Connection,
    path: PathBuf,
}

/// A run as `kapell runs list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub run: RunId,
    /// The name of its plan.
    pub name: String,
    /// When it started.
    pub started: Timestamp,
    /// When it ended; absent while it runs, and after its process died.
    pub ended: Option<Timestamp>,
    /// How it stands or ended.
    pub status: RunStatus,
    /// When its latest event was decided.
    pub last_event: Timestamp,
    /// Who drives it. A run that has not ended and that nobody drives was interrupted.
    pub driver: Option<Holder>,
}

impl RunSummary {
    /// Returns whether the run can go on: it is driven, was interrupted, or is paused.
    pub fn is_unfinished(&self) -> bool {
        self.status.is_unfinished()
    }
}

/// A record as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Its number in the run.
    pub seq: u64,
    /// Its JSON on one line: what `serde_json::to_string` makes of a [`JournalError::InvalidRecord`].
    pub json: String,
}

impl RawRecord {
    /// Returns the record.
    ///
    /// # Errors
    /// [`JournalError::InvalidRecord`] when the JSON is not one.
    pub fn parse(&self, run: &RunId) -> Result<Record, JournalError> {
        let mut json = serde_json::Deserializer::from_str(&self.json);
        // An agent's answer may be nested as deeply as JSON from outside is let in, and its record is a few
        // levels deeper. What the journal took in must come out again.
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
    /// When there is none, or it is damaged, another kind of file, or of another format.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self { connection: schema::open_for_reading(path)?, path: path.to_path_buf() })
    }

    /// Returns the latest `limit` runs, latest first. The journal's own order says which is later, whatever the clock said
    /// when they started.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunSummary>, JournalError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.summaries("ORDER BY number DESC LIMIT ?1", [limit])
    }

    /// One run.
    ///
    /// # Errors
    /// [`JournalError::UnknownRun`], or when the journal cannot be read.
    pub fn run(&self, run: &RunId) -> Result<RunSummary, JournalError> {
        let found = self.summaries("WHERE run = ?1", [run.as_str()])?.pop();
        found.ok_or_else(|| JournalError::UnknownRun { wanted: run.to_string(), known: Vec::new() })
    }

    /// Returns the process that drives `run`, if one does.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn driver(&self, run: &RunId) -> Result<Option<Holder>, JournalError> {
        Lease::holder(&self.path, run)
    }

    /// Returns the runs that have not ended for good, latest first: those that are driven, interrupted or paused.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn unfinished_runs(&self) -> Result<Vec<RunSummary>, JournalError> {
        self.summaries("WHERE status IN ('running', 'paused', 'interrupted') ORDER BY number DESC", [])
    }

    /// Returns the questions of `run` to which there are answers that it has not taken up.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn pending_answers(&self, run: &RunId) -> Result<Vec<QuestionId>, JournalError> {
        let query = "SELECT question FROM inbox WHERE run = ?1 AND question IS NOT NULL ORDER BY id";
        self.query_rows(query, [run.as_str()], |row| Ok(QuestionId::from(row.get::<_, String>(0)?)))
    }

    /// Returns the runs that `which` selects, each with its driver.
    fn summaries(&self, which: &str, parameters: impl rusqlite::Params) -> Result<Vec<RunSummary>, JournalError> {
        const COLUMNS: &str = "
            SELECT run, name, started, ended, status,
                (SELECT at FROM events WHERE events.run = runs.run ORDER BY seq DESC LIMIT 1)
            FROM runs ";
        let mut found = self.query_rows(&(COLUMNS.to_owned() + which), parameters, row_summary)?;
        for summary in found.iter_mut().filter(|summary| summary.ended.is_none()) {
            summary.driver = self.driver(&summary.run)?;
            if summary.driver.is_none() {
                // It may have ended since it was read; a run's driver leaves after its end is durable.
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

    /// Returns the one run whose id is `name`, or begins or ends with it; `last` is the one that started last.
    ///
    /// # Errors
    /// [`JournalError::UnknownRun`] and [`JournalError::AmbiguousRun`], with runs that may have been meant.
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
            // An id that is the beginning of another one is still its own name.
            _ if found.len() == 1 || found[0].as_str() == wanted => Ok(found.swap_remove(0)),
            _ => Err(JournalError::AmbiguousRun { wanted: name.to_owned(), candidates: found }),
        }
    }

    /// Returns the records of `run` from `from_seq` on, oldest first. After its end, the iterator may be asked again
    /// for what has been appended since.
    pub fn records<'a>(&'a self, run: &'a RunId, from_seq: u64) -> Records<'a> {
        Records { raw: self.raw_records(run, from_seq) }
    }

    /// Returns the same as JSON text, not parsed.
    pub fn raw_records<'a>(&'a self, run: &'a RunId, from_seq: u64) -> RawRecords<'a> {
        RawRecords { reader: self, run, next: from_seq, page: Vec::new().into_iter() }
    }

    /// Returns the notes of `run`; none once it has ended for good.
    ///
    /// # Errors
    /// When the journal cannot be read, or holds a note that is none.
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

    /// Returns the ids of the runs, latest first, as far as they can be read.
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
            // The list is lost, but the events tell of the same runs.
            found = of("SELECT run FROM events GROUP BY run ORDER BY min(rowid) DESC");
        }
        found
    }

    fn with_journal_path<T>(&self, result: rusqlite::Result<T>) -> Result<T, JournalError> {
        result.map_err(|error| JournalError::from_sqlite(&self.path, error))
    }

    /// Returns the records from `from_seq` on, up to the end of the row that makes them [`PAGE_BYTES`]; none when there
    /// are no more.
    fn read_page(&self, run: &RunId, from_seq: u64) -> Result<Vec<RawRecord>, JournalError> {
        let failed = |error| JournalError::from_sqlite(&self.path, error);
        let altered = |seq| JournalError::RecordCorrupted { path: self.path.clone(), run: run.clone(), seq };
        // One look at the journal for the records and their number, whatever is appended meanwhile.
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

    /// Where the row begins that holds event `seq`, or the next row if none does yet.
    fn row_containing(&self, run: &RunId, seq: u64) -> rusqlite::Result<u64> {
        let query = format!(
            "SELECT iif(seq + {EVENTS_PER_ROW_SQL} > ?2, seq, ?2)
            FROM events WHERE run = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1"
        );
        let found =
            self.connection.prepare_cached(&query)?.query_row((run.as_str(), seq), |row| row.get(0)).optional()?;
        Ok(found.unwrap_or(seq))
    }

    /// Returns how many records the list of runs says that `run` has, if it does.
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

/// Returns the text in a column, where it lies.
fn column_text<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r str> {
    row.get_ref(column)?
        .as_str()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

/// Returns the checksums of a row's events, so far as they have any: format 2 had none, format 3 one of one event.
fn row_checksums(column: ValueRef<'_>) -> Vec<Option<u64>> {
    match column {
        ValueRef::Null => vec![None],
        ValueRef::Integer(sum) => vec![Some(sum.cast_unsigned())],
        ValueRef::Blob(sums) => sums.as_chunks().0.iter().map(|sum| Some(u64::from_le_bytes(*sum))).collect(),
        // Nothing wrote such a thing, and without a checksum no event is taken for intact.
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

/// Iterates over records as text; reads a page at a time.
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

/// Iterates over records.
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
