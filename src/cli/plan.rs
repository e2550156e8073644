//! `kapell plan`: turns a goal into a plan file for people to edit.
//! Never runs a plan, and never writes one that is not valid to where it was asked for.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    AgentsArg, CliError, Exit, desk,
    exit::{print, print_exact},
    files,
    goal::{Goal, REPLANS},
};
use crate::journal;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// What is to be done, in a sentence
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    goal: String,
    /// Where to write the plan [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    agents: AgentsArg,
}

pub(super) async fn plan(args: PlanArgs) -> Result<Exit, CliError> {
    let agents = files::agents(&args.agents)?;
    if let Some(path) = &args.output {
        check_folder(path)?;
    }
    let screen = desk::screen()?;
    let saved = files::saved_plan(&journal::default_path()?, &desk::new_run());
    let goal = Goal { text: &args.goal, replans: REPLANS, agents: &agents, screen: &screen, saved };
    let planned = goal.plan().await;
    screen.flush();
    let text = planned?.planned.text;
    match &args.output {
        None => show_plan(&text)?,
        Some(path) => {
            let shown = path.display();
            if let Err(error) = std::fs::write(path, &text) {
                goal.save(&text)?;
                return Err(CliError::failed(format!("the plan could not be written to `{shown}`"), error));
            }
            screen.println(format!("plan written to {shown}"));
        }
    }
    Ok(Exit::Done)
}

/// A folder that is not there is better known before the model is asked than after.
fn check_folder(file: &Path) -> Result<(), CliError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => Err(CliError::usage(
            format!("the folder `{}` does not exist", folder.display()),
            "make it, or name another file with `--output`",
        )),
        _ => Ok(()),
    }
}

/// Prints a plan on stdout: as it is for a file, and without what could command it for a terminal.
///
/// # Errors
/// As [`print`].
pub(super) fn show_plan(text: &str) -> Result<(), CliError> {
    if !std::io::stdout().is_terminal() {
        return print_exact(text);
    }
    print(text)
}
