//! `kapell plans`: saves plans by name, and lists, prints, and removes them.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::plan::show_plan;
use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::exit::{print, print_json};
use crate::cli::common::files;
use crate::cli::common::goal::{SavedPlan, SavedPlans};
use crate::cli::{CliError, Exit};
use crate::config;
use crate::engine;
use crate::model::text::truncate_chars;
use crate::view::text::{count_text, printable};

/// The maximum length of a goal in the list.
const MAX_GOAL_CHARS: usize = 80;

#[derive(Debug, Subcommand)]
pub(crate) enum PlansCommand {
    /// Save the plan of a run or a plan file; similar goals are planned after it
    Save(SaveArgs),
    /// List the saved plans
    List(ListPlansArgs),
    /// Print a saved plan
    Show(NamedPlanArgs),
    /// Remove a saved plan
    Remove(NamedPlanArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The name to save the plan with
    name: String,
    /// The plan: a file, or a run by its ID, the start or end of its ID, or `last`
    #[arg(value_name = "RUN|PLAN", default_value = "last")]
    source: String,
    /// Replace a plan that is saved with this name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    journal: JournalArg,
}

#[derive(Debug, Args)]
pub(crate) struct ListPlansArgs {
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct NamedPlanArgs {
    /// The name of the plan
    name: String,
    #[command(flatten)]
    journal: JournalArg,
}

pub(crate) fn plans(command: PlansCommand) -> Result<Exit, CliError> {
    let saved = |journal: &JournalArg| Ok::<_, CliError>(SavedPlans::of(&files::journal_location(journal)?));
    match command {
        PlansCommand::Save(args) => save(&args)?,
        PlansCommand::List(args) => list(&saved(&args.journal)?.all(), args.output)?,
        PlansCommand::Show(args) => show_plan(&saved(&args.journal)?.find(&args.name)?.text)?,
        PlansCommand::Remove(args) => saved(&args.journal)?.remove(&args.name)?,
    }
    Ok(Exit::Success)
}

fn save(args: &SaveArgs) -> Result<(), CliError> {
    let location = files::journal_location(&args.journal)?;
    let text = match Path::new(&args.source).is_file() {
        true => config::read_text(Path::new(&args.source))?,
        false => plan_of_run(args)?,
    };
    // Whether its agents exist is checked when it runs.
    config::read_data(&args.source, &text)?;
    let path = SavedPlans::of(&location).save(&args.name, &text, args.force)?;
    message!("saved as `{}` in {}", args.name, path.display());
    Ok(())
}

/// Returns the text of the plan of a run, if its file is still the same.
fn plan_of_run(args: &SaveArgs) -> Result<String, CliError> {
    let reader = files::open_journal(&args.journal)?;
    let run = reader.find_run(&args.source)?;
    let records = files::shown_records(&*reader, &args.journal, &run)?.collect::<Result<Vec<_>, _>>()?;
    let folded = engine::Run::fold(&records).ok();
    let source = folded.as_ref().and_then(|run| run.source());
    let path = source.and_then(|source| source.plan.as_deref()).map(Path::new);
    let text = path.and_then(|path| config::read_text(path).ok());
    let is_same = |text: &String| source.is_some_and(|source| source.plan_hash == config::fingerprint_of(text));
    text.filter(is_same).ok_or_else(|| {
        CliError::usage(
            "cli::plan_changed",
            format!("the plan file of run {} is missing or has changed since", run.short()),
            "`kapell plans save NAME FILE` saves a plan file",
        )
    })
}

fn list(plans: &[SavedPlan], output: OutputFormat) -> Result<(), CliError> {
    if output == OutputFormat::Json {
        let plans: Vec<_> = plans
            .iter()
            .map(|plan| json!({"name": plan.name, "goal": plan.goal, "tasks": plan.tasks, "path": plan.path}))
            .collect();
        return print_json(&plans);
    }
    if plans.is_empty() {
        message!("no plans are saved; `kapell plans save NAME` saves the plan of the latest run");
    }
    let width = plans.iter().map(|plan| plan.name.chars().count()).max().unwrap_or_default();
    let lines = plans.iter().map(|plan| {
        let goal = truncate_chars(plan.goal.lines().next().unwrap_or_default(), MAX_GOAL_CHARS);
        let goal = printable(&goal);
        format!("{:width$}  {:8}  {goal}\n", plan.name, count_text(plan.tasks, "task"))
    });
    print(&lines.collect::<String>())
}
