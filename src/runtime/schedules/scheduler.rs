//! Decides what happens next for one scheduled plan, and records it in the journal.
//!
//! An occurrence is claimed before its run starts, and is handled once the run has ended. The ID of the run follows from
//! the schedule and the time of the occurrence. So a process that is killed at any moment, or a second process, finds out
//! what has been done, and the journal rejects a second run for the same occurrence.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Builder;

use super::plan_folder::ScheduledPlan;
use crate::journal::{JournalError, ScheduleLog, SchedulePosition, Store};
use crate::model::{DueOccurrence, Occurrences, RunId, RunStatus, Timestamp};
use crate::system::hash::short_hash;

/// The reason why a run could not be started or resumed.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Starts and resumes the runs of schedules.
#[async_trait]
pub trait ScheduledRuns: Send + Sync {
    /// Starts a run of the plan file with this ID. Returns once the run is in the journal; it may also have ended.
    ///
    /// # Errors
    /// Returns an error if the run does not start, or if another process has started it.
    async fn start(&self, plan: &Path, run: &RunId) -> Result<(), StartError>;

    /// Resumes an interrupted run.
    ///
    /// # Errors
    /// Returns an error if the run cannot be resumed, or if another process drives it.
    async fn resume(&self, run: &RunId) -> Result<(), StartError>;

    /// Reports what happened, for people.
    fn report(&self, notice: ScheduleNotice<'_>);
}

/// What happened to a schedule, for people.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScheduleNotice<'n> {
    /// The plan runs by itself from now on.
    Added {
        /// The plan file.
        plan: &'n Path,
        /// The next occurrence.
        next: Option<Timestamp>,
    },
    /// The plan no longer runs by itself.
    Removed {
        /// The plan file.
        plan: &'n Path,
    },
    /// The schedules of a file or a directory cannot be read.
    Unreadable {
        /// The file or the directory.
        path: &'n Path,
        /// The reason.
        reason: &'n str,
    },
    /// A run is about to start or to be resumed.
    Starting {
        /// The plan file.
        plan: &'n Path,
        /// The run.
        run: &'n RunId,
        /// The occurrence.
        occurrence: Timestamp,
        /// True if the run was interrupted.
        is_resumed: bool,
    },
    /// Occurrences were missed, and are ignored as the plan says.
    Missed {
        /// The plan file.
        plan: &'n Path,
        /// The last of them.
        until: Timestamp,
    },
    /// A run cannot be started or resumed, and is given up.
    Failed {
        /// The plan file.
        plan: &'n Path,
        /// The run.
        run: &'n RunId,
        /// The reason.
        reason: &'n str,
    },
    /// The journal cannot be read or written. It is tried again.
    JournalFailed {
        /// The reason.
        error: &'n JournalError,
    },
}

/// What to do next for a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Nothing until this time.
    WaitUntil(Timestamp),
    /// Nothing, since the schedule has no further occurrence.
    Nothing,
    /// Nothing while a process drives the run.
    WaitForRun,
    /// Start the run of an occurrence.
    Start(RunId, Timestamp),
    /// Resume the run of an occurrence.
    Resume(RunId, Timestamp),
    /// Report that all occurrences until this one are missed.
    Missed(Timestamp),
}

/// The scheduler of one plan.
#[derive(Debug)]
pub(super) struct PlanScheduler {
    pub(super) path: PathBuf,
    plan: ScheduledPlan,
    key: String,
    occurrences: Occurrences,
    store: Arc<dyn Store>,
    log: Box<dyn ScheduleLog>,
}

impl PlanScheduler {
    /// Returns the scheduler of a plan; `None` if its schedule is invalid.
    pub(super) fn new(plan: &ScheduledPlan, store: &Arc<dyn Store>) -> Option<Self> {
        let occurrences = plan.schedule.occurrences().ok()?;
        let (path, key, log) = (plan.path.clone(), plan.key(), store.schedule_log());
        Some(Self { path, plan: plan.clone(), key, occurrences, store: Arc::clone(store), log })
    }

    /// Returns the first occurrence after `time`.
    pub(super) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.occurrences.next_after(time)
    }

    /// Decides what happens next, and records it. Blocks.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be read or written.
    pub(super) fn step(&mut self, now: Timestamp) -> Result<NextStep, JournalError> {
        loop {
            let position = self.log.position(&self.key, now)?;
            if let Some(occurrence) = position.claimed {
                let run = scheduled_run_id(&self.key, occurrence);
                return match self.run_status(&run)? {
                    None => Ok(NextStep::Start(run, occurrence)),
                    Some(RunStatus::Running) => Ok(NextStep::WaitForRun),
                    Some(RunStatus::Interrupted) => Ok(NextStep::Resume(run, occurrence)),
                    // A paused run waits for a person. Later occurrences do not.
                    Some(_) => {
                        self.complete(position, occurrence)?;
                        continue;
                    }
                };
            }
            let next = match self.occurrences.due(position.handled, now, self.plan.schedule.missed) {
                DueOccurrence::Never => return Ok(NextStep::Nothing),
                DueOccurrence::At(next) => return Ok(NextStep::WaitUntil(next)),
                DueOccurrence::Run(occurrence) => SchedulePosition { claimed: Some(occurrence), ..position },
                DueOccurrence::Skip(until) => {
                    let skipped = SchedulePosition { handled: until, claimed: None };
                    match self.log.advance(&self.key, position, skipped)? {
                        true => return Ok(NextStep::Missed(until)),
                        false => continue,
                    }
                }
            };
            // If another process was faster, its claim is found in the next round.
            self.log.advance(&self.key, position, next)?;
        }
    }

    /// Gives up the run of an occurrence, so that later ones can run. Blocks.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub(super) fn give_up(&mut self, occurrence: Timestamp) -> Result<(), JournalError> {
        let position = self.log.position(&self.key, occurrence)?;
        if position.claimed == Some(occurrence) { self.complete(position, occurrence) } else { Ok(()) }
    }

    fn complete(&mut self, position: SchedulePosition, occurrence: Timestamp) -> Result<(), JournalError> {
        let handled = SchedulePosition { handled: occurrence, claimed: None };
        self.log.advance(&self.key, position, handled).map(|_| ())
    }

    /// Returns the status of a run; `None` if it has not started.
    fn run_status(&self, run: &RunId) -> Result<Option<RunStatus>, JournalError> {
        match self.store.open_reader()?.run(run) {
            Ok(summary) => Ok(Some(summary.current_status())),
            Err(JournalError::UnknownRun { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Returns the ID of the run for an occurrence: a UUID of version 7 with the time of the occurrence, in which a hash takes
/// the place of the random bits.
pub(super) fn scheduled_run_id(schedule: &str, occurrence: Timestamp) -> RunId {
    let hash = short_hash([schedule, &occurrence.0.to_string()]);
    let mut bits = [0; 10];
    for (byte, digits) in bits.iter_mut().zip(hash.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    RunId::from(Builder::from_unix_timestamp_millis(occurrence.0, &bits).into_uuid().to_string())
}
