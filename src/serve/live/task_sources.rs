//! What tasks are described from in full, beside the page of their run.

use std::collections::HashMap;
use std::path::Path;

use crate::engine::{self, Run};
use crate::journal::Store;
use crate::model::{AgentId, Record, RunId, Secrets, SentCall, TaskId, Timestamp};
use crate::runtime::{self, ContentStore};
use crate::serve::serve_error::ServeError;
use crate::serve::settings::AgentsSource;

/// The events of a run with everything that belongs to them.
#[derive(Debug)]
pub(crate) struct TaskSources {
    /// The events of the run, with the large contents of results.
    pub(crate) records: Vec<Record>,
    /// The calls of the run.
    pub(crate) calls: Vec<SentCall>,
    /// The secrets of the agents file, which are masked.
    pub(crate) secrets: Secrets,
    /// What the processes of agents wrote to standard error.
    pub(crate) stderr: HashMap<AgentId, Vec<(Timestamp, String)>>,
}

impl TaskSources {
    /// Reads the sources of a run. Only of the agents that `wanted` tasks called is the standard error read. Blocks.
    ///
    /// # Errors
    /// Returns an error if the events cannot be read, or form no run.
    pub(crate) fn read(
        (store, content_root): (&dyn Store, &Path),
        agents: &dyn AgentsSource,
        run: &RunId,
        wanted: impl Fn(&TaskId) -> bool,
    ) -> Result<Self, ServeError> {
        let reader = store.open_reader()?;
        let mut records: Vec<Record> = reader.records(run, 0).collect::<Result<_, _>>()?;
        let contents = ContentStore::new(content_root, run, None);
        for record in &mut records {
            if let Err(error) = contents.restore_results(record) {
                tracing::warn!(%error, "a result is shown without its contents");
            }
        }
        let calls = engine::sent_calls(&records)?;
        let secrets = agents.of_run(&Run::fold(&records)?).secrets;
        let start = records.first().map_or(Timestamp::default(), |record| record.at);
        let mut stderr: HashMap<AgentId, Vec<(Timestamp, String)>> = HashMap::new();
        for call in calls.iter().filter(|call| wanted(&call.attempt.task)) {
            if !stderr.contains_key(&call.agent) {
                stderr.insert(call.agent.clone(), runtime::agent_stderr(&call.agent, start).unwrap_or_default());
            }
        }
        Ok(Self { records, calls, secrets, stderr })
    }
}
