//! Reports a run in plain lines, for standard error without a terminal.
//! Progress is limited to one line per second and task.

use jiff::tz::TimeZone;

use super::progress::{EventLines, ProgressOptions, ProgressReporter};
use super::reporter::Reporter;
use super::run_end::RunEnd;
use crate::model::{Event, IdHashMap, Record, TaskId, Timestamp};
use crate::ui::terminal::screen::Screen;
use crate::view::RunView;
use crate::view::phrasebook::sum_unstarted;
use crate::view::report_line::ReportLine;

/// The minimum interval between two progress lines of a task.
const PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// A reporter that prints lines such as `[12:03:04] find: started on research.search, attempt 1`.
#[derive(Debug)]
pub struct PlainReporter {
    screen: Screen,
    events: EventLines,
    /// The lines of the current batch.
    lines: Vec<(Timestamp, ReportLine)>,
    throttle: ProgressLineThrottle,
    timestamps: TimestampFormatter,
    end: Option<RunEnd>,
}

impl PlainReporter {
    /// Returns a reporter that prints on `screen`, with times in `zone`.
    pub fn new(screen: Screen, zone: TimeZone, options: ProgressOptions) -> Self {
        Self {
            screen,
            events: EventLines::new(options),
            lines: Vec::new(),
            end: None,
            throttle: ProgressLineThrottle::default(),
            timestamps: TimestampFormatter::new(zone),
        }
    }
}

impl Reporter for PlainReporter {
    fn catch_up(&mut self, records: &[Record]) {
        self.events.catch_up(records);
    }

    fn report(&mut self, before: &RunView, record: &Record) {
        let lines = self.events.describe(before, record);
        if self.throttle.is_due(record) {
            self.lines.extend(lines.into_iter().map(|line| (record.at, line)));
        }
        if let Some(end) = RunEnd::new(before, record) {
            self.end = Some(end.at(self.timestamps.format(record.at)));
        }
    }

    fn flush(&mut self) {
        let mut text = String::new();
        for (at, line) in sum_unstarted(std::mem::take(&mut self.lines)) {
            render(&mut text, &line, self.timestamps.format(at));
        }
        if text.pop().is_some() {
            self.screen.println(text);
        }
    }
}

impl ProgressReporter for PlainReporter {
    fn end(&self) -> Option<&RunEnd> {
        self.end.as_ref()
    }
}

/// Formats times of day, and caches the last one because many lines share it.
#[derive(Debug)]
struct TimestampFormatter {
    zone: TimeZone,
    /// The second since 1970 that `text` shows.
    second: Option<u64>,
    text: String,
}

impl TimestampFormatter {
    fn new(zone: TimeZone) -> Self {
        Self { zone, second: None, text: String::new() }
    }

    /// Formats `at` as `12:03:04`.
    fn format(&mut self, at: Timestamp) -> &str {
        let second = at.0 / 1_000;
        if self.second.replace(second) != Some(second) {
            let moment = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            self.text = moment.unwrap_or_default().to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        }
        &self.text
    }
}

/// Limits progress lines by the time of each task's last one.
#[derive(Debug, Default)]
struct ProgressLineThrottle(IdHashMap<TaskId, Timestamp>);

impl ProgressLineThrottle {
    /// Returns whether a line about `record` is due. The completion of a progress is always reported.
    fn is_due(&mut self, record: &Record) -> bool {
        match &record.event {
            Event::AttemptProgressed { attempt, progress } => {
                let last = self.0.get(&attempt.task);
                let is_due = last.is_none_or(|last| record.at.since(*last) >= PROGRESS_INTERVAL);
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

/// Appends a line and its line break.
fn render(text: &mut String, line: &ReportLine, clock: &str) {
    text.extend(["[", clock, "] "]);
    text.extend(line.parts());
    text.push('\n');
    if let Some(help) = &line.help {
        text.extend(["           help: ", help, "\n"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::reporters::Reporters;
    use crate::ui::reporters::run_end::EndContext;
    use crate::ui::terminal::screen::ScreenCapabilities;
    use crate::ui::terminal::screen::memory::MemoryDevice;
    use crate::view::report_line::Verbosity;
    use crate::view::samples;

    /// Returns the lines for these events, with times in UTC.
    fn printed_lines(records: &[Record], verbosity: Verbosity) -> Vec<String> {
        let memory = MemoryDevice::default();
        let screen =
            Screen::with_device(memory.clone(), ScreenCapabilities { live: false, color: false }).expect("a thread");
        let mut plain = PlainReporter::new(screen.clone(), TimeZone::UTC, ProgressOptions { verbosity });
        let run = "01990000-0000-7000-8000-00000000abcd".into();
        let mut reporters = Reporters::new(&run, vec![&mut plain]);
        // Reports come in batches of any size.
        for records in records.chunks(3) {
            reporters.report(records);
        }
        let context = EndContext { run: "0000abcd".to_owned(), is_result_cut: false };
        plain.end().iter().flat_map(|end| end.plain_lines(&context)).for_each(|line| screen.println(line));
        drop((plain, screen));
        memory.text().lines().map(str::to_owned).collect()
    }

    #[test]
    fn prints_a_whole_run() {
        insta::assert_snapshot!(printed_lines(&samples::whole_run(), Verbosity::Progress).join("\n"));
    }

    #[test]
    fn quiet_reports_problems_and_questions_only() {
        insta::assert_snapshot!(printed_lines(&samples::whole_run(), Verbosity::Quiet).join("\n"));
    }

    #[test]
    fn detailed_reports_connections_and_logs() {
        let shown = printed_lines(&samples::whole_run(), Verbosity::Progress);
        let mut detailed = printed_lines(&samples::whole_run(), Verbosity::Detailed);
        detailed.retain(|line| !shown.contains(line));
        insta::assert_snapshot!(detailed.join("\n"));
    }

    #[test]
    fn prints_replan_changes() {
        insta::assert_snapshot!(printed_lines(&samples::replanned_run(), Verbosity::Progress).join("\n"));
    }

    #[test]
    fn throttles_progress_lines() {
        let lines = printed_lines(&samples::progress_events((0..=1_000).map(|n| (n * 2, n))), Verbosity::Progress);
        let shown: Vec<_> = lines.iter().filter(|line| line.contains('%')).map(|line| &line[11..]).collect();
        assert_eq!(shown, ["find: 0%, step 0", "find: 50%, step 500", "find: 100%, step 1000"]);
    }
}
