//! Shows a run on a terminal: finished work scrolls by, and work in progress stays below as a live view.
//! It draws at most ten times a second, and never on a thread of the runtime.

use std::sync::Arc;

use owo_colors::OwoColorize;
use parking_lot::Mutex;

use super::live_rows::{is_grouped, live_lines};
use super::progress::{EventLines, ProgressOptions, ProgressReporter};
use super::reporter::Reporter;
use super::run_end::RunEnd;
use crate::model::{Event, Outcome, Record, RunId, TaskId, Timestamp};
use crate::ui::styles::line_style;
use crate::ui::terminal::screen::Screen;
use crate::view::RunView;
use crate::view::phrasebook::sum_unstarted;
use crate::view::report_line::{LineKind, ReportLine, Verbosity};

/// A clock for the elapsed seconds in the view.
pub type TimeSource = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The live view of a run.
#[derive(Debug)]
pub struct LiveReporter {
    screen: Screen,
    events: EventLines,
    /// Shared with the screen thread, which draws it. It records the times of tasks, for the table at the end.
    view: Arc<Mutex<RunView>>,
    /// The lines of the current batch.
    lines: Vec<(Timestamp, ReportLine)>,
    end: Option<RunEnd>,
}

impl LiveReporter {
    /// Shows `run` on `screen` until it ends or the reporter is dropped.
    pub fn new(screen: Screen, run: RunId, now: TimeSource, options: ProgressOptions) -> Self {
        let view = Arc::new(Mutex::new(RunView::with_history(&run)));
        let drawn = Arc::clone(&view);
        if options.verbosity > Verbosity::Quiet {
            screen.show(Arc::new(move |size| live_lines(&drawn.lock(), now(), size)));
        }
        Self { screen, events: EventLines::new(options), view, lines: Vec::new(), end: None }
    }
}

impl Drop for LiveReporter {
    fn drop(&mut self) {
        self.screen.hide();
    }
}

impl Reporter for LiveReporter {
    fn catch_up(&mut self, records: &[Record]) {
        self.events.catch_up(records);
        let mut view = self.view.lock();
        for record in records {
            view.apply(record);
        }
    }

    fn report(&mut self, before: &RunView, record: &Record) {
        self.lines.extend(scroll_lines(before, record, &mut self.events));
        let mut view = self.view.lock();
        view.apply(record);
        if matches!(record.event, Event::RunEnded { .. }) {
            self.screen.hide();
            let end = RunEnd::new(before, record);
            self.end = match self.events.verbosity() {
                Verbosity::Quiet => end,
                _ => end.map(|end| end.with_table(&view)),
            };
        }
    }

    fn flush(&mut self) {
        let lines = sum_unstarted(std::mem::take(&mut self.lines));
        let lines: Vec<_> = lines.iter().flat_map(|(_, line)| styled_lines(line)).collect();
        if !lines.is_empty() {
            self.screen.println(lines.join("\n"));
        }
    }
}

impl ProgressReporter for LiveReporter {
    fn end(&self) -> Option<&RunEnd> {
        self.end.as_ref()
    }
}

/// Returns the lines that scroll by, with the titles of tasks. What the live view shows has no line: questions, calls in
/// progress, and the items of a group that succeed.
fn scroll_lines(before: &RunView, record: &Record, events: &mut EventLines) -> Vec<(Timestamp, ReportLine)> {
    let mut lines = events.describe(before, record);
    if events.verbosity() < Verbosity::Detailed && is_shown_by_group(before, record) {
        return Vec::new();
    }
    let is_about_agent = match &record.event {
        Event::AgentConnecting { .. } | Event::AgentConnected { .. } | Event::AgentUnavailable { .. } => true,
        Event::AgentLogged { origin, .. } => origin.attempt.is_none(),
        _ => false,
    };
    lines.retain(|line| !matches!(line.kind, LineKind::Started | LineKind::Progress | LineKind::Asked));
    if !is_about_agent {
        lines.iter_mut().for_each(|line| line.subject = before.task_name(&line.subject));
    }
    lines.into_iter().map(|line| (record.at, line)).collect()
}

/// Returns whether the row of a group shows the event: the number of its items, or the success of one.
fn is_shown_by_group(before: &RunView, record: &Record) -> bool {
    let is_item_of_group = |id: &TaskId| before.progress().group_of(id).is_some_and(|(_, group)| is_grouped(group));
    match &record.event {
        Event::TasksAdded { .. } => true,
        Event::AttemptSucceeded { attempt, .. } => is_item_of_group(&attempt.task),
        Event::TaskEnded { task, outcome: Outcome::Succeeded(_) } => is_item_of_group(task),
        _ => false,
    }
}

fn styled_lines(line: &ReportLine) -> Vec<String> {
    let symbol = match line.kind {
        LineKind::Warning => "!",
        LineKind::Retrying => "↻",
        LineKind::Asked | LineKind::Answered | LineKind::Deferred => "?",
        LineKind::Succeeded => "✓",
        LineKind::Failed | LineKind::FailedContinuing => "✗",
        LineKind::Skipped => "↷",
        LineKind::Cancelled => "■",
        LineKind::Started
        | LineKind::Progress
        | LineKind::Info
        | LineKind::Detail
        | LineKind::Log
        | LineKind::Run
        | LineKind::Ended(_) => "·",
    };
    let is_faint =
        matches!(line.kind, LineKind::Info | LineKind::Detail | LineKind::Log | LineKind::Run | LineKind::Skipped);
    let text = match line.kind {
        LineKind::FailedContinuing => format!("failed, continuing: {}", line.text),
        _ if is_faint => line.text.dimmed().to_string(),
        _ => line.text.clone(),
    };
    let mut lines = vec![format!("{} {} {text}", symbol.style(line_style(line.kind)), line.subject.bold())];
    lines.extend(line.help.as_ref().map(|help| format!("  {} {help}", "help:".cyan())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::reporters::run_end::EndContext;
    use crate::ui::terminal::screen::ScreenSize;
    use crate::view::samples;

    const SIZE: ScreenSize = ScreenSize { rows: 24, columns: 100 };

    fn without_styles(lines: &[String]) -> String {
        let bare = |line: &String| anstream::adapter::strip_str(line).to_string().trim_end().to_owned();
        lines.iter().map(bare).collect::<Vec<_>>().join("\n")
    }

    /// Renders the scrolling lines, with the live view after each event that changes more than the time, and the end.
    fn rendered(records: &[Record]) -> String {
        let mut view = RunView::with_history(&"01990000-0000-7000-8000-00000000abcd".into());
        let mut events = EventLines::new(ProgressOptions::default());
        let mut out = Vec::new();
        let mut last = Vec::new();
        for record in records {
            let lines = scroll_lines(&view, record, &mut events);
            out.extend(lines.iter().flat_map(|(_, line)| styled_lines(line)));
            let end = RunEnd::new(&view, record);
            view.apply(record);
            let region = live_lines(&view, record.at, SIZE);
            if region != last && end.is_none() {
                out.extend(region.iter().map(|line| format!("    | {line}")));
            }
            last = region;
            out.extend(end.iter().flat_map(|end| {
                let context = EndContext { run: "last".to_owned(), is_result_cut: false };
                end.clone().with_table(&view).styled_lines(&context, SIZE)
            }));
        }
        without_styles(&out)
    }

    #[test]
    fn renders_a_whole_run() {
        insta::assert_snapshot!(rendered(&samples::whole_run()));
    }

    #[test]
    fn renders_replan_changes() {
        insta::assert_snapshot!(rendered(&samples::replanned_run()));
    }

    #[test]
    fn successful_items_of_a_group_do_not_scroll_by() {
        let records = samples::items_in_progress(100, 37);
        let mut view = RunView::new(&"0190".into());
        let mut events = EventLines::new(ProgressOptions::default());
        let mut lines = Vec::new();
        for record in &records {
            lines.extend(scroll_lines(&view, record, &mut events));
            view.apply(record);
        }
        let texts: Vec<_> = lines.iter().map(|(_, line)| line.subject.as_str()).collect();
        assert_eq!(texts, ["simulated", "task-0[0]", "task-0[1]"], "the run, and two failures");
    }
}
