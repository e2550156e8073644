//! Keeps what other processes want of a run until the run has taken it up.
//! Never decides whether it is granted, and never takes anything out: the event that follows does, in the same
//! transaction.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};

use super::{JournalError, schema};
use crate::{
    model::{Answer, QuestionId, RunId, RunStatus},
    system::process::Sender,
};

/// What a process wants of a run that another one drives, or that nobody drives now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// An answer to a question.
    Answer {
        /// The question.
        question: QuestionId,
        /// What was said; valid by the question's form.
        answer: Answer,
        /// Whether it is a yes to every further call of the same task too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// The end of the run.
    Cancel,
}

/// A request as it waits in the inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Its number in the journal.
    pub id: i64,
    /// What is wanted.
    pub request: Request,
    /// Who wants it, as the sender says. Absent where something else than kapell wrote the request.
    pub sender: Option<Sender>,
}

/// How a request is written.
#[derive(Serialize, Deserialize)]
struct Body<R> {
    #[serde(flatten)]
    request: R,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<Sender>,
}

/// The inbox of a run. Its calls take microseconds, unless another process holds the journal.
#[derive(Debug)]
pub struct Inbox {
    /// Opened when it is needed first.
    connection: Option<Connection>,
    path: PathBuf,
    run: RunId,
    /// The last request that was taken.
    taken: i64,
    /// What SQLite called the journal's content when it was last read; another number says that it may be another.
    version: Option<i64>,
}

impl Inbox {
    /// Opens the inbox of `run` in the journal at `path`.
    ///
    /// # Errors
    /// As for [`super::SqliteJournal::open`].
    pub fn open(path: &Path, run: &RunId) -> Result<Self, JournalError> {
        let connection = schema::open_for_writing(path)?;
        Ok(Self { connection: Some(connection), ..Self::later(path, run) })
    }

    /// The same, but opened when it is needed first. Most runs are over before anybody wants anything of them.
    pub fn later(path: &Path, run: &RunId) -> Self {
        Self { connection: None, path: path.to_path_buf(), run: run.clone(), taken: 0, version: None }
    }

    /// Leaves a request, which is durable when this returns.
    ///
    /// # Errors
    /// [`JournalError::Ended`] when the run can take no more, [`JournalError::AnswerWaits`] when there is an answer to
    /// the same question already.
    pub fn send(&mut self, request: &Request, sender: &Sender) -> Result<(), JournalError> {
        let Self { connection, path, run, .. } = self;
        let connection = opened(connection, path)?;
        let failed = |error| JournalError::from_sqlite(path, error);
        // Immediate, so that the run cannot end between the look and the request.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let status: Option<RunStatus> = transaction
            .query_row("SELECT status FROM runs WHERE run = ?1", [run.as_str()], |row| schema::status(row, 0))
            .optional()
            .map_err(failed)?;
        match status {
            Some(status) if status.is_open() => {}
            Some(status) => return Err(JournalError::Ended { run: run.clone(), status }),
            None => return Err(JournalError::UnknownRun { wanted: run.to_string(), known: Vec::new() }),
        }
        let question = match request {
            Request::Answer { question, .. } => Some(question),
            Request::Cancel => None,
        };
        let body = Body { request, sender: Some(sender.clone()) };
        let body = serde_json::to_string(&body).expect("ids, texts and JSON can be written as JSON");
        let name = question.map(|question| question.as_str());
        let sent = transaction
            .execute("INSERT INTO inbox (run, question, body) VALUES (?1, ?2, ?3)", (run.as_str(), name, body));
        match (sent, question) {
            (Ok(_), _) => transaction.commit().map_err(failed),
            (Err(error), Some(question))
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
            {
                Err(JournalError::AnswerWaits { run: run.clone(), question: question.clone() })
            }
            (Err(error), _) => Err(failed(error)),
        }
    }

    /// The requests that this inbox has not given before, oldest first. One that a run has not taken up when its
    /// process dies is given again to the next process.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn take_new(&mut self) -> Result<Vec<Sent>, JournalError> {
        let Self { connection, path, run, taken, version } = self;
        let connection = opened(connection, path)?;
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
                    Ok(Body { request, sender }) => found.push(Sent { id, request, sender }),
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
        let removed = opened(connection, path)?.execute("DELETE FROM inbox WHERE id = ?1", [id]);
        removed.map(|_| ()).map_err(|error| JournalError::from_sqlite(path, error))
    }
}

fn opened<'c>(connection: &'c mut Option<Connection>, path: &Path) -> Result<&'c mut Connection, JournalError> {
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
        journal::{Durability, Journal, Reader, SqliteJournal, samples},
        model::Record,
    };

    fn answer(question: &str) -> Request {
        Request::Answer {
            question: question.into(),
            answer: Answer::Accept { content: Some(json!({"confirm": true})) },
            all: false,
        }
    }

    /// A run in which `q1` and `q2` are asked, and what follows when events are appended to it.
    fn asked() -> (tempfile::TempDir, SqliteJournal, Inbox, impl FnMut(serde_json::Value)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let writer = SqliteJournal::open(&path, Durability::Normal).expect("opens");
        let mut events = vec![samples::started(json!([]))];
        let mut written = 0;
        let mut append = move |event: serde_json::Value| {
            events.push(event);
            let records: Vec<Record> = samples::records(json!(events));
            block_on(writer.append(&samples::run(), records[written..].into())).expect("appends");
            written = records.len();
        };
        for id in ["q1", "q2"] {
            append(json!({"type": "question_asked", "question": {
                "id": id, "asker": {"plan": {"task": "post"}}, "message": "Post it?", "form": "approval",
            }}));
        }
        let inbox = Inbox::open(&path, &samples::run()).expect("opens");
        (folder, journal, inbox, append)
    }

    fn send(inbox: &mut Inbox, request: &Request) -> Result<(), JournalError> {
        inbox.send(request, &Sender::current())
    }

    /// The requests that are new, all of which this process sent.
    fn take(inbox: &mut Inbox) -> Vec<Request> {
        let sent = inbox.take_new().expect("reads");
        assert!(sent.iter().all(|sent| sent.sender == Some(Sender::current())), "{sent:?}");
        sent.into_iter().map(|sent| sent.request).collect()
    }

    fn inbox(journal: &SqliteJournal) -> Inbox {
        Inbox::open(journal.path(), &samples::run()).expect("opens")
    }

    #[test]
    fn a_request_is_given_once_to_each_process_until_its_event_is_durable() {
        let (_folder, journal, mut sender, mut append) = asked();
        let mut driver = inbox(&journal);
        assert_eq!(take(&mut driver), []);
        send(&mut sender, &answer("q2")).expect("sends");
        send(&mut sender, &Request::Cancel).expect("sends");
        assert_eq!(take(&mut driver), [answer("q2"), Request::Cancel]);
        assert_eq!(take(&mut driver), []);
        assert_eq!(take(&mut inbox(&journal)), [answer("q2"), Request::Cancel]);

        append(json!({"type": "question_answered", "question": "q2", "by": "x", "answer": {"action": "decline"}}));
        assert_eq!(take(&mut inbox(&journal)), [Request::Cancel]);
        append(json!({"type": "cancel_requested"}));
        assert_eq!(take(&mut inbox(&journal)), []);
        send(&mut sender, &answer("q1")).expect("sends");
        assert_eq!(take(&mut driver), [answer("q1")], "an id is never given twice");
    }

    #[test]
    fn a_question_takes_one_answer_and_a_run_that_has_ended_none() {
        let (_folder, journal, mut sender, mut append) = asked();
        send(&mut sender, &answer("q1")).expect("sends");
        let error = send(&mut sender, &answer("q1")).expect_err("refuses");
        assert_eq!(
            error.to_string(),
            format!("question `q1` of run `{}` has an answer that waits to be taken up", samples::run())
        );
        append(json!({"type": "run_ended", "status": "paused"}));
        send(&mut sender, &answer("q2")).expect("a paused run goes on some day");
        let reader = Reader::open(journal.path()).expect("opens");
        let waiting = |reader: &Reader| reader.waiting_answers(&samples::run()).expect("reads");
        assert_eq!(waiting(&reader), ["q1".into(), "q2".into()]);

        append(json!({"type": "run_resumed", "away": "1s", "taken_up": []}));
        append(json!({"type": "run_ended", "status": "failed"}));
        assert_eq!(waiting(&reader), []);
        let error = send(&mut sender, &Request::Cancel).expect_err("refuses");
        assert_eq!(error.to_string(), format!("run `{}` has ended: failed", samples::run()));
        let error = send(&mut Inbox::open(journal.path(), &"other".into()).expect("opens"), &Request::Cancel);
        assert_eq!(error.expect_err("refuses").to_string(), "no run is called `other`");
    }

    #[test]
    fn a_request_that_was_refused_leaves_its_place_to_another_one() {
        let (_folder, journal, mut sender, _append) = asked();
        send(&mut sender, &answer("q1")).expect("sends");
        let mut driver = inbox(&journal);
        let sent = driver.take_new().expect("reads");
        driver.remove(sent[0].id).expect("removes");
        assert_eq!(take(&mut inbox(&journal)), []);
        send(&mut sender, &answer("q1")).expect("there is room again");
        assert_eq!(take(&mut driver), [answer("q1")]);
    }
}
