//! Everything that is recorded of a run, for the description of its tasks in full.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::CallTracker;
use crate::journal::{JournalError, JournalReader, Store};
use crate::model::{AgentId, Event, Record, RunId, Secrets, SentCall, TaskId, Timestamp};
use crate::runtime::{self, ContentStore};
use crate::serve::settings::AgentsSource;
use crate::view::page::RunPage;

/// The events of a run with the large contents of results, its rows, and its calls.
#[derive(Debug)]
pub(crate) struct RunRecord {
    run: RunId,
    reader: Box<dyn JournalReader>,
    contents: ContentStore,
    tracker: CallTracker,
    /// The events.
    pub(crate) records: Vec<Record>,
    /// The rows.
    pub(crate) page: RunPage,
    /// The calls with their arguments, which events do not contain.
    pub(crate) calls: Vec<SentCall>,
    /// The secrets of the agents file, which are masked.
    pub(crate) secrets: Secrets,
}

/// What the processes of agents wrote to standard error.
pub(crate) type AgentOutput = HashMap<AgentId, Vec<(Timestamp, String)>>;

impl RunRecord {
    /// Opens the record of `run`. Nothing is read before the first update.
    pub(crate) fn open((store, content_root): (&dyn Store, &Path), run: &RunId) -> Result<Self, JournalError> {
        Ok(Self {
            run: run.clone(),
            reader: store.open_reader()?,
            contents: ContentStore::new(content_root, run, None),
            tracker: CallTracker::default(),
            records: Vec::new(),
            page: RunPage::new(run),
            calls: Vec::new(),
            secrets: Secrets::default(),
        })
    }

    /// Reads the new events. Blocks.
    pub(crate) fn update(&mut self, agents: &dyn AgentsSource) -> Result<(), JournalError> {
        loop {
            let next = self.records.last().map_or(0, |record| record.seq + 1);
            let page = self.reader.read_page(&self.run, next)?;
            if page.is_empty() {
                return Ok(());
            }
            for raw in page {
                let mut record = raw.parse(&self.run)?;
                if let Err(error) = self.contents.restore_results(&mut record) {
                    tracing::warn!(%error, "a result is shown without its contents");
                }
                if let Event::RunStarted { source, .. } = &record.event {
                    self.secrets = agents.of_run(source.as_deref()).secrets;
                }
                self.calls.extend(self.tracker.apply(&record));
                self.page.apply(&record);
                self.records.push(record);
            }
        }
    }

    /// Reads what the agents of `wanted` tasks wrote to standard error. Blocks.
    pub(crate) fn agent_output(&self, wanted: impl Fn(&TaskId) -> bool) -> AgentOutput {
        let start = self.records.first().map_or(Timestamp::default(), |record| record.at);
        let mut written = AgentOutput::new();
        for call in self.calls.iter().filter(|call| wanted(&call.attempt.task)) {
            if !written.contains_key(&call.agent) {
                written.insert(call.agent.clone(), runtime::agent_stderr(&call.agent, start).unwrap_or_default());
            }
        }
        written
    }
}

/// The maximum number of records that are kept. They take as much memory as the results of their runs.
const MAX_RECORDS: usize = 2;

/// The records of the runs whose tasks people looked at last, latest first.
#[derive(Debug)]
pub(crate) struct RunRecords {
    store: Arc<dyn Store>,
    content_root: PathBuf,
    /// Locked only to find a record.
    records: Mutex<Vec<(RunId, Arc<Mutex<RunRecord>>)>>,
}

impl RunRecords {
    pub(crate) fn new(store: Arc<dyn Store>, content_root: PathBuf) -> Self {
        Self { store, content_root, records: Mutex::default() }
    }

    /// Returns the record of `run`, up to date. Blocks.
    pub(crate) fn open(&self, run: &RunId, agents: &dyn AgentsSource) -> Result<Arc<Mutex<RunRecord>>, JournalError> {
        let record = self.find(run)?;
        let updated = record.lock().update(agents);
        if updated.is_err() {
            self.records.lock().retain(|(known, _)| known != run);
        }
        updated.map(|()| record)
    }

    fn find(&self, run: &RunId) -> Result<Arc<Mutex<RunRecord>>, JournalError> {
        let mut records = self.records.lock();
        let entry = match records.iter().position(|(known, _)| known == run) {
            Some(place) => records.remove(place),
            None => {
                let record = RunRecord::open((&*self.store, &self.content_root), run)?;
                (run.clone(), Arc::new(Mutex::new(record)))
            }
        };
        let record = Arc::clone(&entry.1);
        records.insert(0, entry);
        records.truncate(MAX_RECORDS);
        Ok(record)
    }
}
