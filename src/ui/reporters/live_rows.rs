//! The rows of the live view: calls in progress, groups of items, waiting work, and the totals of the run.
//!
//! On a narrow terminal, width is given up in the order of least use: the tool, the bar, and then the message. The time
//! and the beginning of the title always stay.

use std::time::Duration;

use console::{Alignment, measure_text_width, pad_str, truncate_str};
use owo_colors::{OwoColorize, Style};

use crate::model::{TaskId, Timestamp};
use crate::ui::terminal::screen::ScreenSize;
use crate::view::phrasebook::{log_text, progress_text};
use crate::view::run_view::{RunningCall, WaitingOn, WorkPool};
use crate::view::text::{clock_text, cost_text, count_text, estimate_text, format_elapsed, short_count};
use crate::view::{RunView, remaining_time};

/// The frames of the spinner, which advances on every draw.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The width of a progress bar, in columns.
const PROGRESS_BAR_WIDTH: usize = 12;

/// The width of a time, such as `12:34`.
const TIME_WIDTH: usize = 5;

/// The limits of the width of titles, which otherwise have two fifths of a row.
const MIN_TITLE_WIDTH: usize = 12;
const MAX_TITLE_WIDTH: usize = 48;

/// The widths of messages: one that is worth a row, and one that is enough beside a bar or a tool.
const MIN_MESSAGE_WIDTH: usize = 8;
const ENOUGH_MESSAGE_WIDTH: usize = 24;

/// The maximum number of items of a `foreach` task that have a row each. More items share a row.
const MAX_UNGROUPED_ITEMS: usize = 5;

/// The maximum number of rows for the items of a group that run longest.
const MAX_GROUP_ITEMS: usize = 3;

/// The maximum number of rows for tasks that wait for their next attempt.
const MAX_RETRY_ROWS: usize = 3;

/// The shortest estimate that is shown.
const MIN_ESTIMATE: Duration = Duration::from_secs(2);

/// Returns the live view of a run.
pub(super) fn live_lines(view: &RunView, now: Timestamp, size: ScreenSize) -> Vec<String> {
    let rest = waiting_lines(view, now);
    let footer = footer_line(view, now, size.columns);
    let room = size.rows.saturating_sub(rest.len() + 2).max(1);
    let rows = rows_within(view, now, room);
    let columns = Columns::fit(&rows.shown, size.columns);
    let mut lines: Vec<_> = rows.shown.iter().map(|row| columns.line(row, now)).collect();
    if rows.omitted > 0 {
        lines.push(format!("… and {} more", rows.omitted).dimmed().to_string());
    }
    lines.extend(rest);
    lines.extend(footer);
    lines
}

/// Returns whether the items of a `foreach` task share a row.
pub(super) fn is_grouped(group: &WorkPool) -> bool {
    group.total > MAX_UNGROUPED_ITEMS
}

/// A call in progress, or a group of items.
struct LiveRow {
    /// The position: the number of calls that had started before.
    order: u64,
    indent: usize,
    title: String,
    /// The end of the title that is never truncated, such as `37/100`.
    count: String,
    elapsed: Duration,
    /// The part that is done, if it is known.
    part: Option<f64>,
    message: String,
    style: Style,
    tool: String,
}

/// The rows that fit, and the number of those that do not.
struct FittingRows {
    shown: Vec<LiveRow>,
    omitted: usize,
}

/// Returns the rows for calls and groups, as many as fit into `room`.
fn rows_within(view: &RunView, now: Timestamp, room: usize) -> FittingRows {
    let running = view.running();
    let group_of = |id: &TaskId| view.progress().group_of(id).filter(|(_, group)| is_grouped(group));
    let singles =
        running.iter().filter(|(id, _)| group_of(id).is_none()).map(|(id, call)| (None, call_row(view, id, call, now)));
    let open = view.progress().groups().iter().filter(|(_, group)| is_grouped(group) && !group.has_ended);
    let groups = open.map(|(id, group)| {
        let items: Vec<_> = running
            .iter()
            .copied()
            .filter(|(item, _)| group_of(item).is_some_and(|(parent, _)| parent == id))
            .collect();
        let row = group_row(view, id, group, &items, now);
        (Some(items), row)
    });
    let mut rows: Vec<_> = singles.chain(groups).collect();
    rows.sort_by_key(|(_, row)| row.order);
    let visible = if rows.len() <= room { rows.len() } else { room - 1 };
    let omitted = rows.len() - visible;
    let mut spare = room.saturating_sub(rows.len());
    let mut shown = Vec::new();
    for (items, row) in rows.into_iter().take(visible) {
        shown.push(row);
        for (id, call) in items.into_iter().flatten().take(spare.min(MAX_GROUP_ITEMS)) {
            spare -= 1;
            shown.push(LiveRow { indent: 2, ..call_row(view, id, call, now) });
        }
    }
    FittingRows { shown, omitted }
}

fn call_row(view: &RunView, id: &TaskId, call: &RunningCall, now: Timestamp) -> LiveRow {
    let attempt = if call.attempt > 1 { format!("attempt {}", call.attempt) } else { String::new() };
    let progress = call.progress.as_ref();
    let log = || call.latest_log.as_ref().map(log_text);
    let (state, style) = match call.waiting_for {
        WaitingOn::Person => ("waits for an answer".to_owned(), Style::new().cyan()),
        WaitingOn::Model => ("asks the language model".to_owned(), Style::new().cyan()),
        WaitingOn::Agent => (log().or_else(|| progress.map(progress_text)).unwrap_or_default(), Style::new()),
    };
    let style = if attempt.is_empty() { style } else { Style::new().yellow() };
    let parts = [attempt, state];
    LiveRow {
        order: call.order,
        indent: 0,
        title: view.task_name(id.as_str()),
        count: String::new(),
        elapsed: now.since(call.started_at),
        part: progress.and_then(|progress| Some(progress.progress / progress.total?)).filter(|part| part.is_finite()),
        message: parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "),
        style,
        tool: call.route_name(),
    }
}

fn group_row(
    view: &RunView,
    id: &TaskId,
    group: &WorkPool,
    items: &[(&TaskId, &RunningCall)],
    now: Timestamp,
) -> LiveRow {
    let waiting = items.iter().filter(|(_, call)| call.waiting_for == WaitingOn::Person).count();
    let states = [(group.failed, "failed"), (items.len() - waiting, "running"), (waiting, "waiting")];
    let states: Vec<_> =
        states.iter().filter(|(number, _)| *number > 0).map(|(number, state)| format!("{number} {state}")).collect();
    LiveRow {
        order: group.order,
        indent: 0,
        title: view.task_name(id.as_str()),
        count: format!("{}/{}", group.ended, group.total),
        elapsed: now.since(group.started_at),
        part: Some(group.ended as f64 / group.total as f64),
        message: states.join(" · "),
        style: if group.failed > 0 { Style::new().red() } else { Style::new() },
        tool: items.first().map(|(_, call)| call.route_name()).unwrap_or_default(),
    }
}

/// The widths of the columns; a width of zero leaves the column out.
struct Columns {
    title: usize,
    bar: usize,
    message: usize,
    tool: usize,
}

impl Columns {
    fn fit(rows: &[LiveRow], columns: usize) -> Self {
        let max_width = |text: &dyn Fn(&LiveRow) -> usize| rows.iter().map(text).max().unwrap_or(0);
        let width = columns.saturating_sub(1);
        let max_title = (width * 2 / 5).clamp(MIN_TITLE_WIDTH, MAX_TITLE_WIDTH);
        let count = |row: &LiveRow| if row.count.is_empty() { 0 } else { row.count.len() + 1 };
        let title = max_width(&|row| row.indent + measure_text_width(&row.title) + count(row)).min(max_title);
        // The spinner and the time, with a space before each column but the first.
        let mut room = width.saturating_sub(2 + title + 1 + TIME_WIDTH);
        let message = max_width(&|row| measure_text_width(&row.message));
        let enough = message.min(ENOUGH_MESSAGE_WIDTH);
        let space = |width: usize| if width == 0 { 0 } else { width + 1 };
        let bar = if rows.iter().any(|row| row.part.is_some()) { PROGRESS_BAR_WIDTH } else { 0 };
        let bar = if space(bar) + space(enough) <= room { bar } else { 0 };
        room -= space(bar);
        let tool = max_width(&|row| measure_text_width(&row.tool));
        // Another space separates it from a message.
        let tool = if space(message) + space(tool) < room { tool } else { 0 };
        room = room.saturating_sub(if tool == 0 { 0 } else { space(tool) + 1 });
        let message = message.min(room.saturating_sub(1));
        Self { title, bar, message: if message < MIN_MESSAGE_WIDTH.min(enough) { 0 } else { message }, tool }
    }

    fn line(&self, row: &LiveRow, now: Timestamp) -> String {
        let count = if row.count.is_empty() { String::new() } else { format!(" {}", row.count) };
        let room = self.title.saturating_sub(row.indent + count.len());
        let title = format!("{}{count}", truncate_str(&row.title, room, "…"));
        let title = pad_str(&title, self.title.saturating_sub(row.indent), Alignment::Left, None).into_owned();
        let time = clock_text(row.elapsed);
        let mut line = format!(
            "{}{} {} {}",
            " ".repeat(row.indent),
            spinner_frame(now).cyan(),
            title.bold(),
            format!("{time:>TIME_WIDTH$}").dimmed()
        );
        if self.bar > 0 {
            let bar = row.part.map_or_else(|| " ".repeat(self.bar), progress_bar);
            line.push_str(&format!(" {}", bar.green()));
        }
        if self.message > 0 {
            let message = pad_str(&row.message, self.message, Alignment::Left, Some("…")).into_owned();
            line.push_str(&format!(" {}", message.style(row.style)));
        }
        if self.tool > 0 {
            line.push_str(&format!("  {}", row.tool.dimmed()));
        }
        line
    }
}

/// Draws a bar for a fraction.
fn progress_bar(part: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a few columns")]
    let full = (part.clamp(0.0, 1.0) * PROGRESS_BAR_WIDTH as f64).round() as usize;
    format!("{}{}", "━".repeat(full), "─".repeat(PROGRESS_BAR_WIDTH - full))
}

fn spinner_frame(now: Timestamp) -> &'static str {
    SPINNER[usize::try_from(now.0 / 100).unwrap_or(0) % SPINNER.len()]
}

/// Returns the lines for work that is not a call: connections, a replan, retries, and questions.
fn waiting_lines(view: &RunView, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if !view.connecting().is_empty() {
        let names: Vec<_> = view.connecting().iter().map(ToString::to_string).collect();
        lines.push(format!("{} connecting to {}", spinner_frame(now).cyan(), names.join(", ")));
    }
    if let Some(number) = view.replanning() {
        let what = if view.is_goal_check() { "checks whether the goal is reached" } else { "asks the planner" };
        lines.push(format!("{} replan {number}: {what}", spinner_frame(now).cyan()));
    }
    let retrying = view.retrying().iter().take(MAX_RETRY_ROWS).map(|(task, retry)| {
        let wait = format_elapsed(retry.at.since(now));
        let what = retry.agent.as_ref().map(|agent| format!(" on {agent}")).unwrap_or_default();
        format!("{} {} retries{what} in {wait}", "↻".yellow(), view.task_name(task.as_str()))
    });
    lines.extend(retrying);
    let timers = view.timers().iter().take(MAX_RETRY_ROWS).map(|(task, until)| {
        format!("{} {} waits for {}", "◷".cyan(), view.task_name(task.as_str()), format_elapsed(until.since(now)))
    });
    lines.extend(timers);
    let open = view.open_questions().count();
    if open > 0 {
        let waits = if open == 1 { "waits" } else { "wait" };
        lines.push(format!("{} {} {waits} for an answer", "?".cyan(), count_text(open, "question")));
    }
    lines
}

/// A part of the footer. Parts with a higher rank are left out first.
struct FooterPart {
    rank: u8,
    text: String,
}

/// Returns the totals of the run, as far as they fit: `12/64 done · 8 running · 0:12 · about 0:40 left`.
fn footer_line(view: &RunView, now: Timestamp, columns: usize) -> Option<String> {
    view.started_at()?;
    let progress = view.progress();
    let running = view.running().iter().filter(|(_, call)| call.waiting_for != WaitingOn::Person).count();
    let waiting = view.open_questions().count() + view.retrying().len() + view.timers().len();
    let spent = &view.result().spent;
    let tokens = spent.input_tokens + spent.output_tokens;
    let counted = |number: usize, state: &str| (number > 0).then(|| format!("{number} {state}"));
    let estimate = remaining_time(view, now).filter(|estimate| *estimate >= MIN_ESTIMATE);
    let parts = [
        (0, Some(format!("{}/{} done", progress.ended(), progress.total()))),
        (4, counted(running, "running")),
        (1, counted(progress.failed(), "failed")),
        (2, counted(waiting, "waiting")),
        (0, Some(clock_text(view.elapsed(now)))),
        (3, estimate.map(|estimate| format!("about {} left", estimate_text(estimate)))),
        (6, (tokens > 0).then(|| format!("{} tokens", short_count(tokens)))),
        (5, (!spent.cost_usd.is_zero()).then(|| cost_text(spent.cost_usd))),
    ];
    let mut parts: Vec<_> =
        parts.into_iter().filter_map(|(rank, text)| text.map(|text| FooterPart { rank, text })).collect();
    let joined = |parts: &[FooterPart]| parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(" · ");
    while measure_text_width(&joined(&parts)) >= columns
        && let Some(rank) = parts.iter().map(|part| part.rank).max().filter(|rank| *rank > 0)
    {
        parts.retain(|part| part.rank != rank);
    }
    Some(joined(&parts).dimmed().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    fn without_styles(lines: &[String]) -> String {
        let bare = |line: &String| anstream::adapter::strip_str(line).to_string().trim_end().to_owned();
        lines.iter().map(bare).collect::<Vec<_>>().join("\n")
    }

    fn view_of(records: &[crate::model::Record]) -> RunView {
        let mut view = RunView::new(&"0190".into());
        records.iter().for_each(|record| view.apply(record));
        view
    }

    /// Renders a view at several widths, and asserts that no line is wider.
    fn at_widths(view: &RunView, now: Timestamp) -> String {
        let render = |columns: usize| {
            let lines = without_styles(&live_lines(view, now, ScreenSize { rows: 24, columns }));
            assert!(lines.lines().all(|line| measure_text_width(line) < columns), "{lines}");
            format!("{columns} columns\n{lines}\n")
        };
        [40, 60, 80, 120, 200].map(render).join("\n")
    }

    #[test]
    fn renders_calls_that_fit() {
        let view = view_of(&samples::many_started_tasks(100));
        let lines = live_lines(&view, Timestamp(61_000), ScreenSize { rows: 8, columns: 60 });
        insta::assert_snapshot!(without_styles(&lines));
        assert_eq!(live_lines(&view, Timestamp(0), ScreenSize { rows: 1, columns: 10 }).len(), 2);
    }

    #[test]
    fn gives_up_the_tool_first_then_the_bar_then_the_message() {
        let records = samples::calls_with_progress();
        let now = records.last().expect("an event").at.after(Duration::from_secs(12));
        insta::assert_snapshot!(at_widths(&view_of(&records), now));
    }

    #[test]
    fn renders_items_as_one_group() {
        let records = samples::items_in_progress(100, 37);
        let now = records.last().expect("an event").at.after(Duration::from_secs(3));
        insta::assert_snapshot!(at_widths(&view_of(&records), now));
    }

    #[test]
    fn progress_bar_stays_within_its_width() {
        for (part, expected) in [(0.5, "━━━━━━──────"), (-1.0, "────────────"), (7.0, "━━━━━━━━━━━━")]
        {
            assert_eq!(progress_bar(part), expected);
        }
    }
}
