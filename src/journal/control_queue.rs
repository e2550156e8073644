//! Stores requests of other processes to a run until the run has consumed them. The event that handles a request
//! removes it in the same transaction.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};

use super::{JournalError, schema};
use crate::{
    model::{Answer, QuestionId, RunId, RunStatus},
    system::process::RequestSender,
};

/// A request to a run, whether or not another process drives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlRequest {
    /// An answer to a question.
    Answer {
        /// The question.
        question: QuestionId,
        /// The answer, valid according to the question's form.
        answer: Answer,
        /// True if it also approves all further calls of the same task.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// The cancellation of the run.
    Cancel,
}

/// A request in the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedRequest {
    /// The ID in the journal.
    pub id: i64,
    /// The request.
    pub request: ControlRequest,
    /// The sender, by its own account. Absent if another program wrote the request.
    pub sender: Option<RequestSender>,
}

/// The stored format of a request.
#[derive(Serialize, Deserialize)]
struct StoredRequest<R> {
    #[serde(flatten)]
    request: R,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<RequestSender>,
}

/// The control queue of a run. Its calls take microseconds, unless another process locks the journal.
#[derive(Debug)]
pub struct ControlQueue {
    /// Opened on first use.
    connection: Option<Connection>,
    path: PathBuf,
    run: RunId,
    /// The ID of the last request that was read.
    last_read_id: i64,
    /// SQLite's `data_version` at the last read; a different value means that the content may have changed.
    data_version: Option<i64>,
}

impl ControlQueue {
    /// Opens the control queue of `run` in the journal at `path`.
    ///
    /// # Errors
    /// As for [`super::SqliteJournal::open`].
    pub fn open(path: &Path, run: &RunId) -> Result<Self, JournalError> {
        let connection = schema::open_for_writing(path)?;
        Ok(Self { connection: Some(connection), ..Self::open_lazily(path, run) })
    }

    /// Returns the queue without opening it until its first use. Most runs end before they get a request.
    pub fn open_lazily(path: &Path, run: &RunId) -> Self {
        Self { connection: None, path: path.to_path_buf(), run: run.clone(), last_read_id: 0, data_version: None }
    }

    /// Adds a request, which is durable when this returns.
    ///
    /// # Errors
    /// Returns [`JournalError::RunEnded`] if the run no longer accepts requests, and [`JournalError::AlreadyAnswered`]
    /// if the same question already has an answer.
    pub fn send(&mut self, request: &ControlRequest, sender: &RequestSender) -> Result<(), JournalError> {
        let Self { connection, path, run, .. } = self;
        let connection = open_connection(connection, path)?;
        let failed = |error| JournalError::from_sqlite(path, error);
        // Immediate, so that the run cannot end between the check and the insertion.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let status: Option<RunStatus> = transaction
            .query_row("SELECT status FROM runs WHERE run = ?1", [run.as_str()], |row| schema::read_status(row, 0))
            .optional()
            .map_err(failed)?;
        match status {
            Some(status) if status.is_unfinished() => {}
            Some(status) => return Err(JournalError::RunEnded { run: run.clone(), status }),
            None => return Err(JournalError::UnknownRun { wanted: run.to_string(), known: Vec::new() }),
        }
        let question = match request {
            ControlRequest::Answer { question, .. } => Some(question),
            ControlRequest::Cancel => None,
        };
        let body = StoredRequest { request, sender: Some(sender.clone()) };
        let body = serde_json::to_string(&body).expect("ids, texts and JSON can be written as JSON");
        let name = question.map(|question| question.as_str());
        let sent = transaction
            .execute("INSERT INTO inbox (run, question, body) VALUES (?1, ?2, ?3)", (run.as_str(), name, body));
        match (sent, question) {
            (Ok(_), _) => transaction.commit().map_err(failed),
            (Err(error), Some(question))
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
            {
                Err(JournalError::AlreadyAnswered { run: run.clone(), question: question.clone() })
            }
            (Err(error), _) => Err(failed(error)),
        }
    }

    /// Returns the requests that this queue has not returned before, oldest first. If a process dies before its run has
    /// consumed a request, the next process gets it again.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    pub fn read_new(&mut self) -> Result<Vec<QueuedRequest>, JournalError> {
        let Self { connection, path, run, last_read_id: taken, data_version: version } = self;
        let connection = open_connection(connection, path)?;
        let mut take = || {
            let now = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
            if *version == Some(now) {
                return Ok(Vec::new());
            }
            let mut query =
                connection.prepare_cached("SELECT id, body FROM inbox WHERE run = ?1 AND id > ?2 ORDER BY id")?;
            let rows = query.query_map((run.as_str(), *taken), |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
            *version = Some(now);
            *taken = rows.last().map_or(*taken, |(id, _)| *id);
            let mut found = Vec::new();
            for (id, body) in rows {
                match serde_json::from_str(&body) {
                    Ok(StoredRequest { request, sender }) => found.push(QueuedRequest { id, request, sender }),
                    Err(error) => {
                        // If it stayed, it would block an answer to the same question forever.
                        tracing::warn!(%error, "removing a request that cannot be read");
                        connection.execute("DELETE FROM inbox WHERE id = ?1", [id])?;
                    }
                }
            }
            Ok(found)
        };
        take().map_err(|error| JournalError::from_sqlite(path, error))
    }

    /// Removes a rejected request, so that another one can take its place.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub fn remove(&mut self, id: i64) -> Result<(), JournalError> {
        let Self { connection, path, .. } = self;
        let removed = open_connection(connection, path)?.execute("DELETE FROM inbox WHERE id = ?1", [id]);
        removed.map(|_| ()).map_err(|error| JournalError::from_sqlite(path, error))
    }
}

fn open_connection<'c>(
    connection: &'c mut Option<Connection>,
    path: &Path,
) -> Result<&'c mut Connection, JournalError> {
    match connection {
        Some(connection) => Ok(connection),
        None => Ok(connection.insert(schema::open_for_writing(path)?)),
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use serde_json::json;

    use super::*;
    use crate::{
        journal::{Durability, Journal, JournalReader, SqliteJournal, samples},
        model::Record,
    };

    fn answer_request(question: &str) -> ControlRequest {
        ControlRequest::Answer {
            question: question.into(),
            answer: Answer::Accept { content: Some(json!({"confirm": true})) },
            all: false,
        }
    }

    /// Returns a run with the open questions `q1` and `q2`, and a function that appends events to it.
    fn run_with_questions() -> (tempfile::TempDir, SqliteJournal, ControlQueue, impl FnMut(serde_json::Value)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let writer = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let mut events = vec![samples::run_started_event(json!([]))];
        let mut written = 0;
        let mut append = move |event: serde_json::Value| {
            events.push(event);
            let records: Vec<Record> = samples::records_from_events(json!(events));
            block_on(writer.append(&samples::sample_run_id(), records[written..].into())).expect("appends");
            written = records.len();
        };
        for id in ["q1", "q2"] {
            append(json!({"type": "question_asked", "question": {
                "id": id, "asker": {"plan": {"task": "post"}}, "message": "Post it?", "form": "approval",
            }}));
        }
        let inbox = ControlQueue::open(&path, &samples::sample_run_id()).expect("opens");
        (folder, journal, inbox, append)
    }

    fn send(queue: &mut ControlQueue, request: &ControlRequest) -> Result<(), JournalError> {
        queue.send(request, &RequestSender::current())
    }

    /// Returns the new requests, and asserts that this process sent all of them.
    fn read_requests(inbox: &mut ControlQueue) -> Vec<ControlRequest> {
        let sent = inbox.read_new().expect("reads");
        assert!(sent.iter().all(|sent| sent.sender == Some(RequestSender::current())), "{sent:?}");
        sent.into_iter().map(|sent| sent.request).collect()
    }

    fn open_queue(journal: &SqliteJournal) -> ControlQueue {
        ControlQueue::open(journal.path(), &samples::sample_run_id()).expect("opens")
    }

    #[test]
    fn request_is_read_once_per_process() {
        let (_folder, journal, mut sender, mut append) = run_with_questions();
        let mut driver = open_queue(&journal);
        assert_eq!(read_requests(&mut driver), []);
        send(&mut sender, &answer_request("q2")).expect("sends");
        send(&mut sender, &ControlRequest::Cancel).expect("sends");
        assert_eq!(read_requests(&mut driver), [answer_request("q2"), ControlRequest::Cancel]);
        assert_eq!(read_requests(&mut driver), []);
        assert_eq!(read_requests(&mut open_queue(&journal)), [answer_request("q2"), ControlRequest::Cancel]);

        append(json!({"type": "question_answered", "question": "q2", "by": "x", "answer": {"action": "decline"}}));
        assert_eq!(read_requests(&mut open_queue(&journal)), [ControlRequest::Cancel]);
        append(json!({"type": "cancel_requested"}));
        assert_eq!(read_requests(&mut open_queue(&journal)), []);
        send(&mut sender, &answer_request("q1")).expect("sends");
        assert_eq!(read_requests(&mut driver), [answer_request("q1")], "an id is never given twice");
    }

    #[test]
    fn question_accepts_one_answer() {
        let (_folder, journal, mut sender, mut append) = run_with_questions();
        send(&mut sender, &answer_request("q1")).expect("sends");
        let error = send(&mut sender, &answer_request("q1")).expect_err("refuses");
        assert_eq!(
            error.to_string(),
            format!("question `q1` of run `{}` has an answer that waits to be taken up", samples::sample_run_id())
        );
        append(json!({"type": "run_ended", "status": "paused"}));
        send(&mut sender, &answer_request("q2")).expect("a paused run goes on some day");
        let reader = JournalReader::open(journal.path()).expect("opens");
        let waiting = |reader: &JournalReader| reader.pending_answers(&samples::sample_run_id()).expect("reads");
        assert_eq!(waiting(&reader), ["q1".into(), "q2".into()]);

        append(json!({"type": "run_resumed", "away": "1s", "taken_up": []}));
        append(json!({"type": "run_ended", "status": "failed"}));
        assert_eq!(waiting(&reader), []);
        let error = send(&mut sender, &ControlRequest::Cancel).expect_err("refuses");
        assert_eq!(error.to_string(), format!("run `{}` has ended: failed", samples::sample_run_id()));
        let error =
            send(&mut ControlQueue::open(journal.path(), &"other".into()).expect("opens"), &ControlRequest::Cancel);
        assert_eq!(error.expect_err("refuses").to_string(), "no run is called `other`");
    }

    #[test]
    fn removed_request_can_be_replaced() {
        let (_folder, journal, mut sender, _append) = run_with_questions();
        send(&mut sender, &answer_request("q1")).expect("sends");
        let mut driver = open_queue(&journal);
        let sent = driver.read_new().expect("reads");
        driver.remove(sent[0].id).expect("removes");
        assert_eq!(read_requests(&mut open_queue(&journal)), []);
        send(&mut sender, &answer_request("q1")).expect("there is room again");
        assert_eq!(read_requests(&mut driver), [answer_request("q1")]);
    }
}
