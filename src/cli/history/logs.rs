//! `kapell logs`: prints every event of a run, one a line.

use std::io::{self, BufWriter};

use clap::Args;

use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::files;
use crate::cli::{CliError, Exit};
use crate::ui::history::{LogFormat, Logs, RunLiveness, WatchMode};

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    run: String,
    /// Print new events until the run ends or its process exits
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    journal: JournalArg,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(crate) fn logs(args: LogsArgs) -> Result<Exit, CliError> {
    let reader = files::open_journal(&args.journal)?;
    let run = reader.find_run(&args.run)?;
    let format = match args.output {
        OutputFormat::Text => LogFormat::Text(files::time_zone()),
        OutputFormat::Json => LogFormat::Json,
    };
    let watch = if args.follow { WatchMode::UntilRunEnds } else { WatchMode::No };
    let logs = Logs { reader: &*reader, run: &run, format, watch };
    let liveness = logs
        .print(&mut BufWriter::new(io::stdout().lock()))
        .map_err(|error| CliError::failed("cli::output", format!("cannot print the events of run `{run}`"), error))?;
    if liveness == RunLiveness::Interrupted {
        message!("run {run} was interrupted: its process has exited; `kapell resume {run}` resumes it");
    }
    Ok(Exit::Success)
}
