//! Access to a run that another process may drive, shared by several commands.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::args::JournalArg;
use super::files;
use super::run_options::not_a_person;
use crate::cli::CliError;
use crate::journal::{ControlRequest, JournalError, JournalReader, RunSummary, Store};
use crate::model::RunId;
use crate::system::process::RequestSender;

/// The interval between checks for the effect of a request.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A run that has not ended for good, and its journal.
pub(crate) struct RemoteRun {
    pub(crate) reader: Box<dyn JournalReader>,
    pub(crate) run: RunId,
    store: Arc<dyn Store>,
}

impl RemoteRun {
    /// Finds the run called `name`.
    ///
    /// # Errors
    /// Fails if it does not exist or no longer accepts requests.
    pub(crate) fn find(journal: &JournalArg, name: &str) -> Result<Self, CliError> {
        let store = files::journal_store(journal)?;
        let reader = store.open_reader()?;
        let run = reader.find_run(name)?;
        let remote = Self { reader, run, store };
        let summary = remote.summary()?;
        if summary.status.is_unfinished() {
            return Ok(remote);
        }
        Err(JournalError::RunEnded { run: summary.run, status: summary.status }.into())
    }

    /// Returns the current summary of the run.
    pub(crate) fn summary(&self) -> Result<RunSummary, CliError> {
        Ok(self.reader.run(&self.run)?)
    }

    /// Describes this process as the sender of a request.
    ///
    /// # Errors
    /// Fails if this process belongs to an agent, since it must not speak for a person.
    pub(crate) fn sender(&self) -> Result<RequestSender, CliError> {
        let sender = RequestSender::current();
        let driver = self.summary()?.driver.and_then(|driver| driver.pid);
        sender.objection(driver.as_slice()).map_or(Ok(sender), |reason| Err(not_a_person(&reason)))
    }

    /// Appends a request to the control queue of the run, for the current driver or the next one. Returns the sender.
    ///
    /// # Errors
    /// See [`Self::sender`]; also fails if the journal cannot be written.
    pub(crate) fn send(&self, request: &ControlRequest) -> Result<RequestSender, CliError> {
        let sender = self.sender()?;
        self.store.control_queue(&self.run).send(request, &sender)?;
        Ok(sender)
    }

    /// Polls for the effect of a request, as long as a process drives the run and `timeout` has not passed.
    pub(crate) async fn wait_for_effect<T>(
        &self,
        timeout: Duration,
        mut effect: impl FnMut(&dyn JournalReader) -> Result<Option<T>, CliError>,
    ) -> Result<Option<T>, CliError> {
        let give_up = Instant::now() + timeout;
        loop {
            let driven = self.reader.driver(&self.run)?.is_some();
            let observed = effect(&*self.reader)?;
            if observed.is_some() || !driven || Instant::now() >= give_up {
                return Ok(observed);
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
