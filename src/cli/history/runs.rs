//! `kapell runs`: lists, shows, compares, and prunes the runs in the journal.

use clap::{Args, Subcommand};

use super::result::unknown_task;
use super::{clean_tokens, prune};
use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::exit::{print, print_json, print_styled};
use crate::cli::common::files;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::engine;
use crate::journal::JournalReader;
use crate::model::{Record, SentCall};
use crate::ui::history::{self, RunDetails, RunsDiff};

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, the latest first
    List(ListArgs),
    /// Show one run with its agents, tasks, questions, and model requests; or one of its tasks in full
    Show(ShowArgs),
    /// Compare two runs task by task; exits with 1 if they differ in more than time
    Diff(DiffArgs),
    /// Delete runs that have ended
    Prune(prune::PruneArgs),
    /// Forget the saved sessions and cursors of interrupted and paused runs, with which their calls would continue
    CleanTokens(clean_tokens::CleanTokensArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Maximum number of runs
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Only runs of the plan with this name
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(default_value = "last", add = completion::runs())]
    run: String,
    /// Only this task or item: each call with its arguments, and the answer
    #[arg(add = completion::tasks())]
    task: Option<String>,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A run: its ID, the start or end of its ID, or `last`
    first: String,
    /// Another run
    second: String,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

pub(crate) fn runs(command: RunsCommand) -> Result<Exit, CliError> {
    match command {
        RunsCommand::List(args) => {
            let reader = files::open_journal(&args.journal)?;
            let runs = match &args.plan {
                None => reader.runs(args.limit)?,
                Some(plan) => {
                    let runs = reader.runs(usize::MAX)?.into_iter().filter(|run| run.name == *plan);
                    runs.take(args.limit).collect()
                }
            };
            match args.output {
                OutputFormat::Json => print_json(&history::runs_json(&runs))?,
                OutputFormat::Text => print_styled(&history::runs_text(&runs, &files::display_context()))?,
            }
        }
        RunsCommand::Show(args) => {
            let reader = files::open_journal(&args.journal)?;
            show(&*reader, &args)?;
        }
        RunsCommand::Diff(args) => {
            let reader = files::open_journal(&args.journal)?;
            let details = |name: &str| run_details(&*reader, name, &args.journal);
            let diff = RunsDiff::new([&details(&args.first)?, &details(&args.second)?]);
            match args.output {
                OutputFormat::Json => print_json(&diff)?,
                OutputFormat::Text => print(&diff.text())?,
            }
            return Ok(if diff.is_same() { Exit::Success } else { Exit::Failed });
        }
        RunsCommand::Prune(args) => return prune::prune(&args),
        RunsCommand::CleanTokens(args) => return clean_tokens::clean_tokens(&args),
    }
    Ok(Exit::Success)
}

fn show(reader: &dyn JournalReader, args: &ShowArgs) -> Result<(), CliError> {
    let mut details = run_details(reader, &args.run, &args.journal)?;
    let calls = || calls(reader, &args.run, &args.journal);
    details.locate_files(&files::content_root(&files::journal_location(&args.journal)?));
    let no_json = |error| CliError::failed("cli::output", "the run cannot be converted to JSON", error);
    match (&args.task, args.output) {
        (None, OutputFormat::Text) => print_styled(&details.text(&files::display_context())),
        (None, OutputFormat::Json) => print_json(&details.json(calls()?).map_err(no_json)?),
        (Some(id), output) => {
            let run = reader.find_run(&args.run)?;
            let task = details.task(id, calls()?).ok_or_else(|| unknown_task(&run, &id.as_str().into()))?;
            match output {
                OutputFormat::Text => print_styled(&task.text(&files::display_context())),
                OutputFormat::Json => print_json(&task.json().map_err(no_json)?),
            }
        }
    }
}

/// Returns the calls that a run has made.
fn calls(reader: &dyn JournalReader, name: &str, journal: &JournalArg) -> Result<Vec<SentCall>, CliError> {
    let run = reader.find_run(name)?;
    let records: Vec<Record> = files::shown_records(reader, journal, &run)?.collect::<Result<_, _>>()?;
    engine::sent_calls(&records)
        .map_err(|error| CliError::failed("cli::invalid_run", format!("cannot read run `{}`", run.short()), error))
}

/// Returns the details of a run from the journal.
fn run_details(reader: &dyn JournalReader, name: &str, journal: &JournalArg) -> Result<RunDetails, CliError> {
    let run = reader.find_run(name)?;
    let mut details = RunDetails::new(&run, reader.driver(&run)?);
    for record in files::shown_records(reader, journal, &run)? {
        details.apply(&record?);
    }
    Ok(details)
}
