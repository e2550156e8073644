//! `kapell resume`: goes on with a run that was interrupted or paused.
//! Never repeats what is finished.

use clap::Args;

use super::{
    AgentsArg, CliError, Exit, JournalArg,
    execute::{Desk, Left, Ran, Work, execute},
    files,
    talk::{Otherwise, TalkArgs},
};
use crate::{
    journal::{Lease, Reader},
    model::{RunId, RunStatus},
    report::screen::Screen,
};

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The run: its id, the beginning or end of it, or `last`
    #[arg(default_value = "last", value_name = "RUN")]
    run: String,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    talk: TalkArgs,
    /// Go on although the plan, the agents file or an agent's tools have changed since the run began
    #[arg(long)]
    accept_changes: bool,
}

pub(super) async fn resume(args: ResumeArgs) -> Result<Exit, CliError> {
    let agents = files::agents(&args.agents)?;
    let journal = files::journal(&args.journal)?;
    let reader = Reader::open(&journal)?;
    let run = reader.find_run(&args.run)?;
    let lease = Lease::take(&journal, &run)?;
    let left = left(&reader, &run, lease, args.accept_changes)?;
    let screen = Screen::stderr().map_err(|error| CliError::failed("stderr cannot be written", error))?;
    let human = args.talk.human(&screen, &run, Otherwise::Terminal)?;
    let desk = Desk { run, journal, screen, human, output: args.talk.output };
    let Ran { result, exit, shown } = execute(desk, &agents, Work::Left(left)).await?;
    args.talk.print(&result, shown)?;
    Ok(exit)
}

/// Reads what an earlier process left.
///
/// # Errors
/// When it left nothing to do, or the journal cannot be read.
fn left(reader: &Reader, run: &RunId, lease: Lease, accepts_changes: bool) -> Result<Left, CliError> {
    let files::Told { records, run: fold } = files::fold(reader, run)?;
    if !matches!(fold.status(), RunStatus::Running | RunStatus::Paused) {
        return Err(CliError::usage(
            format!("run `{run}` has ended ({}), so there is nothing to resume", fold.status()),
            format!(
                "`kapell runs show {run}` tells what came of it; `kapell retry {run} --from TASK` runs a part of it again"
            ),
        ));
    }
    Ok(Left { lease, notes: reader.notes(run)?, records, run: fold, accepts_changes })
}
