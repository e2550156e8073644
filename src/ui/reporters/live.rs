//! Shows a run on a terminal: finished work scrolls by, and work in progress stays below as a live view.
//! It draws at most ten times a second, and never on a thread of the runtime.

use std::sync::Arc;

use owo_colors::{OwoColorize, Style};
use parking_lot::Mutex;

use super::reporter::Reporter;
use crate::model::{Event, Record, RunId, RunStatus, TaskId, Timestamp};
use crate::ui::terminal::screen::{Screen, ScreenSize};
use crate::view::RunView;
use crate::view::phrasebook::{Verbosity, describe, progress_text};
use crate::view::report_line::{LineKind, ReportLine};
use crate::view::run_view::{RunningCall, WaitingOn};
use crate::view::text::{count_text, format_elapsed};

/// The frames of the spinner, which advances on every draw.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The width of a progress bar, in columns.
const PROGRESS_BAR_WIDTH: usize = 12;

/// The maximum width of the task and route columns. Longer text is truncated, so that later columns stay aligned.
const MAX_COLUMN_WIDTH: usize = 28;

/// A clock for the elapsed seconds in the view.
pub type TimeSource = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The live view of a run.
#[derive(Debug)]
pub struct LiveReporter {
    screen: Screen,
    /// Shared with the screen thread, which draws it.
    view: Arc<Mutex<RunView>>,
    /// The lines of the current batch.
    lines: Vec<String>,
}

impl LiveReporter {
    /// Shows `run` on `screen` until it ends or the reporter is dropped.
    pub fn new(screen: Screen, run: RunId, now: TimeSource) -> Self {
        let view = Arc::new(Mutex::new(RunView::new(&run)));
        let drawn = Arc::clone(&view);
        screen.show(Arc::new(move |size| live_lines(&drawn.lock(), now(), size)));
        Self { screen, view, lines: Vec::new() }
    }
}

impl Drop for LiveReporter {
    fn drop(&mut self) {
        self.screen.hide();
    }
}

impl Reporter for LiveReporter {
    fn catch_up(&mut self, records: &[Record]) {
        let mut view = self.view.lock();
        for record in records {
            view.apply(record);
        }
    }

    fn report(&mut self, before: &RunView, record: &Record) {
        self.lines.extend(describe(before, record, Verbosity::Progress).iter().flat_map(scroll_lines));
        self.view.lock().apply(record);
        if matches!(record.event, Event::RunEnded { .. }) {
            self.screen.hide();
        }
    }

    fn flush(&mut self) {
        if !self.lines.is_empty() {
            self.screen.println(self.lines.join("\n"));
            self.lines.clear();
        }
    }
}

/// Returns the lines that scroll by; empty for lines whose content the live view shows.
fn scroll_lines(line: &ReportLine) -> Vec<String> {
    let (symbol, style) = match line.kind {
        LineKind::Started | LineKind::Progress | LineKind::Asked => return Vec::new(),
        LineKind::Info | LineKind::Log | LineKind::Run => ("·", Style::new().dimmed()),
        LineKind::Retrying => ("↻", Style::new().yellow()),
        LineKind::Answered | LineKind::Deferred => ("?", Style::new().cyan()),
        LineKind::Succeeded => ("✓", Style::new().green()),
        LineKind::Failed => ("✗", Style::new().red()),
        LineKind::Skipped => ("↷", Style::new().dimmed()),
        LineKind::Cancelled => ("■", Style::new().yellow()),
        LineKind::Ended(status) => return summary_lines(line, status),
    };
    let quiet = matches!(line.kind, LineKind::Info | LineKind::Log | LineKind::Run | LineKind::Skipped);
    let text = if quiet { line.text.dimmed().to_string() } else { line.text.clone() };
    let mut lines = vec![format!("{} {} {text}", symbol.style(style), line.subject.bold())];
    lines.extend(help_line(line));
    lines
}

fn summary_lines(line: &ReportLine, status: RunStatus) -> Vec<String> {
    let style = match status {
        RunStatus::Succeeded => Style::new().green().bold(),
        RunStatus::Failed => Style::new().red().bold(),
        RunStatus::Running | RunStatus::Partial | RunStatus::Paused | RunStatus::Interrupted | RunStatus::Cancelled => {
            Style::new().yellow().bold()
        }
    };
    let mut lines = vec![format!("{} {}: {}", status.style(style), line.subject, line.text)];
    lines.extend(help_line(line));
    lines
}

fn help_line(line: &ReportLine) -> Option<String> {
    line.help.as_ref().map(|help| format!("  {} {help}", "help:".cyan()))
}

/// Returns the live view: a line for each running call as far as they fit, then other waiting work, then the totals.
fn live_lines(view: &RunView, now: Timestamp, size: ScreenSize) -> Vec<String> {
    let mut rest = Vec::new();
    if !view.connecting().is_empty() {
        let names: Vec<_> = view.connecting().iter().map(ToString::to_string).collect();
        rest.push(format!("{} connecting to {}", spinner_frame(now).cyan(), names.join(", ")));
    }
    if let Some(number) = view.replanning() {
        rest.push(format!("{} replan {number}: asks the planner", spinner_frame(now).cyan()));
    }
    let retrying = view.retrying().iter().map(|(task, retry)| {
        let wait = format_elapsed(retry.at.since(now));
        let what = retry.agent.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
        format!("{} {task} waits {wait} to retry{what}", "↻".yellow())
    });
    let open = view.open_questions().count();
    let asked = (open > 0).then(|| format!("{} {} for an answer", "?".cyan(), waiting_text(open)));
    rest.extend(retrying.take(3).chain(asked));
    if view.task_count() > 0 {
        let (done, all) = (view.counts().ended(), count_text(view.task_count(), "task"));
        rest.push(
            format!("{done} of {all} done, {}", format_elapsed(now.since(view.started_at().unwrap_or_default())))
                .dimmed()
                .to_string(),
        );
    }

    let room = size.rows.saturating_sub(rest.len() + 2).max(1);
    let running: Vec<_> = view.running();
    let shown = if running.len() <= room { room } else { room - 1 };
    let columns = ColumnWidths::fit_to(running.iter().take(shown));
    let mut lines: Vec<_> =
        running.iter().take(shown).map(|(task, running)| running_line(task, running, now, &columns)).collect();
    if running.len() > shown {
        lines.push(format!("… and {} more", running.len() - shown).dimmed().to_string());
    }
    lines.extend(rest);
    lines
}

fn waiting_text(open: usize) -> String {
    if open == 1 { "1 question waits".to_owned() } else { format!("{open} questions wait") }
}

/// The column widths of the calls that are shown.
struct ColumnWidths {
    task: usize,
    route_name: usize,
}

impl ColumnWidths {
    fn fit_to<'a>(running: impl Iterator<Item = &'a (&'a TaskId, &'a RunningCall)>) -> Self {
        let width = |text: &str| console::measure_text_width(text).min(MAX_COLUMN_WIDTH);
        running.fold(Self { task: 0, route_name: 0 }, |widths, (task, running)| Self {
            task: widths.task.max(width(task.as_str())),
            route_name: widths.route_name.max(width(&running.route_name())),
        })
    }
}

fn running_line(task: &TaskId, running: &RunningCall, now: Timestamp, columns: &ColumnWidths) -> String {
    let pad = |text: &str, width| console::pad_str(text, width, console::Alignment::Left, Some("…")).into_owned();
    let (task, place) = (pad(task.as_str(), columns.task), pad(&running.route_name(), columns.route_name));
    let mut line = format!("{} {} {}", spinner_frame(now).cyan(), task.bold(), place.dimmed());
    let time = format_elapsed(now.since(running.started_at));
    line.push_str(&format!(" {time:>6}"));
    if running.attempt > 1 {
        line.push_str(&format!(" {}", format!("attempt {}", running.attempt).yellow()));
    }
    match (running.waiting_for, &running.progress) {
        (WaitingOn::Person, _) => line.push_str(&format!(" {}", "waits for an answer".cyan())),
        (WaitingOn::Model, _) => line.push_str(&format!(" {}", "asks the language model".cyan())),
        (WaitingOn::Agent, None) => {}
        (WaitingOn::Agent, Some(progress)) => {
            if let Some(bar) = progress.total.and_then(|total| progress_bar(progress.progress / total)) {
                line.push_str(&format!(" {}", bar.green()));
            }
            line.push_str(&format!(" {}", progress_text(progress)));
        }
    }
    line
}

/// Draws a bar for a fraction, or returns `None` if it is not finite.
fn progress_bar(part: f64) -> Option<String> {
    if !part.is_finite() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a few columns")]
    let full = (part.clamp(0.0, 1.0) * PROGRESS_BAR_WIDTH as f64).round() as usize;
    Some(format!("{}{}", "━".repeat(full), "─".repeat(PROGRESS_BAR_WIDTH - full)))
}

fn spinner_frame(now: Timestamp) -> &'static str {
    SPINNER[usize::try_from(now.0 / 100).unwrap_or(0) % SPINNER.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    const SIZE: ScreenSize = ScreenSize { rows: 24, columns: 100 };

    fn without_styles(lines: &[String]) -> String {
        let bare = |line: &String| anstream::adapter::strip_str(line).to_string().trim_end().to_owned();
        lines.iter().map(bare).collect::<Vec<_>>().join("\n")
    }

    /// Renders the scrolling lines, with the live view after each event that changes more than the time.
    fn rendered(records: &[Record]) -> String {
        let mut view = RunView::new(&"0190".into());
        let mut out = Vec::new();
        let mut last = Vec::new();
        for record in records {
            out.extend(describe(&view, record, Verbosity::Progress).iter().flat_map(scroll_lines));
            view.apply(record);
            let region = live_lines(&view, record.at, SIZE);
            if region != last {
                out.extend(region.iter().map(|line| format!("    | {line}")));
            }
            last = region;
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
    fn renders_calls_that_fit() {
        let mut view = RunView::new(&"0190".into());
        for record in samples::many_started_tasks(100) {
            view.apply(&record);
        }
        let lines = live_lines(&view, Timestamp(61_000), ScreenSize { rows: 8, columns: 60 });
        insta::assert_snapshot!(without_styles(&lines));
        assert_eq!(live_lines(&view, Timestamp(0), ScreenSize { rows: 1, columns: 10 }).len(), 2);
    }

    #[test]
    fn progress_bar_stays_within_its_width() {
        for (part, expected) in [
            (0.5, Some("━━━━━━──────")),
            (-1.0, Some("────────────")),
            (7.0, Some("━━━━━━━━━━━━")),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(progress_bar(part).as_deref(), expected);
        }
    }
}
