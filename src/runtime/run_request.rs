//! The ways in which a run begins in this process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::content::ContentStore;
use super::{HostError, dispatcher};
use crate::engine::{NewRun, Rerun, Resumption, Run};
use crate::journal::{Durability, Lease, Store};
use crate::model::{AgentId, Checkpoints, JsonObject, Plan, Record, RunId, Timestamp};

/// A run to execute.
pub enum RunRequest {
    /// A new run.
    New(NewRun),
    /// A new run that repeats a part of a run that has ended.
    Rerun(Rerun),
    /// A run of an earlier process.
    Resume(ResumableRun),
}

impl RunRequest {
    /// Returns the plan as it was when its run began.
    pub fn plan(&self) -> &Arc<Plan> {
        match self {
            Self::New(new_run) | Self::Rerun(Rerun { new_run, .. }) => &new_run.plan,
            Self::Resume(resumable) => resumable.resumption.run.plan(),
        }
    }

    /// Returns the directory of the plan file, where commands run; the current directory for a plan without a file.
    pub fn directory(&self) -> PathBuf {
        let source = match self {
            Self::New(new_run) | Self::Rerun(Rerun { new_run, .. }) => new_run.source.as_deref(),
            Self::Resume(resumable) => resumable.resumption.run.source(),
        };
        let plan = source.and_then(|source| Path::new(source.plan.as_ref()?).parent());
        plan.map(Path::to_owned).or_else(|| std::env::current_dir().ok()).unwrap_or_default()
    }

    /// Returns the values of secret inputs.
    pub(super) fn secrets(&self) -> Vec<String> {
        match self {
            Self::New(new_run) | Self::Rerun(Rerun { new_run, .. }) => {
                let values = new_run.plan.secret_inputs().filter_map(|name| new_run.inputs.get(name)?.as_str());
                values.map(str::to_owned).collect()
            }
            Self::Resume(resumable) => resumable.resumption.run.known_secrets(),
        }
    }

    /// Sets the ID of a new run that has none.
    pub(super) fn set_id(&mut self, run: &RunId) {
        match self {
            Self::New(new_run) | Self::Rerun(Rerun { new_run, .. }) => {
                new_run.id.get_or_insert_with(|| run.clone());
            }
            Self::Resume(_) => {}
        }
    }

    /// Returns the state of the run in an earlier process, if it is resumed.
    pub fn resumable(&self) -> Option<&ResumableRun> {
        match self {
            Self::New(_) | Self::Rerun(_) => None,
            Self::Resume(resumable) => Some(resumable),
        }
    }
}

impl From<NewRun> for RunRequest {
    fn from(new_run: NewRun) -> Self {
        Self::New(new_run)
    }
}

impl From<Rerun> for RunRequest {
    fn from(rerun: Rerun) -> Self {
        Self::Rerun(rerun)
    }
}

impl From<ResumableRun> for RunRequest {
    fn from(resumable: ResumableRun) -> Self {
        Self::Resume(resumable)
    }
}

/// A run of an earlier process, with its lease, that can be resumed.
pub struct ResumableRun {
    pub(super) id: RunId,
    pub(super) lease: Lease,
    pub(super) records: Vec<Record>,
    pub(super) sessions: HashMap<AgentId, Value>,
    pub(super) resumption: Resumption,
}

impl ResumableRun {
    /// Acquires the lease of `run` and reads its state, with large results from the files below `content_root`. With `accepts_changes`, the run continues although the tools of
    /// its agents have changed.
    ///
    /// # Errors
    /// Returns an error if another process drives the run, it has ended, or it cannot be read.
    pub fn load(
        store: &dyn Store,
        run: &RunId,
        content_root: Option<&Path>,
        accepts_changes: bool,
    ) -> Result<Self, HostError> {
        let lease = store.acquire_lease(run)?;
        let reader = store.open_reader()?;
        let mut records: Vec<Record> = reader.records(run, 0).collect::<Result<_, _>>()?;
        if let Some(root) = content_root {
            let contents = ContentStore::new(root, run, None);
            let restored = records.iter_mut().try_for_each(|record| contents.restore_results(record));
            restored.map_err(|source| HostError::Contents { run: run.clone(), source })?;
        }
        let fold = Run::fold(&records).map_err(|source| HostError::Fold { run: run.clone(), source })?;
        if !fold.status().is_unfinished() {
            return Err(HostError::Ended { run: run.clone(), status: fold.status() });
        }
        let Checkpoints { sessions, calls: checkpoints } = reader.checkpoints(run)?;
        let last_event_at = records.last().map_or_else(Timestamp::default, |record| record.at);
        let resumption = Resumption { run: fold, last_event_at, checkpoints, accepts_changes, inputs: Vec::new() };
        Ok(Self { id: run.clone(), lease, records, sessions, resumption })
    }

    /// Cancels the run on behalf of `by`. Returns false without a change if calls are still in progress at agents, since
    /// only a host that resumes the run can cancel those.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written.
    pub async fn cancel(self, store: &dyn Store, by: String) -> Result<bool, HostError> {
        let Self { id: run, lease: _lease, resumption, .. } = self;
        let journal = store.open_writer(Durability::Full)?;
        let cancelled = dispatcher::cancel(&run, resumption, by, &*journal).await;
        cancelled.map_err(|source| HostError::Unfinished { run, source })
    }

    /// Returns the state of the run.
    pub fn run(&self) -> &Run {
        &self.resumption.run
    }

    /// Sets the values of secret inputs, which the journal does not have; [`Run::missing_secrets`] lists them.
    pub fn set_secrets(&mut self, secrets: JsonObject) {
        self.resumption.run.set_secrets(secrets);
    }

    /// Returns the time of its last event.
    pub fn last_event_at(&self) -> Timestamp {
        self.resumption.last_event_at
    }

    /// Returns the number of its events.
    pub fn next_seq(&self) -> u64 {
        self.resumption.run.next_seq()
    }
}
