//! The list of runs (`kapell runs list`).

use console::{measure_text_width, truncate_str};
use serde_json::{Value, json};

use super::run_details::read_view;
use crate::journal::{JournalReader, RunSummary};
use crate::model::{MicroDollars, RunId, RunStatus};
use crate::ui::styles::run_status_style;
use crate::ui::text_table::{TableRow, TextTable};
use crate::view::text::printable;
use crate::view::time::{DisplayContext, format_duration, format_time_with, last_event};
use crate::view::{RunResult, TaskResult, TaskStatus};

/// The smallest width to which the name of a plan is shortened.
const MIN_PLAN_COLUMNS: usize = 8;

/// A run of the list.
#[derive(Debug, Clone)]
pub struct ListedRun {
    summary: RunSummary,
    /// What its events say; absent if they are not needed or cannot be read.
    progress: Option<ListedProgress>,
}

/// How far a run is.
#[derive(Debug, Clone)]
struct ListedProgress {
    /// The number of tasks and items that have ended, without those that were cancelled.
    done: usize,
    /// The number of tasks and items.
    all: usize,
    cost: MicroDollars,
    /// The run that it repeats a part of.
    earlier_run: Option<RunId>,
}

impl ListedRun {
    /// Returns the run with its progress, which is absent if its events cannot be read.
    pub fn read(reader: &dyn JournalReader, summary: RunSummary) -> Self {
        let progress = read_view(reader, &summary.run).ok().map(|view| {
            let (done, all) = progress(view.result());
            let (cost, earlier_run) = (view.result().spent.cost_usd, view.earlier_run().cloned());
            ListedProgress { done, all, cost, earlier_run }
        });
        Self { summary, progress }
    }
}

impl From<RunSummary> for ListedRun {
    fn from(summary: RunSummary) -> Self {
        Self { summary, progress: None }
    }
}

/// Returns the number of tasks and items that have ended without being cancelled, and of all.
fn progress(result: &RunResult) -> (usize, usize) {
    let parts = result.tasks.values().flat_map(|task| match task.items.as_deref() {
        None | Some([]) => std::slice::from_ref(task),
        Some(items) => items,
    });
    let is_done =
        |task: &TaskResult| matches!(task.status, TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Skipped);
    parts.fold((0, 0), |(done, all), task| (done + usize::from(is_done(task)), all + 1))
}

/// Formats `kapell runs list` as a table, in the given order (latest first). Long names of plans are shortened so that a
/// line has at most `width` columns.
pub fn runs_text(runs: &[ListedRun], context: &DisplayContext, width: usize) -> String {
    const PLAN: usize = 1;
    let mut rows =
        vec![["run", "plan", "status", "done", "started", "duration", "cost", "retry of"].map(str::to_owned)];
    rows.extend(runs.iter().map(|run| cells(run, context)));
    // Columns that no run uses are left out.
    let is_used = |column: &usize| rows[1..].iter().any(|cells| !cells[*column].is_empty());
    let columns: Vec<usize> = (0..rows[0].len()).filter(is_used).collect();
    let column_width = |column: &usize| {
        rows.iter().map(|cells| measure_text_width(&printable(&cells[*column]))).max().unwrap_or(0) + 2
    };
    let others: usize = columns.iter().filter(|column| **column != PLAN).map(column_width).sum();
    let plan_width = width.saturating_sub(others).max(MIN_PLAN_COLUMNS);
    let mut table = TextTable::default();
    let statuses: Vec<_> = runs.iter().map(|run| run.summary.current_status()).collect();
    let status_column = columns.iter().position(|column| *column == 2).unwrap_or_default();
    for (number, mut cells) in rows.into_iter().enumerate() {
        cells[PLAN] = truncate_str(&printable(&cells[PLAN]), plan_width, "…").into_owned();
        let cells = columns.iter().map(|column| cells[*column].as_str());
        table.push(match number.checked_sub(1) {
            None => TableRow::header(cells),
            Some(index) => TableRow::new(cells).with_style(status_column, run_status_style(statuses[index])),
        });
    }
    let mut text = table.to_string();
    if runs.iter().any(|run| run.summary.current_status() == RunStatus::Interrupted) {
        text.push_str("`interrupted`: its process has exited; `kapell resume RUN` resumes it\n");
    }
    text
}

fn cells(run: &ListedRun, context: &DisplayContext) -> [String; 8] {
    let ListedRun { summary, progress } = run;
    let progress = progress.as_ref();
    let year = |at| format_time_with(at, &context.zone, "%Y");
    let started = match year(summary.started) == year(context.now) {
        true => format_time_with(summary.started, &context.zone, "%b %d %H:%M"),
        false => format_time_with(summary.started, &context.zone, "%Y-%m-%d"),
    };
    let cost = match progress.map_or(0.0, |progress| progress.cost.usd()) {
        cost if cost <= 0.0 => String::new(),
        cost if cost < 0.01 => format!("${cost:.4}"),
        cost => format!("${cost:.2}"),
    };
    [
        summary.run.short().to_owned(),
        summary.name.clone(),
        summary.current_status().to_string(),
        progress.map(|ListedProgress { done, all, .. }| format!("{done}/{all}")).unwrap_or_default(),
        started,
        match summary.ended {
            Some(ended) => format_duration(summary.started, ended),
            None => last_event(summary.last_event, context),
        },
        cost,
        progress
            .and_then(|progress| progress.earlier_run.as_ref())
            .map(|run| run.short().to_owned())
            .unwrap_or_default(),
    ]
}

/// Formats `kapell runs list` as JSON, with times in milliseconds since the Unix epoch.
pub fn runs_json(runs: &[ListedRun]) -> Value {
    let object = |ListedRun { summary, progress }: &ListedRun| {
        let mut object = json!({
            "run": summary.run,
            "plan": summary.name,
            "status": summary.current_status(),
            "process": summary.driver.and_then(|driver| driver.pid),
            "started": summary.started,
            "ended": summary.ended,
            "last_event": summary.last_event,
        });
        if let Some(ListedProgress { done, all, cost, earlier_run }) = progress {
            object["done"] = (*done).into();
            object["tasks"] = (*all).into();
            object["rerun_of"] = json!(earlier_run);
            if !cost.is_zero() {
                object["cost_usd"] = json!(cost);
            }
        }
        object
    };
    runs.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::journal::{Holder, samples};
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
        insta::assert_snapshot!(strip_str(&runs_text(&runs.map(ListedRun::from), &context, usize::MAX)).to_string(), @r"
        run     plan          status       started       duration
        0199-c  li\u{1b}sbon  running      Nov 14 22:13  last event 3h00m ago
        0199-b  li\u{1b}sbon  interrupted  Nov 14 22:13  last event 3h00m ago
        0199-a  li\u{1b}sbon  succeeded    Nov 14 22:13  12.3s
        `interrupted`: its process has exited; `kapell resume RUN` resumes it
        ");
    }

    #[test]
    fn list_with_progress_fits_the_width() {
        let context = DisplayContext { now: Timestamp(1_800_000_000_000), zone: TimeZone::UTC };
        let long = RunSummary {
            name: "a-plan-with-a-long-name".into(),
            ..summary("01990000-0199-a", Some(1_700_000_012_345))
        };
        let progress = ListedProgress {
            done: 12,
            all: 64,
            cost: MicroDollars::from_usd(0.02),
            earlier_run: Some("01990000-0000-7000-8000-00000000abcd".into()),
        };
        let runs = [ListedRun { summary: long, progress: Some(progress) }];
        let text = strip_str(&runs_text(&runs, &context, usize::MAX)).to_string();
        insta::assert_snapshot!(text, @r"
        run       plan                     status     done   started     duration  cost   retry of
        0-0199-a  a-plan-with-a-long-name  succeeded  12/64  2023-11-14  12.3s     $0.02  0000abcd
        ");
        let text = strip_str(&runs_text(&runs, &context, 80)).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80) && text.contains("a-plan-with-…"), "{text}");
        assert_eq!(runs_json(&runs)[0]["cost_usd"], json!(0.02));
    }

    #[test]
    fn progress_counts_items() {
        let events = samples::sample_run();
        let result = crate::view::run_result(&samples::sample_run_id(), &events);
        assert_eq!(progress(&result), (4, 5), "one is cancelled");
        assert_eq!(progress(&crate::view::run_result(&samples::sample_run_id(), &events[..8])), (0, 4));
    }

    #[test]
    fn list_serializes_as_json() {
        let object = |run: &str, status: &str, process: Option<u32>| {
            json!({
                "run": run, "plan": "li\u{1b}sbon", "status": status, "process": process,
                "started": 1_700_000_000_000_u64, "ended": null, "last_event": 1_700_000_060_000_u64,
            })
        };
        assert_eq!(
            runs_json(&[running_summary("0199-c"), summary("0199-b", None)].map(ListedRun::from)),
            json!([object("0199-c", "running", Some(1234)), object("0199-b", "interrupted", None)])
        );
    }
}
