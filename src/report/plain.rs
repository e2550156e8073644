//! Tells a run in plain lines, for standard error that is no terminal.
//! Never tells more progress than a line a second and task.

use jiff::tz::TimeZone;

use super::{
    Reporter,
    screen::Screen,
    story::{Line, Mark, Story},
};
use crate::model::{Event, IdHashMap, Record, RunId, TaskId, Timestamp};

/// The shortest time between two lines of progress of a task.
const PROGRESS_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Lines such as `[12:03:04] find: started on research.search, attempt 1`.
#[derive(Debug)]
pub struct Plain {
    screen: Screen,
    story: Story,
    pace: Pace,
    clock: Clock,
}

impl Plain {
    /// Tells `run` on `screen`, with times as in `zone`.
    pub fn new(screen: Screen, run: RunId, zone: TimeZone) -> Self {
        Self { screen, story: Story::new(run), pace: Pace::default(), clock: Clock::in_zone(zone) }
    }
}

impl Reporter for Plain {
    fn catch_up(&mut self, records: &[Record]) {
        for record in records {
            self.story.tell(record);
        }
    }

    fn report(&mut self, records: &[Record]) {
        let mut text = String::new();
        for record in records {
            for line in told(&mut self.story, &mut self.pace, record) {
                render(&mut text, &line, self.clock.at(record.at));
            }
        }
        if text.pop().is_some() {
            self.screen.println(text);
        }
    }
}

/// Tells the time of day, which many lines share.
#[derive(Debug)]
struct Clock {
    zone: TimeZone,
    /// The second that `text` tells, since 1970.
    second: Option<u64>,
    text: String,
}

impl Clock {
    fn in_zone(zone: TimeZone) -> Self {
        Self { zone, second: None, text: String::new() }
    }

    /// `at` as `12:03:04`.
    fn at(&mut self, at: Timestamp) -> &str {
        let second = at.0 / 1_000;
        if self.second.replace(second) != Some(second) {
            let moment = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            self.text = moment.unwrap_or_default().to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        }
        &self.text
    }
}

/// When each task last told its progress.
#[derive(Debug, Default)]
struct Pace(IdHashMap<TaskId, Timestamp>);

impl Pace {
    /// Whether a line about `record` is due. The end of a progress is always worth one.
    fn allows(&mut self, record: &Record) -> bool {
        match &record.event {
            Event::AttemptProgressed { attempt, progress } => {
                let last = self.0.get(&attempt.task);
                let is_due = last.is_none_or(|last| record.at.since(*last) >= PROGRESS_EVERY);
                let is_complete = progress.total.is_some_and(|total| progress.progress >= total);
                if is_due {
                    self.0.insert(attempt.task.clone(), record.at);
                }
                is_due || is_complete
            }
            Event::AttemptStarted { attempt, .. } | Event::AttemptSucceeded { attempt, .. } => {
                self.0.remove(&attempt.task);
                true
            }
            _ => true,
        }
    }
}

fn told(story: &mut Story, pace: &mut Pace, record: &Record) -> Vec<Line> {
    let lines = story.tell(record);
    if pace.allows(record) { lines } else { Vec::new() }
}

/// Adds a line and its line break.
fn render(text: &mut String, line: &Line, clock: &str) {
    let word = match line.mark {
        Mark::Succeeded => "succeeded",
        Mark::Failed => "failed",
        Mark::Skipped => "skipped",
        Mark::Cancelled => "cancelled",
        Mark::Retried => "failed for now",
        Mark::Ended(status) => status.name(),
        Mark::Run
        | Mark::Began
        | Mark::Progressed
        | Mark::Noted
        | Mark::Logged
        | Mark::Asked
        | Mark::Answered
        | Mark::LeftOpen => "",
    };
    let colon = if word.is_empty() || line.text.is_empty() { "" } else { ": " };
    text.extend(["[", clock, "] ", &line.subject, ": ", word, colon, &line.text, "\n"]);
    if let Some(help) = &line.help {
        text.extend(["           help: ", help, "\n"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        screen::{Abilities, memory::Memory},
        story::examples,
    };

    /// The lines that these events make, times in UTC.
    fn plain(records: &[Record]) -> Vec<String> {
        let memory = Memory::default();
        let screen = Screen::over(memory.clone(), Abilities { live: false, colour: false }).expect("a thread");
        let mut plain = Plain::new(screen, "0190".into(), TimeZone::UTC);
        // As they come: a few at once, or one.
        for records in records.chunks(3) {
            plain.report(records);
        }
        drop(plain);
        memory.text().lines().map(str::to_owned).collect()
    }

    #[test]
    fn tells_a_whole_run_in_lines() {
        insta::assert_snapshot!(plain(&examples::whole_run()).join("\n"));
    }

    #[test]
    fn tells_what_a_replan_changes() {
        insta::assert_snapshot!(plain(&examples::replanned()).join("\n"));
    }

    #[test]
    fn tells_progress_once_a_second_and_its_end() {
        let lines = plain(&examples::progress((0..=1_000).map(|n| (n * 2, n))));
        let shown: Vec<_> = lines.iter().filter(|line| line.contains('%')).map(|line| &line[11..]).collect();
        assert_eq!(shown, ["find: 0%, step 0", "find: 50%, step 500", "find: 100%, step 1000"]);
    }
}
