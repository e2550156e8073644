//! Shows a run on a terminal: what ended scrolls by, what is under way stays below and moves.
//! Never draws more than ten times a second, and never from the runtime's thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use owo_colors::{OwoColorize, Style};

use super::{
    Reporter,
    screen::{Screen, Size},
    story::{Line, Mark, Running, Story, Waits, how_far},
    text::{count, elapsed},
};
use crate::model::{Event, Record, RunId, RunStatus, TaskId, Timestamp};

/// The frames of the spinner, one each time the view is drawn.
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Columns of a progress bar.
const BAR: usize = 12;

/// Most columns that ids and places take before they are cut, so that what follows stays in line.
const WIDEST: usize = 28;

/// Tells the present, by which the view counts the seconds since an event.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The live view of a run.
#[derive(Debug)]
pub struct Terminal {
    screen: Screen,
    /// Shared with the screen's thread, which draws from it.
    story: Arc<Mutex<Story>>,
}

impl Terminal {
    /// Shows `run` on `screen` until it ends or this is dropped.
    pub fn new(screen: Screen, run: RunId, now: Now) -> Self {
        let story = Arc::new(Mutex::new(Story::new(run)));
        let drawn = Arc::clone(&story);
        screen.show(Arc::new(move |size| view(&lock(&drawn), now(), size)));
        Self { screen, story }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.screen.hide();
    }
}

impl Reporter for Terminal {
    fn catch_up(&mut self, records: &[Record]) {
        let mut story = lock(&self.story);
        for record in records {
            story.tell(record);
        }
    }

    fn report(&mut self, records: &[Record]) {
        let mut lines = Vec::new();
        let mut story = lock(&self.story);
        for record in records {
            lines.extend(story.tell(record).iter().flat_map(scrolled));
        }
        drop(story);
        if matches!(records.last(), Some(Record { event: Event::RunEnded { .. }, .. })) {
            self.screen.hide();
        }
        if !lines.is_empty() {
            self.screen.println(lines.join("\n"));
        }
    }
}

/// Telling leaves no half-changed story behind.
fn lock(story: &Mutex<Story>) -> MutexGuard<'_, Story> {
    story.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lines that scroll by; none for what the live view shows while it lasts.
fn scrolled(line: &Line) -> Vec<String> {
    let (symbol, style) = match line.mark {
        Mark::Began | Mark::Progressed | Mark::Asked => return Vec::new(),
        Mark::Noted | Mark::Logged | Mark::Run => ("·", Style::new().dimmed()),
        Mark::Retried => ("↻", Style::new().yellow()),
        Mark::Answered | Mark::LeftOpen => ("?", Style::new().cyan()),
        Mark::Succeeded => ("✓", Style::new().green()),
        Mark::Failed => ("✗", Style::new().red()),
        Mark::Skipped => ("↷", Style::new().dimmed()),
        Mark::Cancelled => ("■", Style::new().yellow()),
        Mark::Ended(status) => return ended(line, status),
    };
    let quiet = matches!(line.mark, Mark::Noted | Mark::Logged | Mark::Run | Mark::Skipped);
    let text = if quiet { line.text.dimmed().to_string() } else { line.text.clone() };
    let mut lines = vec![format!("{} {} {text}", symbol.style(style), line.subject.bold())];
    lines.extend(help(line));
    lines
}

fn ended(line: &Line, status: RunStatus) -> Vec<String> {
    let style = match status {
        RunStatus::Succeeded => Style::new().green().bold(),
        RunStatus::Failed => Style::new().red().bold(),
        RunStatus::Running | RunStatus::Partial | RunStatus::Paused | RunStatus::Interrupted | RunStatus::Cancelled => {
            Style::new().yellow().bold()
        }
    };
    let mut lines = vec![format!("{} {}: {}", status.style(style), line.subject, line.text)];
    lines.extend(help(line));
    lines
}

fn help(line: &Line) -> Option<String> {
    line.help.as_ref().map(|help| format!("  {} {help}", "help:".cyan()))
}

/// The live view: a line for each call under way as far as there is room, then what else waits, then the sum.
fn view(story: &Story, now: Timestamp, size: Size) -> Vec<String> {
    let mut rest = Vec::new();
    if !story.connecting().is_empty() {
        let names: Vec<_> = story.connecting().iter().map(ToString::to_string).collect();
        rest.push(format!("{} connecting to {}", spinner(now).cyan(), names.join(", ")));
    }
    if let Some(number) = story.replanning() {
        rest.push(format!("{} replan {number}: asks the planner", spinner(now).cyan()));
    }
    let retrying = story.retrying().iter().map(|(task, retry)| {
        let wait = elapsed(retry.at.since(now));
        let what = retry.agent.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
        format!("{} {task} waits {wait} to try{what} again", "↻".yellow())
    });
    let open = story.questions().count();
    let asked = (open > 0).then(|| format!("{} {} for an answer", "?".cyan(), waits(open)));
    rest.extend(retrying.take(3).chain(asked));
    if story.tasks() > 0 {
        let (done, all) = (story.tally().ended(), count(story.tasks(), "task"));
        rest.push(format!("{done} of {all} done, {}", elapsed(now.since(story.started()))).dimmed().to_string());
    }

    let room = size.rows.saturating_sub(rest.len() + 2).max(1);
    let running: Vec<_> = story.running();
    let shown = if running.len() <= room { room } else { room - 1 };
    let columns = Columns::of(running.iter().take(shown));
    let mut lines: Vec<_> =
        running.iter().take(shown).map(|(task, running)| under_way(task, running, now, &columns)).collect();
    if running.len() > shown {
        lines.push(format!("… and {} more", running.len() - shown).dimmed().to_string());
    }
    lines.extend(rest);
    lines
}

fn waits(open: usize) -> String {
    if open == 1 { "1 question waits".to_owned() } else { format!("{open} questions wait") }
}

/// The widths of the columns of the calls that are shown.
struct Columns {
    task: usize,
    place: usize,
}

impl Columns {
    fn of<'a>(running: impl Iterator<Item = &'a (&'a TaskId, &'a Running)>) -> Self {
        let width = |text: &str| console::measure_text_width(text).min(WIDEST);
        running.fold(Self { task: 0, place: 0 }, |widest, (task, running)| Self {
            task: widest.task.max(width(task.as_str())),
            place: widest.place.max(width(&running.place)),
        })
    }
}

fn under_way(task: &TaskId, running: &Running, now: Timestamp, columns: &Columns) -> String {
    let pad = |text: &str, width| console::pad_str(text, width, console::Alignment::Left, Some("…")).into_owned();
    let (task, place) = (pad(task.as_str(), columns.task), pad(&running.place, columns.place));
    let mut line = format!("{} {} {}", spinner(now).cyan(), task.bold(), place.dimmed());
    let time = elapsed(now.since(running.since));
    line.push_str(&format!(" {time:>6}"));
    if running.number > 1 {
        line.push_str(&format!(" {}", format!("attempt {}", running.number).yellow()));
    }
    match (running.waits, &running.progress) {
        (Waits::Person, _) => line.push_str(&format!(" {}", "waits for an answer".cyan())),
        (Waits::Model, _) => line.push_str(&format!(" {}", "asks the language model".cyan())),
        (Waits::Agent, None) => {}
        (Waits::Agent, Some(progress)) => {
            if let Some(bar) = progress.total.and_then(|total| bar(progress.progress / total)) {
                line.push_str(&format!(" {}", bar.green()));
            }
            line.push_str(&format!(" {}", how_far(progress)));
        }
    }
    line
}

/// A bar for a part of one; none for what is no number.
fn bar(part: f64) -> Option<String> {
    if !part.is_finite() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a few columns")]
    let full = (part.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    Some(format!("{}{}", "━".repeat(full), "─".repeat(BAR - full)))
}

fn spinner(now: Timestamp) -> &'static str {
    SPINNER[usize::try_from(now.0 / 100).unwrap_or(0) % SPINNER.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::story::examples;

    const SIZE: Size = Size { rows: 24, columns: 100 };

    fn bare(lines: &[String]) -> String {
        let bare = |line: &String| anstream::adapter::strip_str(line).to_string().trim_end().to_owned();
        lines.iter().map(bare).collect::<Vec<_>>().join("\n")
    }

    /// What scrolls by, with the live view after each event that changes more than the time.
    fn shown(records: &[Record]) -> String {
        let mut story = Story::new("0190".into());
        let mut out = Vec::new();
        let mut last = Vec::new();
        for record in records {
            out.extend(story.tell(record).iter().flat_map(scrolled));
            let view = view(&story, record.at, SIZE);
            if view != last {
                out.extend(view.iter().map(|line| format!("    | {line}")));
            }
            last = view;
        }
        bare(&out)
    }

    #[test]
    fn shows_a_whole_run() {
        insta::assert_snapshot!(shown(&examples::whole_run()));
    }

    #[test]
    fn shows_what_a_replan_changes() {
        insta::assert_snapshot!(shown(&examples::replanned()));
    }

    #[test]
    fn shows_as_many_calls_as_there_is_room_for() {
        let mut story = Story::new("0190".into());
        for record in examples::many_started(100) {
            story.tell(&record);
        }
        let lines = view(&story, Timestamp(61_000), Size { rows: 8, columns: 60 });
        insta::assert_snapshot!(bare(&lines));
        assert_eq!(view(&story, Timestamp(0), Size { rows: 1, columns: 10 }).len(), 2);
    }

    #[test]
    fn a_bar_never_leaves_its_columns() {
        for (part, expected) in [
            (0.5, Some("━━━━━━──────")),
            (-1.0, Some("────────────")),
            (7.0, Some("━━━━━━━━━━━━")),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(bar(part).as_deref(), expected);
        }
    }
}
