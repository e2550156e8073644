//! `kapell agents logs`: prints what an agent wrote to its standard error.

use std::io;

use clap::Args;

use crate::cli::common::args::AgentsArg;
use crate::cli::common::exit::print;
use crate::cli::common::files;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::mcp::process::log::log_path;
use crate::runtime;
use crate::system::files::read;

/// The maximum size of a log that is read: that at which it is rotated, and some more.
const MAX_LOG_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct AgentLogsArgs {
    /// The agent
    #[arg(add = completion::agents())]
    name: String,
    /// The number of lines to print, counted from the end
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: usize,
    #[command(flatten)]
    agents: AgentsArg,
}

pub(crate) fn agent_logs(args: &AgentLogsArgs) -> Result<Exit, CliError> {
    let (agent, file) = files::load_agent(&args.agents, &args.name)?;
    let path = log_path(&runtime::connect_options(&file, None)?.log_dir, &agent.id, 0);
    let text = match read(&path, MAX_LOG_BYTES) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            message!("agent `{}` has written nothing to standard error", agent.id);
            return Ok(Exit::Success);
        }
        Err(error) => {
            return Err(CliError::failed("cli::unreadable", format!("cannot read `{}`", path.display()), error));
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(args.lines)..] {
        print(&format!("{line}\n"))?;
    }
    Ok(Exit::Success)
}
