//! `kapell plan`: turns a goal into a plan file for people to edit. An invalid plan is never written to `--output`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::common::args::AgentsArg;
use crate::cli::common::command_target::CommandTarget;
use crate::cli::common::exit::{print, print_raw};
use crate::cli::common::goal::{DEFAULT_MAX_REPLANS, GoalRequest};
use crate::cli::common::{files, run_context};
use crate::cli::{CliError, Exit};
use crate::journal;
use crate::runtime::new_run_id;
use crate::system::files::write_private;

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
        files::check_output(path, args.force)?;
    }
    let agents = files::load_agents(&args.agents)?;
    let screen = run_context::open_screen()?;
    let saved = files::saved_plan_path(&journal::default_location()?, &new_run_id());
    let goal =
        GoalRequest { text, max_replans: DEFAULT_MAX_REPLANS, agents: &agents, screen: &screen, saved_path: saved };
    let planned = goal.plan().await;
    screen.flush();
    let text = planned?.generated.text;
    match output {
        None => show_plan(&text)?,
        Some(path) => {
            let shown = path.display();
            if let Err(error) = write_private(path, text.as_bytes(), args.force) {
                goal.save(&text)?;
                return Err(CliError::failed("cli::unwritable", format!("cannot write the plan to `{shown}`"), error));
            }
            screen.println(format!("plan written to {shown}"));
        }
    }
    Ok(Exit::Success)
}

/// Prints a plan on stdout: unchanged to a file, and with unsafe characters escaped to a terminal.
///
/// # Errors
/// Fails as [`print()`] does.
pub(crate) fn show_plan(text: &str) -> Result<(), CliError> {
    if !std::io::stdout().is_terminal() {
        return print_raw(text);
    }
    print(text)
}
