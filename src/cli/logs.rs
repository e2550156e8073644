//! `kapell logs`: every event of a run, one a line.
//! Never changes the journal.

use std::{path::Path, time::Duration};

use clap::Args;

use super::{
    CliError, Exit, Format, JournalArg,
    exit::print,
    files,
};
use crate::{
    journal::Reader,
    model::{Event, RunId},
    report::history,
};

/// How often a followed journal is looked at: often enough to seem immediate, seldom enough to cost nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The run: its id, the beginning or end of it, or `last`
    run: String,
    /// Go on until the run ends
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    journal: JournalArg,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn logs(args: LogsArgs) -> Result<Exit, CliError> {
    let path = files::journal(&args.journal)?;
    let reader = Reader::open(&path)?;
    let run = reader.find_run(&args.run)?;
    let mut next = 0;
    loop {
        let ended = print_from(&reader, &run, &mut next, args.output)?;
        if ended || !args.follow {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
