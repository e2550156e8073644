//! `kapell doctor`: checks everything that runs need, and names the fix of what does not work.

use std::io::{self, IsTerminal as _};

use clap::Args;
use serde_json::json;

use crate::cli::common::args::{AgentsArg, JournalArg, OutputFormat};
use crate::cli::common::exit::{print_json, print_styled};
use crate::cli::common::files;
use crate::cli::common::run_context::open_screen;
use crate::cli::{CliError, Exit};
use crate::runtime::{InstalledParts, check_installation};
use crate::ui::health_report::health_text;
use crate::ui::terminal::status_line::show_while;
use crate::view::HealthStatus;

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

pub(crate) async fn doctor(args: DoctorArgs) -> Result<Exit, CliError> {
    let agents_files = args.agents.files(None);
    let agents = match agents_files.first().map(|_| files::read_agents(&agents_files)) {
        None => None,
        Some(Ok(file)) => Some(Ok(file)),
        Some(Err(CliError::File(diagnostics))) => Some(Err(diagnostics)),
        Some(Err(error)) => return Err(error),
    };
    let journal = match files::journal_location(&args.journal) {
        Ok(location) => Ok(location),
        Err(CliError::Journal(error)) => Err(error),
        Err(error) => return Err(error),
    };
    let parts = InstalledParts { files: agents_files, agents, journal };
    let checks = show_while(&open_screen()?, "checking agents and models", check_installation(&parts)).await;
    let is_healthy = checks.iter().all(|check| check.status != HealthStatus::Failed);
    match args.output {
        OutputFormat::Json => print_json(&json!({"ok": is_healthy, "checks": checks}))?,
        OutputFormat::Text => {
            let width = io::stdout().is_terminal().then(|| usize::from(console::Term::stdout().size().1));
            print_styled(&health_text(&checks, width))?;
        }
    }
    Ok(if is_healthy { Exit::Success } else { Exit::Failed })
}
