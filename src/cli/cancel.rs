//! `kapell cancel`: asks for the end of a run that another process drives.
//! Never ends a process.

use std::time::Duration;

use clap::Args;

use super::{CliError, Exit, JournalArg, elsewhere::Elsewhere};
use crate::{journal::Request, model::RunStatus};

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
            "nobody drives run {run}, so nothing of it is under way; the next `kapell resume {run}` ends it as cancelled"
        ),
    }
    Ok(Exit::Done)
}
