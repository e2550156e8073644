//! `kapell runs`: lists, shows, compares, and prunes the runs in the journal.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::result::unknown_task;
use super::{clean_tokens, prune};
use crate::cli::common::args::{AgentsArg, JournalArg, OutputFormat};
use crate::cli::common::exit::{output_width, print, print_json, print_styled};
use crate::cli::common::files;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::engine::{self, Run};
use crate::journal::{JournalReader, RunFilter};
use crate::model::{Record, RunId, RunStatus, Secrets, SentCall};
use crate::runtime;
use crate::ui::history::{self, ListedRun, RunDetails, RunsDiff};

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
    /// Only runs with this status; may be repeated
    #[arg(long, value_name = "STATUS", value_parser = status_parser())]
    status: Vec<RunStatus>,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

/// Parses the name of a status.
fn status_parser() -> impl TypedValueParser<Value = RunStatus> {
    const STATUSES: [RunStatus; 7] = [
        RunStatus::Running,
        RunStatus::Paused,
        RunStatus::Interrupted,
        RunStatus::Succeeded,
        RunStatus::Partial,
        RunStatus::Failed,
        RunStatus::Cancelled,
    ];
    let named = |name: String| STATUSES.into_iter().find(|status| status.as_str() == name).unwrap_or_default();
    PossibleValuesParser::new(STATUSES.map(RunStatus::as_str)).map(named)
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(default_value = "last", add = completion::runs())]
    run: String,
    /// Only this task or item, such as `read` or `read[2]`: each call with its arguments, its failure, and what the agent
    /// logged; and the output
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
    #[arg(add = completion::runs())]
    first: String,
    /// Another run
    #[arg(add = completion::runs())]
    second: String,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

pub(crate) fn runs(command: RunsCommand) -> Result<Exit, CliError> {
    match command {
        RunsCommand::List(args) => list(args)?,
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

fn list(args: ListArgs) -> Result<(), CliError> {
    let ListArgs { limit, plan, status: statuses, journal, output } = args;
    let is_filtered = plan.is_some() || !statuses.is_empty();
    let runs = match files::open_journal_if_present(&journal)? {
        None => Vec::new(),
        Some(reader) => {
            let runs = reader.filtered_runs(&RunFilter { plan, statuses }, limit)?;
            runs.into_iter().map(|run| ListedRun::read(&*reader, run)).collect()
        }
    };
    match output {
        OutputFormat::Json => print_json(&history::runs_json(&runs))?,
        OutputFormat::Text if runs.is_empty() => {
            message!("{}", if is_filtered { "no such runs" } else { "no runs yet" });
        }
        OutputFormat::Text => {
            print_styled(&history::runs_text(&runs, &files::display_context(), output_width()))?;
        }
    }
    Ok(())
}

fn show(reader: &dyn JournalReader, args: &ShowArgs) -> Result<(), CliError> {
    let mut details = run_details(reader, &args.run, &args.journal)?;
    let run = reader.find_run(&args.run)?;
    let sent = || SentCalls::read(reader, &run, &args.journal);
    details.locate_files(&files::content_root(&files::journal_location(&args.journal)?));
    let no_json = |error| CliError::failed("cli::output", "the run cannot be converted to JSON", error);
    match (&args.task, args.output) {
        (None, OutputFormat::Text) => print_styled(&details.text(&files::display_context())),
        (None, OutputFormat::Json) => print_json(&details.json(sent()?.calls).map_err(no_json)?),
        (Some(id), output) => {
            let SentCalls { calls, secrets } = sent()?;
            let mut task = details.task(id, calls).ok_or_else(|| unknown_task(&run, &id.as_str().into()))?;
            for (agent, since) in task.agents() {
                let mut lines = runtime::agent_stderr(&agent, since)?;
                lines.iter_mut().for_each(|(_, line)| *line = secrets.mask_text(line).into_owned());
                task.add_stderr(agent, lines);
            }
            match output {
                OutputFormat::Text => print_styled(&task.text(&files::display_context())),
                OutputFormat::Json => print_json(&task.json().map_err(no_json)?),
            }
        }
    }
}

/// The calls that a run has made.
struct SentCalls {
    /// The calls, with secrets masked.
    calls: Vec<SentCall>,
    /// The secrets of the agents file of the run, as far as it can be read.
    secrets: Secrets,
}

impl SentCalls {
    fn read(reader: &dyn JournalReader, run: &RunId, journal: &JournalArg) -> Result<Self, CliError> {
        let records: Vec<Record> = files::shown_records(reader, journal, run)?.collect::<Result<_, _>>()?;
        let unreadable =
            |error| CliError::failed("cli::invalid_run", format!("cannot read run `{}`", run.short()), error);
        let mut calls = engine::sent_calls(&records).map_err(unreadable)?;
        let state = Run::fold(&records).map_err(unreadable)?;
        let agents = files::load_agents_for_run(&AgentsArg { agents: None }, &state);
        let secrets = agents.map(|file| file.secrets).unwrap_or_default();
        calls.iter_mut().for_each(|call| secrets.mask_value(&mut call.arguments));
        Ok(Self { calls, secrets })
    }
}

/// Returns the details of a run from the journal.
fn run_details(reader: &dyn JournalReader, name: &str, journal: &JournalArg) -> Result<RunDetails, CliError> {
    let run = reader.find_run(name)?;
    let mut details = RunDetails::new(&run, reader.driver(&run)?).with_reruns(reader.reruns(&run)?);
    for record in files::shown_records(reader, journal, &run)? {
        details.apply(&record?);
    }
    Ok(details)
}
