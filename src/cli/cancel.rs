//! `kapell cancel`: gives a run up, whether another process drives it or none does.
//! Never ends a process.

use std::time::Duration;

use clap::Args;

use super::{CliError, Exit, JournalArg, elsewhere::Elsewhere, files};
use crate::{
    journal::{Durability, JournalError, Lease, Reader, Request, SqliteJournal},
    model::{RunId, RunStatus, Timestamp},
    runtime::{self, Resumption},
};

/// How long to wait for the end. Agents are told, and have a moment to let go of what they do.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The run: its id, the beginning or end of it, or `last`
    run: String,
    #[command(flatten)]
    journal: JournalArg,
}

pub(super) async fn cancel(args: CancelArgs) -> Result<Exit, CliError> {
    let elsewhere = Elsewhere::find(&args.journal, &args.run)?;
    let run = &elsewhere.run;
    let by = elsewhere.sender()?.to_string();
    if cancel_undriven(&args.journal, run, by).await? {
        message!("run {run} is cancelled");
        return Ok(Exit::Done);
    }
    elsewhere.send(&Request::Cancel)?;
    let ended = elsewhere
        .await_effect(PATIENCE, |reader| {
            let summary = reader.run(run)?;
            Ok((!summary.is_open()).then_some(summary.status))
        })
        .await?;
    match (ended, elsewhere.look()?.driver) {
        (Some(RunStatus::Cancelled), _) => message!("run {run} is cancelled"),
        (Some(status), _) => message!("run {run} had ended before: {status}"),
        (None, Some(driver)) => {
            message!("run {run} is being cancelled by {driver}; `kapell logs -f {run}` shows when it has ended");
        }
        (None, None) => message!(
            "no process drives run {run}, and agents still work on its calls; `kapell resume {run}` cancels those and \
             ends it"
        ),
    }
    Ok(Exit::Done)
}

/// Ends the run here if no process drives it. Returns whether it has ended.
async fn cancel_undriven(journal: &JournalArg, run: &RunId, by: String) -> Result<bool, CliError> {
    let path = files::journal(journal)?;
    let _lease = match Lease::take(&path, run) {
        Ok(lease) => lease,
        Err(JournalError::Driven { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let reader = Reader::open(&path)?;
    let files::Told { records, run: fold } = files::fold(&reader, run)?;
    let last = records.last().map_or_else(Timestamp::default, |record| record.at);
    let notes = reader.notes(run)?.calls;
    let resumption = Resumption { id: run, run: fold, last, notes, accepts_changes: false, requests: Vec::new() };
    let journal = SqliteJournal::open(&path, Durability::Full)?;
    let cancelled = runtime::cancel(resumption, by, &journal).await;
    cancelled.map_err(|error| CliError::failed(format!("run `{run}` was not cancelled"), error))
}
