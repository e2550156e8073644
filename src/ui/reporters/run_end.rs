//! The end of a run for people, which is the last on the screen: a table of its tasks, a summary in one line, and the next
//! commands.

use std::time::Duration;

use console::{Alignment, measure_text_width, pad_str, truncate_str};
use owo_colors::{OwoColorize, Style};

use crate::model::{Event, Record, RunId, RunStatus, TaskId, Timestamp};
use crate::ui::forms::form_prompt;
use crate::ui::styles::{run_status_style, task_status_style};
use crate::ui::terminal::screen::ScreenSize;
use crate::view::phrasebook::describe;
use crate::view::report_line::{LineKind, ReportLine, Verbosity, status_word};
use crate::view::run_view::TaskTimes;
use crate::view::text::{cost_text, format_elapsed, short_count, truncated};
use crate::view::{RunView, SpendingTotals, TaskResult, TaskStatus};

/// The maximum number of next commands.
const MAX_NEXT_COMMANDS: usize = 3;

/// The rows of a screen that the table leaves to its header, to the line about more tasks, to the summary with its
/// advice, to the next commands, and to the prompt of the shell.
const ROWS_BESIDE_TABLE: usize = 5 + MAX_NEXT_COMMANDS;

/// The maximum number of failed items of a `foreach` task in the table.
const MAX_FAILED_ITEMS: usize = 3;

/// The maximum number of reasons of failures below the table.
const MAX_REASONS: usize = 4;

/// The maximum width of titles in the table, and of all other cells.
const MAX_TITLE_WIDTH: usize = 40;
const MIN_TITLE_WIDTH: usize = 16;
const MAX_CELL_WIDTH: usize = 24;

/// The end of a run.
#[derive(Debug, Clone)]
pub struct RunEnd {
    run: RunId,
    status: RunStatus,
    summary: ReportLine,
    /// The time of day of the end, for plain lines.
    clock: String,
    /// The command that answers the first open question.
    answer_command: Option<String>,
    rows: Vec<EndRow>,
}

/// What the end of a run refers to.
#[derive(Debug, Clone)]
pub struct EndContext {
    /// The name of the run in commands: `last`, or its short ID.
    pub run: String,
    /// Set if only a part of the result was printed.
    pub is_result_cut: bool,
}

/// A task or an item in the table.
#[derive(Debug, Clone)]
struct EndRow {
    title: String,
    status: String,
    style: Style,
    agent: String,
    attempts: String,
    time: String,
    cost: String,
    /// The reason of its failure.
    reason: Option<String>,
}

impl RunEnd {
    /// Returns the end of a run, if this event ends it. `before` is the view before the event.
    pub fn new(before: &RunView, record: &Record) -> Option<Self> {
        let Event::RunEnded { status, .. } = &record.event else { return None };
        let lines = describe(before, record, Verbosity::Progress);
        let summary = lines.into_iter().find(|line| matches!(line.kind, LineKind::Ended(_)))?;
        let first_question = before.open_questions().next();
        let answer_command =
            first_question.and_then(|asked| form_prompt::answer_command(before.run(), &asked.question));
        let (run, status) = (before.run().clone(), *status);
        Some(Self { run, status, summary, clock: String::new(), answer_command, rows: Vec::new() })
    }

    /// Sets the time of day of the end.
    #[must_use]
    pub(super) fn at(mut self, clock: &str) -> Self {
        clock.clone_into(&mut self.clock);
        self
    }

    /// Adds the table of tasks, from a view with history. A single task needs no table.
    #[must_use]
    pub(super) fn with_table(mut self, view: &RunView) -> Self {
        if view.task_count() > 1 {
            self.rows = end_rows(view);
        }
        self
    }

    /// Returns the run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Returns whether the run has succeeded.
    pub fn has_succeeded(&self) -> bool {
        self.status == RunStatus::Succeeded
    }

    /// Returns the lines for a terminal: at most a screenful, with styles.
    pub fn styled_lines(&self, context: &EndContext, size: ScreenSize) -> Vec<String> {
        let style = run_status_style(self.status).bold();
        let mut lines = self.table_lines(context, size);
        let ReportLine { subject, text, help, .. } = &self.summary;
        let (status, width) = (status_word(self.status), size.columns.saturating_sub(1));
        let indent = status.len() + subject.len() + 3;
        // The run ID moves to a line of its own where it would be split.
        let (outcome, run) = text.rsplit_once(", ").unwrap_or((text, ""));
        let fits = indent + text.len() <= width || run.is_empty();
        let shown = if fits { text.clone() } else { format!("{outcome},\n  {run}") };
        lines.push(format!("{} {}: {shown}", status.style(style), subject.bold()));
        lines.extend(help.as_ref().map(|help| format!("  {} {help}", "help:".cyan())));
        lines.extend(self.next_commands(context).iter().map(|next| format!("  {} {next}", "next:".cyan())));
        lines
    }

    /// Returns the lines for a pipe or a log file: the summary and the next commands.
    pub fn plain_lines(&self, context: &EndContext) -> Vec<String> {
        let mut lines = vec![format!("[{}] {}", self.clock, self.summary.parts().concat())];
        lines.extend(self.summary.help.as_ref().map(|help| format!("           help: {help}")));
        lines.extend(self.next_commands(context).iter().map(|next| format!("           next: {next}")));
        lines
    }

    /// Returns the commands that continue from here, each with what it does.
    fn next_commands(&self, context: &EndContext) -> Vec<String> {
        let (name, run) = (&context.run, self.run.short());
        let mut commands = Vec::new();
        if context.is_result_cut {
            commands.push(format!("`kapell result {name}` prints the whole result"));
        }
        match self.status {
            RunStatus::Failed | RunStatus::Partial | RunStatus::Cancelled => {
                commands.push(format!("`kapell retry {name} --failed` reruns what failed"));
            }
            RunStatus::Interrupted => commands.push(format!("`kapell resume {run}` resumes the run")),
            RunStatus::Paused => {
                if let Some(command) = &self.answer_command {
                    commands.push(format!("`kapell questions {run}` lists the open questions"));
                    commands.push(format!("`{command}` answers one"));
                }
                commands.push(format!("`kapell resume {run}` continues the run"));
            }
            RunStatus::Succeeded | RunStatus::Running => {}
        }
        commands.truncate(MAX_NEXT_COMMANDS);
        commands
    }

    /// Returns the table, cut to a screenful.
    fn table_lines(&self, context: &EndContext, size: ScreenSize) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let room = size.rows.saturating_sub(ROWS_BESIDE_TABLE).max(1);
        // Rows about success give way to the reasons of failures.
        let reasons = self.rows.iter().filter(|row| row.reason.is_some()).count().min(MAX_REASONS).min(room / 2);
        let shown = &self.rows[..self.rows.len().min(room - reasons)];
        let table = EndTable::fit(shown, size.columns);
        let mut lines = vec![table.header()];
        let mut remaining_reasons = reasons.max(room - shown.len());
        for row in shown {
            lines.push(table.line(row));
            if let Some(reason) = row.reason.as_ref().filter(|_| remaining_reasons > 0) {
                remaining_reasons -= 1;
                lines.push(format!("    {}", truncate_str(reason, size.columns.saturating_sub(5), "…").red()));
            }
        }
        if self.rows.len() > shown.len() {
            let more = format!("… and {} more: `kapell runs show {}`", self.rows.len() - shown.len(), context.run);
            lines.push(more.dimmed().to_string());
        }
        lines
    }
}

/// Returns the rows of the table: tasks that failed first, then those without a result, and then those with one.
fn end_rows(view: &RunView) -> Vec<EndRow> {
    let is_shown = |id: &TaskId, task: &TaskResult| {
        !task.is_untriggered_hook() && (!id.is_resource_read() || task.status != TaskStatus::Succeeded)
    };
    let mut tasks: Vec<_> = view.result().tasks.iter().filter(|(id, task)| is_shown(id, task)).collect();
    tasks.sort_by_key(|(_, task)| match task.status {
        TaskStatus::Failed => 0,
        _ if failed_items(task) > 0 => 1,
        TaskStatus::Cancelled => 2,
        TaskStatus::Running | TaskStatus::Waiting => 3,
        TaskStatus::Skipped => 4,
        TaskStatus::Succeeded => 5,
    });
    let is_asked_about = |id: &TaskId| view.open_questions().any(|asked| asked.question.asker.task() == Some(id));
    let never_started = |id: &TaskId, task: &TaskResult| {
        let is_unfinished = matches!(task.status, TaskStatus::Cancelled | TaskStatus::Waiting);
        is_unfinished && task.attempts == 0 && task.items.is_none() && !is_asked_about(id)
    };
    let (unstarted, tasks): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|(id, task)| never_started(id, task));
    let mut rows = Vec::new();
    for (id, task) in tasks {
        rows.push(end_row(view, id, task));
        let failed = task.items.iter().flatten().enumerate().filter(|(_, item)| item.status == TaskStatus::Failed);
        for (index, item) in failed.take(MAX_FAILED_ITEMS) {
            let row = end_row(view, &id.item(index), item);
            rows.push(EndRow { title: format!("  {}", row.title), ..row });
        }
    }
    match unstarted.as_slice() {
        [] => {}
        [(id, task)] => rows.push(EndRow { status: "not started".to_owned(), ..end_row(view, id, task) }),
        // One row for all of them: they only show how much of the plan remains.
        [(id, task), rest @ ..] => rows.push(EndRow {
            title: format!("{} and {} more", view.task_name(id.as_str()), rest.len()),
            status: "not started".to_owned(),
            ..end_row(view, id, task)
        }),
    }
    rows
}

fn failed_items(task: &TaskResult) -> usize {
    task.items.iter().flatten().filter(|item| item.status == TaskStatus::Failed).count()
}

fn end_row(view: &RunView, id: &TaskId, task: &TaskResult) -> EndRow {
    let items = task.items.as_ref().map_or(0, Vec::len);
    let status = match failed_items(task) {
        0 => task.status.to_string(),
        failed => format!("{failed} of {items} failed"),
    };
    let style = match task.status {
        TaskStatus::Succeeded if failed_items(task) > 0 => Style::new().yellow(),
        status => task_status_style(status),
    };
    let agent = task.agent.as_ref().or_else(|| task.items.iter().flatten().find_map(|item| item.agent.as_ref()));
    let spent = view.history().spending().tasks.get(id).copied().unwrap_or_default();
    EndRow {
        title: view.task_name(id.as_str()),
        status,
        style,
        agent: agent.map(|agent| truncated(agent.as_str())).unwrap_or_default(),
        attempts: if task.attempts == 0 { String::new() } else { task.attempts.to_string() },
        time: duration(view, id).map(format_elapsed).unwrap_or_default(),
        cost: spending_text(&spent),
        reason: failure_reason(task),
    }
}

/// Returns why a task failed. The reasons of its items stand below them.
fn failure_reason(task: &TaskResult) -> Option<String> {
    let failure = task.error.as_ref().filter(|_| task.status == TaskStatus::Failed && failed_items(task) == 0)?;
    Some(truncated(&failure.message))
}

/// Returns the time from the start of the first attempt of a task to its end, or to the end of the run.
fn duration(view: &RunView, id: &TaskId) -> Option<Duration> {
    let TaskTimes { started, ended } = view.history().times.get(id).copied()?;
    let ended: Timestamp = ended.or(view.ended_at())?;
    Some(ended.since(started?))
}

/// Formats what a task has spent on a language model.
fn spending_text(spent: &SpendingTotals) -> String {
    match (spent.cost_usd, spent.input_tokens + spent.output_tokens) {
        (cost, _) if !cost.is_zero() => cost_text(cost),
        (_, 0) => String::new(),
        (_, tokens) => format!("{} tokens", short_count(tokens)),
    }
}

/// A column of the table: its heading, and the text of a row in it.
type EndColumn = (&'static str, fn(&EndRow) -> &str);

/// The columns of the table in the order of their use; the last ones are left out on a narrow terminal.
const COLUMNS: [EndColumn; 6] = [
    ("task", |row| &row.title),
    ("status", |row| &row.status),
    ("time", |row| &row.time),
    ("agent", |row| &row.agent),
    ("attempts", |row| &row.attempts),
    ("cost", |row| &row.cost),
];

/// The order in which the columns are shown.
const DISPLAY_ORDER: [usize; 6] = [0, 1, 3, 4, 2, 5];

/// The widths of the columns; a width of zero leaves the column out.
struct EndTable {
    widths: [usize; 6],
}

impl EndTable {
    fn fit(rows: &[EndRow], columns: usize) -> Self {
        let mut widths = COLUMNS.map(|(name, cell)| {
            let max_width = rows.iter().map(|row| measure_text_width(cell(row))).max().unwrap_or(0);
            if max_width == 0 { 0 } else { max_width.max(name.len()).min(MAX_CELL_WIDTH) }
        });
        let title = rows.iter().map(|row| measure_text_width(&row.title)).max().unwrap_or(0).max(4);
        let space = |width: usize| if width == 0 { 0 } else { width + 2 };
        let mut room = columns.saturating_sub(1 + title.clamp(4, MIN_TITLE_WIDTH));
        for width in &mut widths[1..] {
            *width = if space(*width) <= room { *width } else { 0 };
            room -= space(*width);
        }
        widths[0] = title.min(title.clamp(4, MIN_TITLE_WIDTH) + room).min(MAX_TITLE_WIDTH);
        Self { widths }
    }

    fn header(&self) -> String {
        self.cells(|column| COLUMNS[column].0.to_owned()).concat().dimmed().to_string()
    }

    fn line(&self, row: &EndRow) -> String {
        let cells = self.cells(|column| COLUMNS[column].1(row).to_owned());
        let style = |(index, cell): (usize, String)| match DISPLAY_ORDER[index] {
            1 => cell.style(row.style).to_string(),
            0 => cell,
            _ => cell.dimmed().to_string(),
        };
        cells.into_iter().enumerate().map(style).collect()
    }

    /// Returns the cells of a row in the order of display, padded and with two spaces before each but the first.
    fn cells(&self, text: impl Fn(usize) -> String) -> Vec<String> {
        let cell = |column: usize| {
            let alignment = if matches!(column, 2 | 4) { Alignment::Right } else { Alignment::Left };
            match self.widths[column] {
                0 => String::new(),
                width => {
                    let padded = pad_str(&text(column), width, alignment, Some("…")).into_owned();
                    if column == 0 { padded } else { format!("  {padded}") }
                }
            }
        };
        DISPLAY_ORDER.map(cell).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    /// Returns the end of a run at several widths, without styles.
    fn end_at_widths(records: &[Record], rows: usize) -> String {
        let mut view = RunView::with_history(&"01990000-0000-7000-8000-00000000abcd".into());
        let mut end = None;
        for record in records {
            end = RunEnd::new(&view, record).or(end);
            view.apply(record);
        }
        let end = end.expect("an end").with_table(&view);
        let context = EndContext { run: "last".to_owned(), is_result_cut: true };
        let render = |columns: usize| {
            let lines = end.styled_lines(&context, ScreenSize { rows, columns }).join("\n");
            let lines: Vec<_> = anstream::adapter::strip_str(&lines)
                .to_string()
                .lines()
                .map(|line| line.trim_end().to_owned())
                .collect();
            format!("{columns} columns\n{}\n", lines.join("\n"))
        };
        [40, 60, 120].map(render).join("\n")
    }

    #[test]
    fn failed_tasks_come_first() {
        insta::assert_snapshot!(end_at_widths(&samples::whole_run(), 24));
    }

    #[test]
    fn table_is_at_most_a_screenful() {
        let mut records = samples::simulated_run(&[samples::SimulatedTask { millis: 900, items: None }; 64], 8);
        records.push(samples::run_ended(RunStatus::Succeeded, records.last().expect("an event")));
        insta::assert_snapshot!(end_at_widths(&records, 14));
    }

    #[test]
    fn paused_run_names_the_commands_for_its_questions() {
        let mut records = samples::whole_run();
        let question = records.iter().rposition(|record| matches!(record.event, Event::QuestionDeferred { .. }));
        records.truncate(question.expect("a question") + 1);
        records.push(samples::run_ended(RunStatus::Paused, records.last().expect("an event")));
        let end = end_at_widths(&records, 24);
        let next: Vec<_> = end.lines().filter(|line| line.starts_with("  next:")).take(3).collect();
        assert_eq!(
            next,
            [
                "  next: `kapell result last` prints the whole result",
                "  next: `kapell questions 0000abcd` lists the open questions",
                "  next: `kapell answer 0000abcd q2 --accept` answers one",
            ]
        );
    }
}
