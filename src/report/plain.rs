//! Tells a run in plain lines, for standard error that is no terminal.
//! Never tells more progress than a line a second and task.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use super::{
    Reporter,
    screen::Screen,
    story::{Line, Mark, Story},
};
use crate::model::{Event, Record, RunId, TaskId, Timestamp};

/// The shortest time between two lines of progress of a task.
const PROGRESS_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Lines such as `[12:03:04] find: started on research.search, attempt 1`.
#[derive(Debug)]
pub struct Plain {
    screen: Screen,
    story: Story,
    pace: Pace,
    zone: TimeZone,
}

impl Plain {
    /// Tells `run` on `screen`, with times as in `zone`.
    pub fn new(screen: Screen, run: RunId, zone: TimeZone) -> Self {
        Self { screen, story: Story::new(run), pace: Pace::default(), zone }
    }
}

impl Reporter for Plain {
    fn catch_up(&mut self, records: &[Record]) {
        for record in records {
            self.story.tell(record);
        }
    }

    fn report(&mut self, records: &[Record]) {
        for record in records {
            for line in told(&mut self.story, &mut self.pace, record) {
                for text in render(&line, record.at, &self.zone) {
                    self.screen.println(text);
                }
            }
        }
    }
}

/// When each task last told its progress.
#[derive(Debug, Default)]
struct Pace(HashMap<TaskId, Timestamp>);

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

fn render(line: &Line, at: Timestamp, zone: &TimeZone) -> Vec<String> {
    let word = match line.mark {
        Mark::Succeeded => "succeeded",
        Mark::Failed => "failed",
        Mark::Skipped => "skipped",
        Mark::Cancelled => "cancelled",
        Mark::Retried => "failed for now",
        Mark::Ended(status) => &status.to_string(),
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
    let mut lines = vec![format!("[{}] {}: {word}{colon}{}", clock(at, zone), line.subject, line.text)];
    lines.extend(line.help.iter().map(|help| format!("           help: {help}")));
    lines
}

fn clock(at: Timestamp, zone: &TimeZone) -> String {
    let moment = i64::try_from(at.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    moment.unwrap_or_default().to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::story::examples;

    /// The lines that these events make, times in UTC.
    fn plain(records: &[Record]) -> Vec<String> {
        let (mut story, mut pace) = (Story::new("0190".into()), Pace::default());
        let mut lines = Vec::new();
        for record in records {
            for line in told(&mut story, &mut pace, record) {
                lines.extend(render(&line, record.at, &TimeZone::UTC));
            }
        }
        lines
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
