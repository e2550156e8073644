//! `kapell replay`: shows a run again as it was shown when it ran, from its journal alone.
//! Never calls anybody.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::Args;
use tokio::time::{Instant, sleep};

use super::{CliError, Exit, Format, JournalArg, desk, execute::shown, files, talk};
use crate::{
    journal::Reader,
    model::{Record, Timestamp},
    report::terminal::Now,
    synthesizer::Merge,
};

/// The longest that a replay stands still: nobody wants to watch the night in which a question waited.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The run: its id, the beginning or end of it, or `last`
    run: String,
    /// How many times as fast as it was; `max` or 0 is at once. No pause is longer than five seconds
    #[arg(long, value_name = "N", default_value = "1")]
    speed: Speed,
    #[command(flatten)]
    journal: JournalArg,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// How fast a run is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    Times(f64),
    AtOnce,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            _ if text == "max" => Ok(Self::AtOnce),
            Ok(0.0) => Ok(Self::AtOnce),
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Self::Times(times)),
            _ => Err("expected how many times as fast, such as `10` or `0.5`, or `max`".to_owned()),
        }
    }
}

impl Speed {
    /// How long to stand still between two events.
    fn pause(self, between: Duration) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::Times(times) => {
                Duration::try_from_secs_f64(between.as_secs_f64() / times).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)
            }
        }
    }
}

pub(super) async fn replay(args: ReplayArgs) -> Result<Exit, CliError> {
    let reader = Reader::open(&files::journal(&args.journal)?)?;
    let run = reader.find_run(&args.run)?;
    let screen = desk::screen()?;
    let watch = Watch::new(args.speed);
    let mut shown = shown(&screen, &run, watch.now());
    let mut merge = Merge::new(&run);
    for record in reader.records(&run, 0) {
        let record = record?;
        watch.wait_for(&record).await;
        merge.apply(&record);
        shown.report(std::slice::from_ref(&record));
    }
    drop(shown);
    screen.flush();
    talk::print_result(args.output, &merge.into_result())?;
    Ok(Exit::Done)
}

/// A clock that shows the time of the run while it is replayed.
#[derive(Clone)]
struct Watch {
    speed: Speed,
    /// The last event's moment, and when it was shown. Held only to copy or replace.
    at: Arc<Mutex<Option<(Timestamp, Instant)>>>,
}

impl Watch {
    fn new(speed: Speed) -> Self {
        Self { speed, at: Arc::default() }
    }

    fn last(&self) -> Option<(Timestamp, Instant)> {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is time for the event.
    async fn wait_for(&self, record: &Record) {
        if let Some((last, _)) = self.last() {
            let pause = self.speed.pause(record.at.since(last));
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some((record.at, Instant::now()));
    }

    /// The present of the run.
    fn now(&self) -> Now {
        let watch = self.clone();
        Arc::new(move || match (watch.last(), watch.speed) {
            (Some((at, shown)), Speed::Times(times)) => at.after(shown.elapsed().mul_f64(times.min(1e6))),
            (Some((at, _)), Speed::AtOnce) => at,
            (None, _) => Timestamp::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read_as_people_write_them() {
        for (text, speed) in [
            ("1", Some(Speed::Times(1.0))),
            ("0.5", Some(Speed::Times(0.5))),
            ("0", Some(Speed::AtOnce)),
            ("max", Some(Speed::AtOnce)),
            ("-1", None),
            ("inf", None),
            ("NaN", None),
            ("fast", None),
        ] {
            assert_eq!(text.parse().ok(), speed, "{text}");
        }
    }

    #[test]
    fn pauses_follow_the_speed_and_are_never_long() {
        let second = Duration::from_secs(1);
        assert_eq!(Speed::Times(4.0).pause(second), second / 4);
        assert_eq!(Speed::Times(0.1).pause(second), LONGEST_PAUSE);
        assert_eq!(Speed::Times(1e-300).pause(second), LONGEST_PAUSE);
        assert_eq!(Speed::AtOnce.pause(second), Duration::ZERO);
    }
}
