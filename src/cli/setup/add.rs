//! `kapell agents add` and `kapell agents remove`: change the agents file, and keep its comments and its order.

use std::path::Path;

use clap::Args;

use super::agents_editor::AgentsEditor;
use crate::cli::common::args::AgentsArg;
use crate::cli::common::exit::print;
use crate::cli::common::files;
use crate::cli::{CliError, Exit};
use crate::config::{AgentsDocument, ConcealedEntry};

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The name of the agent
    name: String,
    /// The URL of a server, over Streamable HTTP or HTTP+SSE
    #[arg(required_unless_present = "command")]
    url: Option<String>,
    #[command(flatten)]
    agents: AgentsArg,
    /// The program to start, with its arguments
    #[arg(last = true, conflicts_with = "url")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The name of the agent
    name: String,
    #[command(flatten)]
    agents: AgentsArg,
}

pub(crate) fn add(args: &AddArgs) -> Result<Exit, CliError> {
    let name = &args.name;
    let ConcealedEntry { entry, variables } = match &args.url {
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => ConcealedEntry::from_url(name, url),
        Some(_) => {
            return Err(CliError::usage(
                "cli::no_url",
                "the URL of a server starts with `http://` or `https://`",
                format!("to start a program, write it after `--`: `kapell agents add {name} -- COMMAND ARGUMENT`"),
            ));
        }
        None => ConcealedEntry::from_command(name, &resolved_command(&args.command)),
    };
    let mut editor = AgentsEditor::open(&args.agents)?;
    editor.add(name, &entry)?;
    editor.save()?;
    let mut added = AgentsDocument::default();
    added.add(name, &entry);
    print(&added.to_string())?;
    message!("added agent `{name}` to `{}`", editor.path().display());
    for variable in variables {
        message!("set the environment variable `{variable}`: its value is a secret and was not written");
    }
    message!("`kapell agents test {name}` connects to it");
    Ok(Exit::Success)
}

/// Returns the command with a relative path of the program as an absolute one, since relative paths in an agents file start
/// at the directory of the file.
fn resolved_command(command: &[String]) -> Vec<String> {
    let mut resolved = command.to_vec();
    if let Some(program) =
        resolved.first_mut().filter(|program| program.contains('/') && !program.starts_with(['/', '$']))
    {
        *program = files::absolute(Path::new(program));
    }
    resolved
}

pub(crate) fn remove(args: &RemoveArgs) -> Result<Exit, CliError> {
    let name = &args.name;
    let mut editor = AgentsEditor::open(&args.agents)?;
    if !editor.document().remove(name) {
        let path = editor.path().display().to_string();
        let known = editor.document().agent_names().join(", ");
        return Err(CliError::usage(
            "cli::unknown_agent",
            format!("`{path}` has no agent `{name}`"),
            if known.is_empty() { "it has no agents".to_owned() } else { format!("it has {known}") },
        ));
    }
    editor.save()?;
    message!("removed agent `{name}` from `{}`", editor.path().display());
    Ok(Exit::Success)
}
