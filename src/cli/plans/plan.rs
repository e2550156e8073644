//! `kapell plan`: turns a goal into a plan file for people to edit. An invalid plan is never written to `--output`.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::common::args::{AgentsArg, RefreshArg};
use crate::cli::common::command_target::CommandTarget;
use crate::cli::common::exit::{print, print_raw};
use crate::cli::common::goal::{
    ConnectionUse, DEFAULT_MAX_REPLANS, GoalOutcome, GoalRequest, GoalSession, SavedPlans, write_plan_schema,
};
use crate::cli::common::run_options::person_at_terminal;
use crate::cli::common::{files, run_context};
use crate::cli::import::known_servers::known_servers;
use crate::cli::{CliError, Exit};
use crate::planner::PlanError;
use crate::runtime::new_run_id;
use crate::system::files::{describe_kind, write_private};

/// Formats of other commands, which would be strange names of plans.
const FORMATS: [&str; 4] = ["json", "stream-json", "text", "yaml"];

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The goal, in a sentence
    #[arg(value_name = "GOAL", required_unless_present = "goal")]
    text: Option<String>,
    /// The goal; any text, even one that looks like a file name
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "text")]
    goal: Option<String>,
    /// The file to write the plan to, which must not exist; - for standard output [default: -]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file of `--output` if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    refresh: RefreshArg,
}

pub(crate) async fn plan(args: PlanArgs) -> Result<Exit, CliError> {
    let text = match CommandTarget::from_args("plan", args.text.as_deref(), args.goal.as_deref())? {
        CommandTarget::Goal(text) => text,
        CommandTarget::Plan(name) => {
            return Err(CliError::usage(
                "cli::goal_expected",
                format!("`{name}` is a plan file, and `kapell plan` expects a goal"),
                format!("`kapell run {name}` runs the plan; `kapell plan --goal TEXT` treats any text as a goal"),
            ));
        }
    };
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    // Checked before any model request is paid for.
    if let Some(path) = output {
        check_output(path, args.force)?;
    }
    let agents = files::load_agents(&args.agents)?;
    let screen = run_context::open_screen()?;
    let run = new_run_id();
    let journal = files::default_journal_location()?;
    let saved = files::saved_plan_path(&journal, &run);
    let human = person_at_terminal(&screen, &run)?;
    let goal = GoalRequest {
        text,
        max_replans: DEFAULT_MAX_REPLANS,
        agents: &agents,
        freshness: args.refresh.freshness(),
        screen: &screen,
        human: &*human,
        saved_path: saved,
        examples: SavedPlans::of(&journal).examples(),
        known_servers: &|| known_servers(&agents),
        connections: ConnectionUse::Planning,
    };
    let planned = goal.plan(&mut GoalSession::default()).await;
    screen.flush();
    let text = match planned? {
        GoalOutcome::Plan(plan) => plan.generated.text,
        GoalOutcome::Answer(answer) => return Err(Box::new(PlanError::NoTasks { answer }).into()),
    };
    match output {
        None => show_plan(&text)?,
        Some(path) => {
            let shown = path.display();
            if let Err(error) = write_private(path, text.as_bytes(), args.force) {
                goal.save(&text)?;
                return Err(CliError::failed("cli::unwritable", format!("cannot write the plan to `{shown}`"), error));
            }
            screen.println(format!("plan written to {shown}"));
            match write_plan_schema(path, false) {
                Ok(path) => screen.println(format!("wrote {}, with which editors check the plan", path.display())),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // The plan is complete without it.
                Err(error) => screen.println(format!("cannot write the schema of the plan: {error}")),
            }
        }
    }
    Ok(Exit::Success)
}

/// Prints a plan on stdout: unchanged to a file, and with unsafe characters escaped to a terminal.
///
/// # Errors
/// Fails as [`print()`] does.
pub(crate) fn show_plan(text: &str) -> Result<(), CliError> {
    if !io::stdout().is_terminal() {
        return print_raw(text);
    }
    print(text)
}

/// Checks that a new file can be written at a path that a person has named.
///
/// # Errors
/// Fails if the directory is missing, or the path names something that must not be overwritten.
fn check_output(path: &Path, replaces: bool) -> Result<(), CliError> {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(CliError::usage(
            "cli::no_directory",
            format!("the directory `{}` does not exist", folder.display()),
            "create it, or pass another file with `--output`",
        ));
    }
    if FORMATS.iter().any(|format| path == Path::new(format)) {
        return Err(CliError::usage(
            "cli::not_a_file",
            format!("`{shown}` is a format, and `--output` of `kapell plan` names a file"),
            format!("plans are YAML; `--output ./{shown}` writes a file with this name"),
        ));
    }
    let existing = match fs::symlink_metadata(path) {
        Ok(existing) => existing.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CliError::failed("cli::unwritable", format!("cannot write `{shown}`"), error)),
    };
    if existing.is_file() {
        return match replaces {
            true => Ok(()),
            false => {
                Err(CliError::usage("cli::file_exists", format!("`{shown}` exists already"), "`--force` replaces it"))
            }
        };
    }
    let help = if existing.is_dir() {
        "pass a file in it with `--output`"
    } else if existing.is_symlink() {
        "links are not followed: pass the file that it points to with `--output`"
    } else {
        "pass a regular file with `--output`, or remove `--output` to print the plan"
    };
    let kind = describe_kind(existing);
    Err(CliError::usage("cli::not_a_file", format!("cannot write the plan to `{shown}`: it is {kind}"), help))
}
