//! The interface of a store of journals.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Holder, JournalError, Lease, RawRecord, ScheduleLog};
use crate::model::{Answer, CheckpointKey, Checkpoints, QuestionId, Record, RunId, RunStatus, Timestamp};
use crate::system::process::RequestSender;

/// A database for the events of all runs, which several processes may use concurrently.
///
/// A store holds nothing open itself. Reading never creates a journal; writing does.
pub trait Store: fmt::Debug + Send + Sync {
    /// Opens the journal for appending, and creates it if it is missing. Blocks.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be created or written, is damaged, or has another format.
    fn open_writer(&self, durability: Durability) -> Result<Arc<dyn JournalWriter>, JournalError>;

    /// Opens the journal for reading. Blocks.
    ///
    /// # Errors
    /// Returns an error if the journal is missing, damaged, of another kind, or of another format.
    fn open_reader(&self) -> Result<Box<dyn JournalReader>, JournalError>;

    /// Acquires the lease of `run`. Blocks for a tenth of a second if another process holds it.
    ///
    /// # Errors
    /// Returns [`JournalError::Driven`] if another process holds it, and [`JournalError::LeaseUnavailable`] if locking
    /// fails.
    fn acquire_lease(&self, run: &RunId) -> Result<Lease, JournalError>;

    /// Returns the control queue of `run`. It is opened on first use, since most runs end before they get a request.
    fn control_queue(&self, run: &RunId) -> Box<dyn ControlQueue>;

    /// Returns the record of schedules: the occurrences that have been handled. It is opened on first use.
    fn schedule_log(&self) -> Box<dyn ScheduleLog>;

    /// Deletes a run. Later runs may reuse its space.
    ///
    /// # Errors
    /// Returns [`JournalError::Driven`] if a process drives it, or another error if the journal cannot be written.
    fn prune(&self, run: &RunId) -> Result<(), JournalError>;

    /// Deletes the checkpoints of a run, so that no later process resumes its sessions and calls. Returns what they were
    /// about.
    ///
    /// # Errors
    /// Returns [`JournalError::Driven`] if a process drives it, or another error if the journal cannot be written.
    fn delete_checkpoints(&self, run: &RunId) -> Result<Vec<CheckpointKey>, JournalError>;

    /// Determines how much of a damaged journal is readable. Slow, since it reads everything.
    fn recovery_scan(&self) -> RecoveryScan;
}

/// A future that completes when a write is durable. The write is kept even if the future is dropped.
pub type CommitFuture = BoxFuture<'static, Result<(), JournalError>>;

/// Appends events. Appends become durable in the order of the `append` calls.
pub trait JournalWriter: Send + Sync {
    /// Queues the records immediately.
    ///
    /// All records of one append become durable together. The caller bounds the number of appends that it does not wait
    /// for.
    ///
    /// # Errors
    /// Returns an error if they are not durable. The run's next append must then start with the same record: a gap is
    /// rejected with [`JournalError::SequenceGap`].
    fn append(&self, run: &RunId, records: Arc<[Record]>) -> CommitFuture;

    /// Queues a checkpoint of `run`, which replaces an earlier one with the same key.
    ///
    /// A checkpoint becomes durable no later than the records that are appended after it, unless a later checkpoint
    /// with the same key replaces it first. The checkpoints of a run are removed once it has ended for good.
    ///
    /// # Errors
    /// Returns an error if it is not durable.
    fn save_checkpoint(&self, run: &RunId, key: CheckpointKey, checkpoint: Value) -> CommitFuture;
}

/// Reads a journal while other processes write to it.
pub trait JournalReader: fmt::Debug + Send {
    /// Returns the latest `limit` runs, latest first. The order is that of the journal, since clocks can be set back.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    fn runs(&self, limit: usize) -> Result<Vec<RunSummary>, JournalError> {
        self.filtered_runs(&RunFilter::default(), limit)
    }

    /// Returns the latest `limit` runs that match, latest first. Reads no events of runs.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    fn filtered_runs(&self, filter: &RunFilter, limit: usize) -> Result<Vec<RunSummary>, JournalError>;

    /// Returns the later runs that repeat a part of `run`, earliest first.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    fn reruns(&self, run: &RunId) -> Result<Vec<RunId>, JournalError>;

    /// Returns the runs that can continue, latest first: running, interrupted, and paused ones.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    fn unfinished_runs(&self) -> Result<Vec<RunSummary>, JournalError>;

    /// Returns one run.
    ///
    /// # Errors
    /// Returns [`JournalError::UnknownRun`], or another error if the journal cannot be read.
    fn run(&self, run: &RunId) -> Result<RunSummary, JournalError>;

    /// Returns at most `limit` runs whose ID equals, starts with, or ends with `name`: an equal one first, then the
    /// latest first. The empty name matches every run.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    fn matching_runs(&self, name: &str, limit: usize) -> Result<Vec<RunId>, JournalError>;

    /// Returns the process that drives `run`, if any. Takes microseconds.
    ///
    /// # Errors
    /// Returns an error if the lease cannot be read.
    fn driver(&self, run: &RunId) -> Result<Option<Holder>, JournalError>;

    /// Returns the questions of `run` with answers that the run has not consumed yet.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    fn pending_answers(&self, run: &RunId) -> Result<Vec<QuestionId>, JournalError>;

    /// Returns the checkpoints of `run`; empty once the run has ended for good.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or contains an invalid checkpoint.
    fn checkpoints(&self, run: &RunId) -> Result<Checkpoints, JournalError>;

    /// Returns records of `run` from `from_seq` on, oldest first, as many as are read at once; empty at the end.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read, or a record is missing or damaged.
    fn read_page(&self, run: &RunId, from_seq: u64) -> Result<Vec<RawRecord>, JournalError>;
}

/// Carries requests of other processes to a run until the run has consumed them. The event that handles a request
/// removes it in the same transaction. Calls take microseconds, unless another process locks the journal.
pub trait ControlQueue: fmt::Debug + Send {
    /// Adds a request, which is durable when this returns.
    ///
    /// # Errors
    /// Returns [`JournalError::RunEnded`] if the run no longer accepts requests, and [`JournalError::AlreadyAnswered`]
    /// if the same question already has an answer.
    fn send(&mut self, request: &ControlRequest, sender: &RequestSender) -> Result<(), JournalError>;

    /// Returns the requests that this queue has not returned before, oldest first. If a process dies before its run has
    /// consumed a request, the next process gets it again.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read.
    fn read_new(&mut self) -> Result<Vec<QueuedRequest>, JournalError>;

    /// Removes a rejected request, so that another one can take its place.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    fn remove(&mut self, id: i64) -> Result<(), JournalError>;
}

/// The durability after a power failure. If only the process is killed, no confirmed append is lost in either mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Every confirmed commit survives: it reaches the disk first.
    #[default]
    Full,
    /// The last commits may be lost, but never the order: for tests and repeatable runs.
    Normal,
}

/// A selection of runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only runs of the plan with this name.
    pub plan: Option<String>,
    /// Only runs with one of these statuses, as [`RunSummary::current_status`] returns them; all runs if empty.
    pub statuses: Vec<RunStatus>,
}

impl RunFilter {
    /// Returns whether a run matches.
    pub(super) fn matches(&self, run: &RunSummary) -> bool {
        let has_plan = self.plan.as_ref().is_none_or(|plan| *plan == run.name);
        has_plan && (self.statuses.is_empty() || self.statuses.contains(&run.current_status()))
    }
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
    /// Returns the status of the run; see [`current_status`].
    pub fn current_status(&self) -> RunStatus {
        current_status(self.status, self.driver)
    }
}

/// Returns the status of a run whose journal says `status`. A running run that no process drives is interrupted.
pub fn current_status(status: RunStatus, driver: Option<Holder>) -> RunStatus {
    match status {
        RunStatus::Running if driver.is_none() => RunStatus::Interrupted,
        status => status,
    }
}

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
    /// A signal for a task that waits for it.
    Signal {
        /// The name.
        name: String,
        /// The data.
        data: Value,
    },
    /// The cancellation of the run.
    Cancel,
}

impl ControlRequest {
    /// Returns the question that the request answers.
    pub fn question(&self) -> Option<&QuestionId> {
        match self {
            Self::Answer { question, .. } => Some(question),
            Self::Signal { .. } | Self::Cancel => None,
        }
    }
}

/// Checks that a run with this status accepts requests; `None` is the status of an unknown run.
pub(super) fn check_accepts_requests(run: &RunId, status: Option<RunStatus>) -> Result<(), JournalError> {
    match status {
        Some(status) if status.is_unfinished() => Ok(()),
        Some(status) => Err(JournalError::RunEnded { run: run.clone(), status }),
        None => Err(JournalError::unknown_run(run)),
    }
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

/// The readable part of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryScan {
    /// Completely readable runs, latest first.
    pub intact: Vec<RunId>,
    /// Partially readable runs, each with the number of readable events from its beginning. The number may be 0.
    pub damaged: Vec<(RunId, u64)>,
}
