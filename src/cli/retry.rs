//! `kapell retry`: does a part of an earlier run again, with the results before it.
//! Never changes the earlier run.

use clap::Args;

use super::{
    AgentsArg, CliError, Exit, JournalArg,
    desk::{Desk, new_run},
    execute::{Work, execute},
    files,
    talk::{DriveArgs, Otherwise},
};
use crate::{journal::Reader, model::TaskId};

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The run: its id, the beginning or end of it, or `last`
    run: String,
    /// The task from which on everything is done again; tasks without a result are done again wherever they stand
    #[arg(long, value_name = "TASK")]
    from: String,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    drive: DriveArgs,
}

pub(super) async fn retry(args: RetryArgs) -> Result<Exit, CliError> {
    let journal = files::journal(&args.journal)?;
    let reader = Reader::open(&journal)?;
    let of = reader.find_run(&args.run)?;
    let earlier = files::fold(&reader, &of)?.run;
    if earlier.status().is_open() {
        return Err(CliError::usage(
            format!("run `{of}` has not ended, so nothing of it can be done again yet"),
            format!("`kapell resume {of}` goes on with it"),
        ));
    }
    let agents = files::agents_of(&args.agents, &earlier)?;
    let from = TaskId::from(args.from);
    // Told before anything begins, and as what it is: a mistake on the command line.
    let checked = earlier.check_rerun(&of, &from);
    checked.map_err(|error| CliError::Usage { message: error.to_string(), help: None })?;
    let desk = Desk::new(new_run(), journal, &args.drive, Otherwise::Terminal)?;
    args.drive.print(execute(desk, &agents, Work::Again { of, earlier, from }).await?)
}
