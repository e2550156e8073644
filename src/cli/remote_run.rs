//! What the commands have in common that speak to a run which another process may drive.
//! Never drives one.

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep};

use super::{CliError, JournalArg, files, run_options::not_a_person};
use crate::{
    journal::{ControlQueue, ControlRequest, JournalError, JournalReader, RunSummary},
    model::RunId,
    system::process::RequestSender,
};

/// How often to look what became of a request.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A run that has not ended for good, and the journal that it is in.
pub(super) struct RemoteRun {
    pub(super) reader: JournalReader,
    pub(super) run: RunId,
    path: PathBuf,
}

impl RemoteRun {
    /// Finds the run called `name`.
    ///
    /// # Errors
    /// When there is none, or it takes no requests any more.
    pub(super) fn find(journal: &JournalArg, name: &str) -> Result<Self, CliError> {
        let path = files::journal_path(journal)?;
        let reader = JournalReader::open(&path)?;
        let run = reader.find_run(name)?;
        let elsewhere = Self { reader, run, path };
        let summary = elsewhere.summary()?;
        if summary.is_unfinished() {
            return Ok(elsewhere);
        }
        Err(JournalError::RunEnded { run: summary.run, status: summary.status }.into())
    }

    /// How the run stands now.
    pub(super) fn summary(&self) -> Result<RunSummary, CliError> {
        Ok(self.reader.run(&self.run)?)
    }

    /// Describes this process as the one that asks something of the run.
    ///
    /// # Errors
    /// Refuses to speak for a person where this process belongs to an agent.
    pub(super) fn sender(&self) -> Result<RequestSender, CliError> {
        let sender = RequestSender::current();
        let driver = self.summary()?.driver.and_then(|driver| driver.pid);
        sender.objection(driver.as_slice()).map_or(Ok(sender), |reason| Err(not_a_person(&reason)))
    }

    /// Leaves a request for the process that drives the run, or for the next one that does, and says who sent it.
    ///
    /// # Errors
    /// See [`Self::sender`]; also when the journal cannot be written.
    pub(super) fn send(&self, request: &ControlRequest) -> Result<RequestSender, CliError> {
        let sender = self.sender()?;
        ControlQueue::open(&self.path, &self.run)?.send(request, &sender)?;
        Ok(sender)
    }

    /// Asks again and again for what a request leads to, as long as a process drives the run and `patience` lasts.
    pub(super) async fn wait_for_effect<T>(
        &self,
        timeout: Duration,
        mut effect: impl FnMut(&JournalReader) -> Result<Option<T>, CliError>,
    ) -> Result<Option<T>, CliError> {
        let give_up = Instant::now() + timeout;
        loop {
            let driven = self.reader.driver(&self.run)?.is_some();
            let found = effect(&self.reader)?;
            if found.is_some() || !driven || Instant::now() >= give_up {
                return Ok(found);
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
