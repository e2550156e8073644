//! `kapell runs`: what the journal knows of runs.
//! Never changes the journal, but for `prune`.

mod prune;

use clap::{Args, Subcommand};

use super::{
    CliError, Exit, Format, JournalArg,
    exit::{print, print_json},
    files,
};
use crate::{
    journal::Reader,
    report::history::{self, RunDetails, RunsDiff},
};

#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// List runs, the latest first
    List(ListArgs),
    /// Show one run: its agents, tasks, questions and model requests
    Show(ShowArgs),
    /// Compare two runs task by task; the exit code is 1 when they differ in more than time
    Diff(DiffArgs),
    /// Forget runs that have ended
    Prune(prune::PruneArgs),
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

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// A run: its id, the beginning or end of it, or `last`
    first: String,
    /// Another run
    second: String,
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
            let details = details(&reader, &args.run)?;
            match args.output {
                Format::Json => {
                    let json = details.json();
                    print_json(&json.map_err(|error| CliError::failed("the run cannot be printed as JSON", error))?)?;
                }
                Format::Text => print(&details.text(&files::viewpoint()))?,
            }
        }
        RunsCommand::Diff(args) => {
            let reader = Reader::open(&files::journal(&args.journal)?)?;
            let diff = RunsDiff::new([&details(&reader, &args.first)?, &details(&reader, &args.second)?]);
            match args.output {
                Format::Json => print_json(&diff)?,
                Format::Text => print(&diff.text())?,
            }
            return Ok(if diff.is_same() { Exit::Done } else { Exit::Failed });
        }
        RunsCommand::Prune(args) => return prune::prune(&args),
    }
    Ok(Exit::Done)
}

/// What the journal tells of a run.
fn details(reader: &Reader, name: &str) -> Result<RunDetails, CliError> {
    let run = reader.find_run(name)?;
    let mut details = RunDetails::new(&run, reader.driver(&run)?);
    for record in reader.records(&run, 0) {
        details.apply(&record?);
    }
    Ok(details)
}
