//! `kapell replay`: shows a run again as it was shown when it ran, from its journal and the files of its results.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::execute::{PrintedResult, print_result, print_to_screen, progress_reporter, show_end};
use crate::cli::common::{files, run_context};
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::model::{Record, RunStatus, Timestamp};
use crate::ui::reporters::Reporters;
use crate::ui::reporters::live::TimeSource;

/// The longest pause of a replay, so that a question that waited for hours does not stall it.
const MAX_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(default_value = "last", add = completion::runs())]
    run: String,
    /// The speed as a multiple of the original; `max` or 0 shows everything immediately. Pauses are at most five seconds
    #[arg(long, value_name = "N", default_value = "1")]
    speed: ReplaySpeed,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

/// The speed of a replay.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ReplaySpeed {
    Factor(f64),
    Immediate,
}

impl FromStr for ReplaySpeed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::Immediate),
            Ok(0.0) => Ok(Self::Immediate),
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Self::Factor(times)),
            _ => Err("expected a factor, such as `10` or `0.5`, or `max`".to_owned()),
        }
    }
}

impl ReplaySpeed {
    /// Returns the pause between two events.
    fn pause(self, between: Duration) -> Duration {
        match self {
            Self::Immediate => Duration::ZERO,
            Self::Factor(times) => {
                Duration::try_from_secs_f64(between.as_secs_f64() / times).unwrap_or(MAX_PAUSE).min(MAX_PAUSE)
            }
        }
    }
}

pub(crate) async fn replay(args: ReplayArgs) -> Result<Exit, CliError> {
    let reader = files::open_journal(&args.journal)?;
    let run = reader.find_run(&args.run)?;
    let screen = run_context::open_screen()?;
    let clock = ReplayClock { speed: args.speed, last_event: Arc::default() };
    let mut progress = progress_reporter(&screen, &run, clock.time_source());
    let mut reporters = Reporters::new(&run, vec![&mut *progress]);
    for record in files::shown_records(&*reader, &args.journal, &run)? {
        let record = record?;
        clock.wait_for(&record).await;
        reporters.report(std::slice::from_ref(&record));
    }
    let result = reporters.into_result();
    screen.hide();
    screen.flush();
    let printed = match args.output {
        OutputFormat::Text if result.status == RunStatus::Interrupted => PrintedResult::Whole,
        OutputFormat::Text => print_to_screen(&result)?,
        OutputFormat::Json => print_result(args.output, &result).map(|()| PrintedResult::Whole)?,
    };
    show_end(&screen, &*progress, &*files::journal_store(&args.journal)?, printed);
    Ok(Exit::Success)
}

/// A clock that shows the time of the run during a replay.
#[derive(Clone)]
struct ReplayClock {
    speed: ReplaySpeed,
    /// The time of the last event, and the instant at which it was shown. Locked only to copy or replace it.
    last_event: Arc<Mutex<Option<(Timestamp, Instant)>>>,
}

impl ReplayClock {
    /// Waits until the event is due.
    async fn wait_for(&self, record: &Record) {
        let last_event = *self.last_event.lock();
        if let Some((last, _)) = last_event {
            let pause = self.speed.pause(record.at.since(last));
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        *self.last_event.lock() = Some((record.at, Instant::now()));
    }

    /// Returns the current time within the run.
    fn time_source(&self) -> TimeSource {
        let clock = self.clone();
        Arc::new(move || match (*clock.last_event.lock(), clock.speed) {
            (Some((at, shown)), ReplaySpeed::Factor(times)) => at.after(shown.elapsed().mul_f64(times.min(1e6))),
            (Some((at, _)), ReplaySpeed::Immediate) => at,
            (None, _) => Timestamp::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_speeds() {
        for (text, speed) in [
            ("1", Some(ReplaySpeed::Factor(1.0))),
            ("0.5", Some(ReplaySpeed::Factor(0.5))),
            ("0", Some(ReplaySpeed::Immediate)),
            ("max", Some(ReplaySpeed::Immediate)),
            ("-1", None),
            ("inf", None),
            ("NaN", None),
            ("fast", None),
        ] {
            assert_eq!(text.parse().ok(), speed, "{text}");
        }
    }

    #[test]
    fn pauses_scale_with_speed_and_are_bounded() {
        let second = Duration::from_secs(1);
        assert_eq!(ReplaySpeed::Factor(4.0).pause(second), second / 4);
        assert_eq!(ReplaySpeed::Factor(0.1).pause(second), MAX_PAUSE);
        assert_eq!(ReplaySpeed::Factor(1e-300).pause(second), MAX_PAUSE);
        assert_eq!(ReplaySpeed::Immediate.pause(second), Duration::ZERO);
    }
}
