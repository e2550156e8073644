//! `kapell runs`: what the journal knows of runs.
//! Never changes the journal.

use clap::{Args, Subcommand};

use super::{
    CliError, Exit, Format, JournalArg,
    exit::{print, print_json},
    files,
};
use crate::{
    journal::Reader,
    report::history::{self, RunDetails},
};

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
                Format::Json => print_json(&history::runs_json(&runs))?,
                Format::Text => print(&history::runs_text(&runs, &files::viewpoint()))?,
            }
        }
        RunsCommand::Show(args) => {
            let reader = Reader::open(&files::journal(&args.journal)?)?;
            let run = reader.find_run(&args.run)?;
            let mut details = RunDetails::new(&run, reader.driver(&run)?);
            for record in reader.records(&run, 0) {
                details.apply(&record?);
            }
            match args.output {
                Format::Json => {
                    let json = details.json();
                    print_json(&json.map_err(|error| CliError::failed("the run cannot be printed as JSON", error))?)?;
                }
                Format::Text => print(&details.text(&files::viewpoint()))?,
            }
        }
    }
    Ok(Exit::Done)
}
