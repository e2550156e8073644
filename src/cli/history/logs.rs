//! `kapell logs`: prints every event of a run, one a line.

use std::io::{self, BufWriter, Write};

use clap::Args;

use super::result::unknown_task;
use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::files;
use crate::cli::common::output::has_color;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::model::{LogLevel, TaskId, Timestamp};
use crate::ui::history::{LogFilter, LogFormat, Logs, RunLiveness, WatchMode};

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(default_value = "last", add = completion::runs())]
    run: String,
    /// Only the events of this task, its items, and its calls
    #[arg(long, value_name = "TASK", add = completion::tasks())]
    task: Option<String>,
    /// No log messages of agents below this level
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    level: Option<LogLevel>,
    /// Only events since this time: a duration such as 90s or 2h, or a time such as 2026-11-30T18:00:00
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Timestamp>,
    /// Print new events until the run ends or its process exits
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

fn parse_level(text: &str) -> Result<LogLevel, &'static str> {
    LogLevel::from_name(text)
        .ok_or("expected `debug`, `info`, `notice`, `warning`, `error`, `critical`, `alert`, or `emergency`")
}

/// Parses a duration before now, or a time in the zone of the person.
fn parse_since(text: &str) -> Result<Timestamp, String> {
    let now = files::display_context();
    if let Ok(duration) = text.parse::<jiff::SignedDuration>() {
        return Ok(Timestamp(now.now.0.saturating_sub(duration.unsigned_abs().as_millis() as u64)));
    }
    let zoned = || text.parse::<jiff::Timestamp>().ok();
    let local = || Some(text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(now.zone.clone()).ok()?.timestamp());
    let time = zoned()
        .or_else(local)
        .ok_or("expected a duration such as `90s` or `2h`, or a time such as `2026-11-30T18:00:00`")?;
    Ok(Timestamp(u64::try_from(time.as_millisecond()).unwrap_or_default()))
}

/// Prints the events to `output`, which ends the printing without an error when it is closed.
pub(crate) fn logs(args: LogsArgs, output: &mut impl Write) -> Result<Exit, CliError> {
    let reader = files::open_journal(&args.journal)?;
    let run = reader.find_run(&args.run)?;
    let format = match args.output {
        OutputFormat::Text if has_color(&io::stdout()) => LogFormat::StyledText(files::time_zone()),
        OutputFormat::Text => LogFormat::Text(files::time_zone()),
        OutputFormat::Json => LogFormat::Json,
    };
    let watch = if args.follow { WatchMode::UntilRunEnds } else { WatchMode::No };
    let filter = LogFilter { task: args.task.as_deref().map(TaskId::from), level: args.level, since: args.since };
    let logs = Logs { reader: &*reader, run: &run, format, filter, watch };
    let cannot_print =
        |error| CliError::failed("cli::output", format!("cannot print the events of run `{}`", run.short()), error);
    // A run that continues may still get the task.
    if let Some(task) = logs.filter.task.as_ref().filter(|_| !args.follow)
        && !logs.has_task(task).map_err(cannot_print)?
    {
        return Err(unknown_task(&run, task));
    }
    let liveness = logs.print(&mut BufWriter::new(output)).map_err(cannot_print)?;
    if liveness == RunLiveness::Interrupted {
        message!("run {0} was interrupted: its process has exited; `kapell resume {0}` resumes it", run.short());
    }
    Ok(Exit::Success)
}
