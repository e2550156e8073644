//! Reads the journal while other processes write to it. Holds no transaction open between two calls.

use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::lease;
use super::schema::{self, EVENTS_PER_ROW_SQL};
use crate::journal::raw_record::PAGE_BYTES;
use crate::journal::{Holder, JournalError, JournalReader, RawRecord, RunFilter, RunSummary};
use crate::model::{CheckpointKey, Checkpoints, Event, QuestionId, Record, RunId, RunStatus, Timestamp};

/// A read-only connection to the journal.
#[derive(Debug)]
pub(super) struct SqliteReader {
    connection: Connection,
    path: PathBuf,
}

impl JournalReader for SqliteReader {
    fn filtered_runs(&self, filter: &RunFilter, limit: usize) -> Result<Vec<RunSummary>, JournalError> {
        const CLAUSE: &str = "
            WHERE (?1 IS NULL OR plan_name = ?1) AND (?2 = '' OR instr(?2, ' ' || status || ' '))
                AND (?3 IS NULL OR number < (SELECT number FROM runs WHERE run_id = ?3))
            ORDER BY number DESC LIMIT ?4";
        let mut statuses: String = filter.statuses.iter().map(|status| format!(" {status} ")).collect();
        if filter.statuses.contains(&RunStatus::Interrupted) {
            // The process of a running run may have died.
            statuses += &format!(" {} ", RunStatus::Running);
        }
        let page = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut found = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let runs = self.summaries(CLAUSE, (&filter.plan, &statuses, &last, page))?;
            last = runs.last().map(|run| run.run.to_string());
            let is_last_page = (runs.len() as i64) < page || last.is_none();
            found.extend(runs.into_iter().filter(|run| filter.matches(run)));
            if is_last_page || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    fn reruns(&self, run: &RunId) -> Result<Vec<RunId>, JournalError> {
        // The second event of a rerun names the earlier run. Its text cannot be part of another string, which would have
        // escaped quotes; that it is an event of its own is checked.
        let query = r#"
            SELECT runs.run_id, events.json_lines FROM runs JOIN events ON events.run_id = runs.run_id
            WHERE runs.number > (SELECT number FROM runs WHERE run_id = ?1) AND events.first_seq <= 1
                AND instr(events.json_lines, '"of":"' || ?1 || '"')
            ORDER BY runs.number"#;
        let rows =
            self.query_rows(query, [run.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let is_rerun = |lines: &str| {
            let records = lines.split('\n').filter_map(|line| serde_json::from_str::<Record>(line).ok());
            records.take(2).any(|record| matches!(record.event, Event::RunRerun { of, .. } if of == *run))
        };
        Ok(rows.into_iter().filter(|(_, lines)| is_rerun(lines)).map(|(id, _)| RunId::from(id)).collect())
    }

    fn unfinished_runs(&self) -> Result<Vec<RunSummary>, JournalError> {
        self.summaries("WHERE status IN ('running', 'paused', 'interrupted') ORDER BY number DESC", [])
    }

    fn run(&self, run: &RunId) -> Result<RunSummary, JournalError> {
        let summary = self.summaries("WHERE run_id = ?1", [run.as_str()])?.pop();
        summary.ok_or_else(|| JournalError::unknown_run(run))
    }

    fn matching_runs(&self, name: &str, limit: usize) -> Result<Vec<RunId>, JournalError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let run_id = |row: &Row<'_>| Ok(RunId::from(row.get::<_, String>(0)?));
        if name.is_empty() {
            // Needs only the latest rows.
            return self.query_rows("SELECT run_id FROM runs ORDER BY number DESC LIMIT ?1", [limit], run_id);
        }
        let query = "
            SELECT run_id FROM runs
            WHERE substr(run_id, 1, length(?1)) = ?1 OR substr(run_id, -length(?1)) = ?1
            ORDER BY run_id <> ?1, number DESC LIMIT ?2";
        self.query_rows(query, (name, limit), run_id)
    }

    fn driver(&self, run: &RunId) -> Result<Option<Holder>, JournalError> {
        lease::holder(&self.path, run)
    }

    fn pending_answers(&self, run: &RunId) -> Result<Vec<QuestionId>, JournalError> {
        let query =
            "SELECT question_id FROM control_requests WHERE run_id = ?1 AND question_id IS NOT NULL ORDER BY id";
        self.query_rows(query, [run.as_str()], |row| Ok(QuestionId::from(row.get::<_, String>(0)?)))
    }

    fn checkpoints(&self, run: &RunId) -> Result<Checkpoints, JournalError> {
        let rows = self.query_rows("SELECT key, json FROM checkpoints WHERE run_id = ?1", [run.as_str()], |row| {
            let invalid = |column, error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error);
            let key: String = row.get(0)?;
            let key = CheckpointKey::parse(&key)
                .ok_or_else(|| invalid(0, format!("invalid checkpoint key `{key}`").into()))?;
            let checkpoint =
                serde_json::from_str(&row.get::<_, String>(1)?).map_err(|error| invalid(1, error.into()))?;
            Ok((key, checkpoint))
        })?;
        let mut checkpoints = Checkpoints::default();
        rows.into_iter().for_each(|(key, checkpoint)| checkpoints.insert(key, checkpoint));
        Ok(checkpoints)
    }

    fn read_page(&self, run: &RunId, from_seq: u64) -> Result<Vec<RawRecord>, JournalError> {
        let failed = |error| JournalError::from_sqlite(&self.path, error);
        let corrupted =
            |seq| JournalError::RecordCorrupted { journal: self.path.as_path().into(), run: run.clone(), seq };
        // One snapshot for the records and their number, regardless of concurrent appends.
        let _snapshot = self.connection.unchecked_transaction().map_err(failed)?;
        let mut next = self.row_containing(run, from_seq).map_err(failed)?;
        let query = "SELECT first_seq, json_lines, checksums FROM events WHERE run_id = ?1 AND first_seq >= ?2 ORDER BY first_seq";
        let mut query = self.connection.prepare_cached(query).map_err(failed)?;
        let mut rows = query.query((run.as_str(), next)).map_err(failed)?;
        let (mut page, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES {
            let Some(row) = rows.next().map_err(failed)? else {
                return if self.record_count(run).map_err(failed)?.is_none_or(|count| count <= next) {
                    Ok(page)
                } else {
                    Err(corrupted(next))
                };
            };
            let first: u64 = row.get(0).map_err(failed)?;
            // A value of another type is damage too.
            let lines = row.get_ref(1).map_err(failed)?.as_str().map_err(|_| corrupted(next))?;
            let checksums = row.get_ref(2).map_err(failed)?.as_blob().map_err(|_| corrupted(next))?;
            let mut checksums = checksums.as_chunks().0.iter();
            if first != next {
                return Err(corrupted(next));
            }
            for line in lines.split('\n') {
                let checksum = schema::checksum(run, next, line.as_bytes());
                if checksums.next() != Some(&checksum) {
                    return Err(corrupted(next));
                }
                if next >= from_seq {
                    page.push(RawRecord { seq: next, json: line.to_owned() });
                }
                next += 1;
            }
            if checksums.next().is_some() {
                return Err(corrupted(next));
            }
            bytes += lines.len();
        }
        Ok(page)
    }
}

impl SqliteReader {
    /// Opens the journal at `path`.
    ///
    /// # Errors
    /// Returns an error if the file is missing, damaged, of another kind, or of another format.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self { connection: schema::open_for_reading(path)?, path: path.to_path_buf() })
    }

    /// Returns the runs selected by `clause`, each with its driver.
    fn summaries(&self, clause: &str, parameters: impl rusqlite::Params) -> Result<Vec<RunSummary>, JournalError> {
        const COLUMNS: &str = "
            SELECT run_id, plan_name, started_at, ended_at, status,
                (SELECT last_at FROM events WHERE events.run_id = runs.run_id ORDER BY first_seq DESC LIMIT 1)
            FROM runs ";
        let mut summaries = self.query_rows(&(COLUMNS.to_owned() + clause), parameters, row_summary)?;
        for summary in summaries.iter_mut().filter(|summary| summary.ended.is_none()) {
            summary.driver = self.driver(&summary.run)?;
            if summary.driver.is_none() {
                // It may have ended since the first query. A driver releases its lease after the end is durable.
                let current =
                    self.query_rows(&(COLUMNS.to_owned() + "WHERE run_id = ?1"), [summary.run.as_str()], row_summary)?;
                *summary = current.into_iter().next().unwrap_or_else(|| summary.clone());
            }
        }
        Ok(summaries)
    }

    /// Returns the IDs of the runs, latest first, as far as they are readable.
    pub(super) fn run_ids(&self) -> Vec<RunId> {
        let query_ids = |query: &str| {
            let mut ids = Vec::new();
            if let Ok(mut query) = self.connection.prepare(query)
                && let Ok(mut rows) = query.query([])
            {
                while let Ok(Some(row)) = rows.next() {
                    ids.extend(row.get::<_, String>(0).ok().map(RunId::from));
                }
            }
            ids
        };
        let mut ids = query_ids("SELECT run_id FROM runs ORDER BY number DESC");
        if ids.is_empty() {
            // The run list is lost, but the events contain the same IDs.
            ids = query_ids("SELECT run_id FROM events GROUP BY run_id ORDER BY min(rowid) DESC");
        }
        ids
    }

    /// Returns the start of the row that contains event `seq`, or `seq` itself if there is none yet.
    fn row_containing(&self, run: &RunId, seq: u64) -> rusqlite::Result<u64> {
        let query = format!(
            "SELECT iif(first_seq + {EVENTS_PER_ROW_SQL} > ?2, first_seq, ?2)
            FROM events WHERE run_id = ?1 AND first_seq <= ?2 ORDER BY first_seq DESC LIMIT 1"
        );
        let first =
            self.connection.prepare_cached(&query)?.query_row((run.as_str(), seq), |row| row.get(0)).optional()?;
        Ok(first.unwrap_or(seq))
    }

    /// Returns the number of records of `run` according to the run list, if it is listed.
    fn record_count(&self, run: &RunId) -> rusqlite::Result<Option<u64>> {
        let mut query = self.connection.prepare_cached("SELECT event_count FROM runs WHERE run_id = ?1")?;
        query.query_row([run.as_str()], |row| row.get(0)).optional()
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
