//! `kapell report`: writes a run as one HTML file.

use std::path::PathBuf;

use clap::Args;

use crate::cli::common::args::{AgentsArg, JournalArg};
use crate::cli::common::command_agents::CommandAgents;
use crate::cli::common::exit::print_raw;
use crate::cli::common::files;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::serve::{ServeError, report_html};
use crate::system::files::replace;

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(default_value = "last", add = completion::runs())]
    run: String,
    /// The file to write, which is replaced if it exists [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    journal: JournalArg,
}

pub(crate) fn report(args: &ReportArgs) -> Result<Exit, CliError> {
    let store = files::journal_store(&args.journal)?;
    let run = store.open_reader()?.find_run(&args.run)?;
    let contents = files::content_root(&files::journal_location(&args.journal)?);
    let now = files::display_context().now;
    let html =
        report_html((&*store, &contents), &CommandAgents(args.agents.clone()), &run, now).map_err(
            |error| match error {
                ServeError::Journal(error) => error.into(),
                other => CliError::failed("cli::invalid_run", format!("cannot read run `{}`", run.short()), other),
            },
        )?;
    let Some(path) = &args.output else {
        print_raw(&html)?;
        return Ok(Exit::Success);
    };
    replace(path, html.as_bytes())
        .map_err(|error| CliError::failed("cli::unwritable", format!("cannot write `{}`", path.display()), error))?;
    message!("wrote run {} to {}", run.short(), path.display());
    Ok(Exit::Success)
}
