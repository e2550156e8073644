//! Keeps what other processes want of a run until the run has taken it up.
//! Never decides whether it is granted, and never takes anything out: the event that follows does, in the same
//! transaction.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};

use super::{JournalError, schema};
use crate::{
    model::{Answer, QuestionId, RunId, RunStatus},
    system::process::RequestSender,
};

/// What a process wants of a run that another one drives, or that nobody drives now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ControlRequest {
    /// An answer to a question.
    Answer {
        /// The question.
        question: QuestionId,
        /// What was said; valid by the question's form.
        answer: Answer,
        /// True if it is a yes to every further call of the same task too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// The end of the run.
    Cancel,
}

/// A request as it waits in the inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedRequest {
    /// Its number in the journal.
    pub id: i64,
    /// What is wanted.
    pub request: ControlRequest,
    /// Who wants it, as the sender says. Absent where something else than kapell wrote the request.
    pub sender: Option<RequestSender>,
}

/// How a request is written.
#[derive(Serialize, Deserialize)]
struct StoredRequest<R> {
    #[serde(flatten)]
    request: R,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<RequestSender>,
}

/// The inbox of a run. Its calls take microseconds, unless another process holds the journal.
#[derive(Debug)]
pub struct ControlQueue {
    /// Opened when it is needed first.
    connection: Option<Connection>,
    path: PathBuf,
    run: RunId,
    /// The last request that was taken.
    last_read_id: i64,
    /// What SQLite called the journal's content when it was last read; another number says that it may be another.
    data_version: Option<i64>,
}

impl ControlQueue {
    /// Opens the inbox of `run` in the journal at `path`.
    ///
    /// # Errors
    /// As for [`super::SqliteJournal::open`].
    pub fn open(path: &Path, run: &RunId) -> Result<Self, JournalError> {
        let connection = schema::open_for_writing(path)?;
        Ok(Self { connection: Some(connection), ..Self::open_lazily(path, run) })
    }

    /// Returns the same, but opened when it is needed first. Most runs are over before anybody wants anything of them.
    pub fn open_lazily(path: &Path, run: &RunId) -> Self {
        Self { connection: None, path: path.to_path_buf(), run: run.clone(), last_read_id: 0, data_version: None }
    }

    /// Leaves a request, which is durable when this returns.
    ///
    /// # Errors
    /// [`JournalError::RunEnded`] when the run can take no more, [`JournalError::AlreadyAnswered`] when there is an answer to
    /// the same question already.
    pub fn send(&mut self, request: &ControlRequest, sender: &RequestSender) -> Result<(), JournalError> {
        let Self { connection, path, run, .. } = self;
        let connection = open_connection(connection, path)?;
        let failed = |error| JournalError::from_sqlite(path, error);
        // Immediate, so that the run cannot end between the look and the request.
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

    /// Returns the requests that this inbox has not given before, oldest first. One that a run has not taken up when
    /// its process dies is given again to the next process.
    ///
    /// # Errors
    /// When the journal cannot be read.
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
                        // Kept, it would take the place of an answer for good.
                        tracing::warn!(%error, "removing a request that cannot be read");
                        connection.execute("DELETE FROM inbox WHERE id = ?1", [id])?;
                    }
                }
            }
            Ok(found)
        };
        take().map_err(|error| JournalError::from_sqlite(path, error))
    }

    /// Removes a request that was refused, so that another one can take its place.
    ///
    /// # Errors
    /// When the journal cannot be written.
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

    /// Returns a run in which `q1` and `q2` are asked, and what follows when events are appended to it.
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

    /// Returns the requests that are new, all of which this process sent.
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
