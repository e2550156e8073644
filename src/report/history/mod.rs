//! Shows the runs that the journal holds: the list, one of them, its events.
//! Never calls a run running that no process drives.

mod diff;
mod logs;
mod questions;
mod show;
mod spent;
mod table;
mod task;

pub use diff::RunsDiff;
pub use logs::{Follow, LogFormat, Logs, Stood};
pub use questions::{Asked, Questions};
pub use show::{RunDetails, action};

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use table::{Row, Table};

use super::text;
use crate::{
    journal::{Holder, RunSummary},
    model::{RunStatus, Timestamp},
};

/// When and where a person looks at a run.
#[derive(Debug, Clone)]
pub struct Viewpoint {
    /// The moment.
    pub now: Timestamp,
    /// The time zone that moments are shown in.
    pub zone: TimeZone,
}

/// `kapell runs list` as a table, latest first as given.
pub fn runs_text(runs: &[RunSummary], viewpoint: &Viewpoint) -> String {
    if runs.is_empty() {
        return "no runs yet\n".to_owned();
    }
    let mut table = Table::default();
    table.push(Row::of(["run", "plan", "status", "started", "duration"]));
    for run in runs {
        let duration = match run.ended {
            Some(ended) => duration(run.started, ended),
            None => last_event(run.last_event, viewpoint),
        };
        let status = standing(run.status, run.driver);
        let started = moment(run.started, &viewpoint.zone);
        table.push(Row::of([run.run.as_str(), &run.name, status.name(), &started, &duration]));
    }
    let mut text = table.to_string();
    if runs.iter().any(|run| standing(run.status, run.driver) == RunStatus::Interrupted) {
        text.push_str("`interrupted`: its process is gone; `kapell resume RUN` goes on with it\n");
    }
    text
}

/// `kapell runs list` as JSON, moments in milliseconds since the Unix epoch.
pub fn runs_json(runs: &[RunSummary]) -> Value {
    let object = |run: &RunSummary| {
        json!({
            "run": run.run,
            "name": run.name,
            "status": standing(run.status, run.driver),
            "process": run.driver.and_then(|driver| driver.process),
            "started": run.started,
            "ended": run.ended,
            "last_event": run.last_event,
        })
    };
    runs.iter().map(object).collect()
}

/// Returns how a run stands: its status, but only a run that is driven is running.
fn standing(status: RunStatus, driver: Option<Holder>) -> RunStatus {
    match status {
        RunStatus::Running if driver.is_none() => RunStatus::Interrupted,
        status => status,
    }
}

/// A moment as people read it, to the second.
pub fn moment(at: Timestamp, zone: &TimeZone) -> String {
    formatted(at, zone, "%Y-%m-%d %H:%M:%S")
}

fn formatted(at: Timestamp, zone: &TimeZone, format: &str) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    match moment {
        Some(moment) => moment.to_zoned(zone.clone()).strftime(format).to_string(),
        // Further off than calendars go: a broken clock, shown as it is.
        None => format!("{} ms", at.0),
    }
}

/// How long ago a run's last event was, as people read it. It is later than now where the clock was set back since.
fn last_event(at: Timestamp, viewpoint: &Viewpoint) -> String {
    match at <= viewpoint.now {
        true => format!("last event {} ago", duration(at, viewpoint.now)),
        false => format!("last event at {}, later than now", moment(at, &viewpoint.zone)),
    }
}

/// The time between two moments as people read it.
fn duration(from: Timestamp, to: Timestamp) -> String {
    text::elapsed(to.since(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(run: &str, ended: Option<u64>) -> RunSummary {
        RunSummary {
            run: run.into(),
            name: "li\u{1b}sbon".into(),
            started: Timestamp(1_700_000_000_000),
            ended: ended.map(Timestamp),
            status: if ended.is_some() { RunStatus::Succeeded } else { RunStatus::Running },
            last_event: Timestamp(ended.unwrap_or(1_700_000_060_000)),
            driver: None,
        }
    }

    fn driven(run: &str) -> RunSummary {
        RunSummary { driver: Some(Holder { process: Some(1234) }), ..summary(run, None) }
    }

    #[test]
    fn the_list_says_which_runs_are_driven_and_which_were_interrupted() {
        let viewpoint = Viewpoint { now: Timestamp(1_700_010_860_000), zone: TimeZone::UTC };
        let runs = [driven("0199-c"), summary("0199-b", None), summary("0199-a", Some(1_700_000_012_345))];
        assert_eq!(
            runs_text(&runs, &viewpoint),
            "run     plan          status       started              duration\n\
             0199-c  li\\u{1b}sbon  running      2023-11-14 22:13:20  last event 3h00m ago\n\
             0199-b  li\\u{1b}sbon  interrupted  2023-11-14 22:13:20  last event 3h00m ago\n\
             0199-a  li\\u{1b}sbon  succeeded    2023-11-14 22:13:20  12.3s\n\
             `interrupted`: its process is gone; `kapell resume RUN` goes on with it\n"
        );
        assert_eq!(runs_text(&[], &viewpoint), "no runs yet\n");
    }

    #[test]
    fn the_list_is_json_for_programs() {
        let object = |run: &str, status: &str, process: Option<u32>| {
            json!({
                "run": run, "name": "li\u{1b}sbon", "status": status, "process": process,
                "started": 1_700_000_000_000_u64, "ended": null, "last_event": 1_700_000_060_000_u64,
            })
        };
        assert_eq!(
            runs_json(&[driven("0199-c"), summary("0199-b", None)]),
            json!([object("0199-c", "running", Some(1234)), object("0199-b", "interrupted", None)])
        );
    }

    #[test]
    fn a_moment_beyond_the_calendar_is_shown_as_it_is() {
        assert_eq!(moment(Timestamp(u64::MAX), &TimeZone::UTC), "18446744073709551615 ms");
    }
}
