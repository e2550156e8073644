//! The list of runs (`kapell runs list`).

use serde_json::{Value, json};

use crate::journal::{Holder, RunSummary};
use crate::model::RunStatus;
use crate::ui::styles::run_status_style;
use crate::ui::text_table::{TableRow, TextTable};
use crate::view::time::{DisplayContext, format_duration, format_time, last_event};

/// Formats `kapell runs list` as a table with styles, in the given order (latest first).
pub fn runs_text(runs: &[RunSummary], context: &DisplayContext) -> String {
    if runs.is_empty() {
        return "no runs yet\n".to_owned();
    }
    let mut table = TextTable::default();
    table.push(TableRow::header(["run", "plan", "status", "started", "duration"]));
    for run in runs {
        let duration = match run.ended {
            Some(ended) => format_duration(run.started, ended),
            None => last_event(run.last_event, context),
        };
        let status = run_status(run.status, run.driver);
        let started = format_time(run.started, &context.zone);
        let row = TableRow::new([run.run.short(), &run.name, status.as_str(), &started, &duration]);
        table.push(row.with_style(2, run_status_style(status)));
    }
    let mut text = table.to_string();
    if runs.iter().any(|run| run_status(run.status, run.driver) == RunStatus::Interrupted) {
        text.push_str("`interrupted`: its process has exited; `kapell resume RUN` resumes it\n");
    }
    text
}

/// Formats `kapell runs list` as JSON, with times in milliseconds since the Unix epoch.
pub fn runs_json(runs: &[RunSummary]) -> Value {
    let object = |run: &RunSummary| {
        json!({
            "run": run.run,
            "name": run.name,
            "status": run_status(run.status, run.driver),
            "process": run.driver.and_then(|driver| driver.pid),
            "started": run.started,
            "ended": run.ended,
            "last_event": run.last_event,
        })
    };
    runs.iter().map(object).collect()
}

/// Returns the status of a run. A running run that no process drives is interrupted.
pub(super) fn run_status(status: RunStatus, driver: Option<Holder>) -> RunStatus {
    match status {
        RunStatus::Running if driver.is_none() => RunStatus::Interrupted,
        status => status,
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::model::Timestamp;

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

    fn running_summary(run: &str) -> RunSummary {
        RunSummary { driver: Some(Holder { pid: Some(1234) }), ..summary(run, None) }
    }

    #[test]
    fn list_shows_running_and_interrupted_runs() {
        let context = DisplayContext { now: Timestamp(1_700_010_860_000), zone: TimeZone::UTC };
        let runs = [running_summary("0199-c"), summary("0199-b", None), summary("0199-a", Some(1_700_000_012_345))];
        assert_eq!(
            strip_str(&runs_text(&runs, &context)).to_string(),
            "run     plan          status       started              duration\n\
             0199-c  li\\u{1b}sbon  running      2023-11-14 22:13:20  last event 3h00m ago\n\
             0199-b  li\\u{1b}sbon  interrupted  2023-11-14 22:13:20  last event 3h00m ago\n\
             0199-a  li\\u{1b}sbon  succeeded    2023-11-14 22:13:20  12.3s\n\
             `interrupted`: its process has exited; `kapell resume RUN` resumes it\n"
        );
        assert_eq!(runs_text(&[], &context), "no runs yet\n");
    }

    #[test]
    fn list_serializes_as_json() {
        let object = |run: &str, status: &str, process: Option<u32>| {
            json!({
                "run": run, "name": "li\u{1b}sbon", "status": status, "process": process,
                "started": 1_700_000_000_000_u64, "ended": null, "last_event": 1_700_000_060_000_u64,
            })
        };
        assert_eq!(
            runs_json(&[running_summary("0199-c"), summary("0199-b", None)]),
            json!([object("0199-c", "running", Some(1234)), object("0199-b", "interrupted", None)])
        );
    }
}
