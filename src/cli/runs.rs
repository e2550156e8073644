//! `kapell runs`: what the journal knows of runs.
//! Never changes the journal.

use clap::{Args, Subcommand};

use super::{
    CliError, Exit, Format, JournalArg,
    exit::{print, print_json},
    files,
};
use crate::{journal::Reader, report::history};

#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// List runs, the latest first
    List(ListArgs),
    /// Show one run: its agents, tasks, questions and model requests
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Most runs to list
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    journal: JournalArg,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The run: its id, the beginning or end of it, or `last`
    run: String,
    #[command(flatten)]
    journal: JournalArg,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn runs(command: RunsCommand) -> Result<Exit, CliError> {
    match command {
        RunsCommand::List(args) => {
            let runs = Reader::open(&files::journal(&args.journal)?)?.runs(args.limit)?;
            match args.output {
                Format::Json => print_json(&runs)?,
                Format::Text => print(&history::runs(&runs))?,
            }
        }
        RunsCommand::Show(args) => {
            let reader = Reader::open(&files::journal(&args.journal)?)?;
            let run = reader.find_run(&args.run)?;
            let records = reader.records(&run, 0).collect::<Result<Vec<_>, _>>()?;
            let show = history::Show::of(&run, &records);
            match args.output {
                Format::Json => print_json(&show)?,
                Format::Text => print(&show.to_string())?,
            }
        }
    }
    Ok(Exit::Done)
}
