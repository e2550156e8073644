//! Writes events to a SQLite file: one thread, one transaction for all queued appends (group commit). Callers block
//! only in [`SqliteWriter::open`] and on drop.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::{iter, mem};

use futures::FutureExt;
use futures::channel::oneshot;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, named_params};
use serde_json::Value;

use super::schema::{self, EVENTS_PER_ROW_SQL};
use crate::journal::{CommitFuture, Durability, JournalError, JournalWriter};
use crate::model::{CheckpointKey, Event, Record, RunId, RunStatus};

/// The maximum number of appends in one transaction, so that the first of many need not wait for all others.
const MAX_BATCHED_APPENDS: usize = 1024;

/// The size at which a row of events is complete, so that readers need little memory. An append of a busy run is a few
/// tens of KiB.
const TARGET_ROW_BYTES: usize = 1 << 18;

/// Appends to a SQLite file.
///
/// Dropping it writes the queued appends and joins the thread: milliseconds, unless the disk is slow.
#[derive(Debug)]
pub(super) struct SqliteWriter {
    /// Bounded by its callers: each dispatcher has at most 64 pending appends. A slot is a pointer, since records are
    /// shared with the caller. Removed only by `drop`, so that the writer sees the end of the queue.
    queue: Option<Sender<WriterMessage>>,
    pending_checkpoints: Arc<PendingCheckpoints>,
    writer: Option<JoinHandle<()>>,
}

/// The latest unwritten checkpoint of each key; `None` once the writer has ended.
///
/// Checkpoints replace each other, so the calls and sessions of the runs bound their number and no queue is needed.
#[derive(Debug)]
struct PendingCheckpoints(Mutex<Option<HashMap<(RunId, CheckpointKey), PendingCheckpoint>>>);

#[derive(Debug)]
struct PendingCheckpoint {
    checkpoint: Value,
    /// The callers that wait until this checkpoint, or one that it replaced, is durable.
    waiters: Vec<DoneSender>,
}

impl PendingCheckpoints {
    fn new() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    /// Adds a checkpoint. Returns a receiver for its result, and whether it is the only one, so that the writer must be
    /// woken.
    fn insert(
        &self,
        key: (RunId, CheckpointKey),
        checkpoint: Value,
    ) -> (oneshot::Receiver<Result<(), JournalError>>, bool) {
        let (done, written) = oneshot::channel();
        let mut pending = self.0.lock();
        let Some(checkpoints) = &mut *pending else { return (written, false) };
        let is_only = checkpoints.is_empty();
        let entry = checkpoints
            .entry(key)
            .or_insert_with(|| PendingCheckpoint { checkpoint: Value::Null, waiters: Vec::new() });
        entry.checkpoint = checkpoint;
        entry.waiters.retain(|done| !done.is_canceled());
        entry.waiters.push(done);
        (written, is_only)
    }

    /// Removes all checkpoints and returns them as appends.
    fn drain(&self) -> Vec<AppendRequest> {
        let checkpoints = self.0.lock().as_mut().map(mem::take).unwrap_or_default();
        let append = |((run, key), PendingCheckpoint { checkpoint, waiters }): (_, PendingCheckpoint)| AppendRequest {
            run,
            content: AppendContent::Checkpoint(key, checkpoint),
            waiters,
        };
        checkpoints.into_iter().map(append).collect()
    }

    /// Ends every pending checkpoint, and every later one, with [`JournalError::Closed`].
    fn close(&self) {
        let checkpoints = self.0.lock().take();
        drop(checkpoints);
    }
}

type DoneSender = oneshot::Sender<Result<(), JournalError>>;

/// A message to the writer.
enum WriterMessage {
    Append(AppendRequest),
    /// Checkpoints are pending.
    Checkpoints,
    /// Makes the writer panic.
    #[cfg(test)]
    Panic,
}

impl WriterMessage {
    fn into_append(self) -> Option<AppendRequest> {
        match self {
            Self::Append(append) => Some(append),
            Self::Checkpoints => None,
            #[cfg(test)]
            Self::Panic => panic!("a mistake in the writer"),
        }
    }
}

/// Content that becomes durable together, and its waiting callers.
struct AppendRequest {
    run: RunId,
    content: AppendContent,
    waiters: Vec<DoneSender>,
}

enum AppendContent {
    Records(Arc<[Record]>),
    Checkpoint(CheckpointKey, Value),
}

impl SqliteWriter {
    /// Opens the journal at `path`, creating the file and its folders if missing. Blocks.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created or written to, is not a journal, is damaged, or has another
    /// format.
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, JournalError> {
        Self::start_writer(schema::open_for_writing(path)?, path, durability)
    }

    fn start_writer(connection: Connection, path: &Path, durability: Durability) -> Result<Self, JournalError> {
        let synchronous = match durability {
            Durability::Full => "full",
            Durability::Normal => "normal",
        };
        connection
            .pragma_update(None, "synchronous", synchronous)
            .map_err(|error| JournalError::from_sqlite(path, error))?;
        let (queue, messages) = channel();
        let pending_checkpoints = Arc::new(PendingCheckpoints::new());
        let writer = WriterThread {
            connection,
            path: path.to_path_buf(),
            row: EventRow::default(),
            checkpoints: Arc::clone(&pending_checkpoints),
        };
        let writer = thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.process_messages(&messages))
            .map_err(|source| JournalError::Create { journal: path.into(), source: Arc::new(source) })?;
        Ok(Self { queue: Some(queue), pending_checkpoints, writer: Some(writer) })
    }

    /// Sends a message to the writer. If it has ended, the callers that wait for the message get
    /// [`JournalError::Closed`].
    fn send(&self, message: WriterMessage) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(message);
        }
    }
}

impl JournalWriter for SqliteWriter {
    fn append(&self, run: &RunId, records: Arc<[Record]>) -> CommitFuture {
        let (done, written) = oneshot::channel();
        let content = AppendContent::Records(records);
        // Queued here rather than in the future, so that the order is that of the calls.
        self.send(WriterMessage::Append(AppendRequest { run: run.clone(), content, waiters: vec![done] }));
        commit_future(written)
    }

    fn save_checkpoint(&self, run: &RunId, key: CheckpointKey, checkpoint: Value) -> CommitFuture {
        let (written, wakes) = self.pending_checkpoints.insert((run.clone(), key), checkpoint);
        if wakes {
            self.send(WriterMessage::Checkpoints);
        }
        commit_future(written)
    }
}

fn commit_future(written: oneshot::Receiver<Result<(), JournalError>>) -> CommitFuture {
    async move { written.await.unwrap_or(Err(JournalError::Closed)) }.boxed()
}

impl Drop for SqliteWriter {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has already been reported, and its appends have ended with `Closed`.
            let _ = writer.join();
        }
    }
}

/// The state of the writer thread.
struct WriterThread {
    connection: Connection,
    path: PathBuf,
    /// Empty between appends; kept to reuse its buffers.
    row: EventRow,
    checkpoints: Arc<PendingCheckpoints>,
}

impl WriterThread {
    fn process_messages(mut self, messages: &Receiver<WriterMessage>) {
        while let Ok(first) = messages.recv() {
            let queued: Vec<_> = iter::once(first).chain(messages.try_iter().take(MAX_BATCHED_APPENDS)).collect();
            // Checkpoints are drained last, so that none is durable later than a record that was appended after it.
            // They are written first, so that the end of a run removes them.
            let mut batch = self.checkpoints.drain();
            batch.extend(queued.into_iter().filter_map(WriterMessage::into_append));
            if batch.is_empty() {
                continue;
            }
            match self.commit(&batch) {
                Err(error) if batch.len() > 1 && error.is_append_error() => {
                    for append in batch {
                        let result = self.commit(std::slice::from_ref(&append));
                        append.complete(result);
                    }
                }
                result => batch.into_iter().for_each(|append| append.complete(result.clone())),
            }
        }
    }

    /// Makes the appends durable, all or none.
    fn commit(&mut self, batch: &[AppendRequest]) -> Result<(), JournalError> {
        let Self { connection, path, row, .. } = self;
        let failed = |error| JournalError::from_sqlite(path, error);
        // Immediate, since a transaction that starts with a read cannot wait for another process's write.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for append in batch {
            write_append(&transaction, append, row).map_err(|error| match error {
                WriteError::Journal(error) => error,
                WriteError::Sqlite(error) => failed(error),
            })?;
        }
        transaction.commit().map_err(failed)
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.checkpoints.close();
    }
}

impl AppendRequest {
    fn complete(self, result: Result<(), JournalError>) {
        // The callers may have stopped waiting; the records are kept anyway.
        for done in self.waiters {
            let _ = done.send(result.clone());
        }
    }
}

/// The error of an append, before the path of the file is added.
enum WriteError {
    Journal(JournalError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Events that will be one row.
#[derive(Default)]
struct EventRow {
    /// Their JSON as `--output stream-json` prints it, separated by line breaks.
    json_lines: Vec<u8>,
    /// Their checksums.
    checksums: Vec<u8>,
}

impl EventRow {
    /// Adds an event.
    fn add(&mut self, run: &RunId, record: &Record) -> Result<(), JournalError> {
        if !self.json_lines.is_empty() {
            self.json_lines.push(b'\n');
        }
        let start = self.json_lines.len();
        serde_json::to_writer(&mut self.json_lines, record)
            .map_err(|error| JournalError::invalid_record(run, record.seq, error))?;
        self.checksums.extend(schema::checksum(run, record.seq, &self.json_lines[start..]));
        Ok(())
    }

    fn clear(&mut self) {
        self.json_lines.clear();
        self.json_lines.shrink_to(2 * TARGET_ROW_BYTES);
        self.checksums.clear();
    }
}

/// Writes one append. Invariant: the events of a run are numbered from 0 without gaps.
fn write_append(transaction: &Transaction<'_>, append: &AppendRequest, row: &mut EventRow) -> Result<(), WriteError> {
    let run = &append.run;
    let records = match &append.content {
        AppendContent::Records(records) => records,
        AppendContent::Checkpoint(key, checkpoint) => {
            let mut replace = transaction
                .prepare_cached("INSERT OR REPLACE INTO checkpoints (run_id, key, json) VALUES (?1, ?2, ?3)")?;
            replace.execute((run.as_str(), key.to_string(), checkpoint.to_string()))?;
            return Ok(());
        }
    };
    // Queried each time, which takes microseconds: another process may have written to the same run.
    let next = format!(
        "SELECT first_seq + {EVENTS_PER_ROW_SQL} FROM events WHERE run_id = ?1 ORDER BY first_seq DESC LIMIT 1"
    );
    let next: Option<u64> =
        transaction.prepare_cached(&next)?.query_row([run.as_str()], |row| row.get(0)).optional()?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO events (run_id, first_seq, last_at, json_lines, checksums) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut first = next.unwrap_or(0);
    row.clear();
    for (index, (record, expected)) in records.iter().zip(first..).enumerate() {
        let found = record.seq;
        if found != expected {
            return Err(WriteError::Journal(JournalError::SequenceGap { run: run.clone(), expected, found }));
        }
        row.add(run, record).map_err(WriteError::Journal)?;
        if row.json_lines.len() >= TARGET_ROW_BYTES || index + 1 == records.len() {
            let lines = std::str::from_utf8(&row.json_lines).expect("serde_json writes UTF-8");
            insert.execute((run.as_str(), first, record.at.0, lines, row.checksums.as_slice()))?;
            first = found + 1;
            row.clear();
        }
        update_run_list(transaction, run, record)?;
    }
    if let Some(last) = records.last() {
        let mut count = transaction.prepare_cached("UPDATE runs SET event_count = ?2 WHERE run_id = ?1")?;
        count.execute((run.as_str(), last.seq + 1))?;
    }
    Ok(())
}

/// Keeps the list of runs and the control queue consistent with the events. An event that handles a request removes it.
fn update_run_list(transaction: &Transaction<'_>, run: &RunId, record: &Record) -> rusqlite::Result<()> {
    match &record.event {
        Event::RunStarted { plan, .. } => transaction.execute(
            "INSERT INTO runs (run_id, plan_name, status, started_at, event_count) VALUES (:run, :name, :status, :at, 0)",
            named_params! {
                ":run": run.as_str(),
                ":name": plan.name,
                ":at": record.at.0,
                ":status": RunStatus::Running.to_string(),
            },
        ),
        Event::RunEnded { status, .. } => {
            if !status.is_unfinished() {
                transaction.execute("DELETE FROM checkpoints WHERE run_id = ?1", [run.as_str()])?;
                transaction.execute("DELETE FROM control_requests WHERE run_id = ?1", [run.as_str()])?;
            }
            transaction.execute(
                "UPDATE runs SET status = :status, ended_at = :at WHERE run_id = :run",
                named_params! { ":run": run.as_str(), ":at": record.at.0, ":status": status.to_string() },
            )
        }
        Event::RunResumed { .. } => transaction.execute(
            "UPDATE runs SET status = :status, ended_at = NULL WHERE run_id = :run",
            named_params! { ":run": run.as_str(), ":status": RunStatus::Running.to_string() },
        ),
        Event::QuestionAnswered { question, .. } => {
            transaction.execute("DELETE FROM control_requests WHERE run_id = ?1 AND question_id = ?2", (run.as_str(), question.as_str()))
        }
        // Signals of the same name are consumed in the order in which they were sent.
        Event::SignalReceived { name, .. } => transaction.execute(
            "DELETE FROM control_requests WHERE id = (SELECT min(id) FROM control_requests WHERE run_id = ?1 \
             AND json_extract(json, '$.type') = 'signal' AND json_extract(json, '$.name') = ?2)",
            (run.as_str(), name),
        ),
        Event::CancelRequested { .. } => {
            transaction.execute("DELETE FROM control_requests WHERE run_id = ?1 AND question_id IS NULL", [run.as_str()])
        }
        _ => Ok(0),
    }?;
    Ok(())
}

#[cfg(test)]
mod tests;
