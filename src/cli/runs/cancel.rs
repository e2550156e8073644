//! `kapell cancel`: cancels a run, whether or not a process drives it.

use std::time::Duration;

use clap::Args;

use crate::cli::common::args::JournalArg;
use crate::cli::common::files;
use crate::cli::common::remote_run::RemoteRun;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::journal::{ControlRequest, JournalError};
use crate::model::{RunId, RunStatus};
use crate::runtime::{HostError, ResumableRun};

/// The longest wait for the end of the run. Agents are notified and get a moment to stop.
const WAIT_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(add = completion::runs())]
    run: String,
    #[command(flatten)]
    journal: JournalArg,
}

pub(crate) async fn cancel(args: CancelArgs) -> Result<Exit, CliError> {
    let remote = RemoteRun::find(&args.journal, &args.run)?;
    let (run, short) = (&remote.run, remote.run.short());
    let by = remote.sender()?.to_string();
    if cancel_here(&args.journal, run, by).await? {
        message!("run {short} is cancelled");
        return Ok(Exit::Success);
    }
    remote.send(&ControlRequest::Cancel)?;
    let ended = remote
        .wait_for_effect(WAIT_TIMEOUT, |reader| {
            let summary = reader.run(run)?;
            Ok((!summary.status.is_unfinished()).then_some(summary.status))
        })
        .await?;
    match (ended, remote.summary()?.driver) {
        (Some(RunStatus::Cancelled), _) => message!("run {short} is cancelled"),
        (Some(status), _) => message!("run {short} had already ended: {status}"),
        (None, Some(driver)) => {
            message!("run {short} is being cancelled by {driver}; `kapell logs -f {short}` waits for its end");
        }
        (None, None) => message!(
            "no process drives run {short}, but agents may still be working on its calls; `kapell resume {short}` cancels \
             these calls and ends the run"
        ),
    }
    Ok(Exit::Success)
}

/// Cancels the run in this process if no other process drives it. Returns whether it has ended.
async fn cancel_here(journal: &JournalArg, run: &RunId, by: String) -> Result<bool, CliError> {
    let store = files::journal_store(journal)?;
    let contents = files::content_root(&files::journal_location(journal)?);
    match ResumableRun::load(&*store, run, Some(&contents), false) {
        Ok(resumable) => Ok(resumable.cancel(&*store, by).await?),
        Err(HostError::Journal(JournalError::Driven { .. })) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
