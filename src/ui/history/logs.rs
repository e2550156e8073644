//! Prints the events of a run (`kapell logs`), and optionally watches for new ones (`-f`).

use std::io::Write;
use std::thread;
use std::time::Duration;

use jiff::tz::TimeZone;
use owo_colors::OwoColorize;
use serde_json::Value;

use crate::journal::JournalReader;
use crate::model::{Event, LogLevel, Record, RunId, TaskId, Timestamp};
use crate::ui::reporters::json_lines::{JsonLinesError, ignore_closed_pipe};
use crate::ui::styles::line_style;
use crate::view::RunView;
use crate::view::phrasebook::describe;
use crate::view::report_line::{ReportLine, Verbosity};
use crate::view::text::{printable, printable_unstyled, safe_json};
use crate::view::time::format_time_with;

/// The interval between polls for new events.
///
/// Another process appends them without a notification. A person does not notice a fifth of a second, and a poll costs
/// microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A request to print the events of a run.
#[derive(Debug)]
pub struct Logs<'a> {
    /// The journal.
    pub reader: &'a dyn JournalReader,
    /// The run.
    pub run: &'a RunId,
    /// The output format.
    pub format: LogFormat,
    /// The events to print.
    pub filter: LogFilter,
    /// The mode for events that are not in the journal yet.
    pub watch: WatchMode,
}

/// A selection of events.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Only the events of this task, its items, and its calls.
    pub task: Option<TaskId>,
    /// No log messages of agents that are less severe.
    pub level: Option<LogLevel>,
    /// Only events since this time.
    pub since: Option<Timestamp>,
}

impl LogFilter {
    fn matches(&self, record: &Record, json: &str) -> bool {
        let is_severe = |level| match &record.event {
            // Agents may use levels that the protocol does not have.
            Event::AgentLogged { message, .. } => LogLevel::from_name(&message.level).is_none_or(|sent| sent >= level),
            _ => true,
        };
        self.since.is_none_or(|since| record.at >= since)
            && self.level.is_none_or(is_severe)
            && self.task.as_ref().is_none_or(|task| is_of_task(json, task))
    }
}

/// The places of the task in an event.
const TASK_POINTERS: [&str; 7] = [
    "/task",
    "/parent",
    "/attempt/task",
    "/origin/attempt/task",
    "/question/asker/plan/task",
    "/question/asker/host/attempt/task",
    "/question/asker/agent/attempt/task",
];

/// Returns whether an event belongs to a task, to one of its items, or to a call of its model.
fn is_of_task(json: &str, task: &TaskId) -> bool {
    let Ok(event) = serde_json::from_str::<Value>(json) else { return false };
    let named = TASK_POINTERS.iter().filter_map(|pointer| event.pointer(pointer)?.as_str());
    named
        .into_iter()
        .filter_map(|name| name.strip_prefix(task.as_str()))
        .any(|rest| rest.is_empty() || rest.starts_with(['[', '/', '.']))
}

/// The output format of events.
#[derive(Debug, Clone)]
pub enum LogFormat {
    /// Lines for people, with times in this zone.
    Text(TimeZone),
    /// The same lines with styles.
    StyledText(TimeZone),
    /// Lines of JSON, as stored in the journal.
    Json,
}

/// The mode for future events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchMode {
    /// Print only the existing events.
    No,
    /// Wait until the run ends or its process exits.
    UntilRunEnds,
}

/// The state of the run after the last event was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunLiveness {
    /// The run has ended, or a process drives it.
    EndedOrRunning,
    /// The run has not ended, and no process drives it.
    Interrupted,
}

impl Logs<'_> {
    /// Returns whether the plan has the task, or an event belongs to it.
    ///
    /// # Errors
    /// When the events cannot be read.
    pub fn has_task(&self, task: &TaskId) -> Result<bool, JsonLinesError> {
        let mut view = RunView::new(self.run);
        for raw in self.reader.raw_records(self.run, 0) {
            let raw = raw?;
            view.apply(&raw.parse(self.run)?);
            if view.planned_tasks().any(|planned| planned.id == *task) || is_of_task(&raw.json, task) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Prints the events. A closed output ends the printing without an error.
    ///
    /// # Errors
    /// When the events cannot be read or written.
    pub fn print(&self, output: &mut impl Write) -> Result<RunLiveness, JsonLinesError> {
        let mut records = self.reader.raw_records(self.run, 0);
        let mut view = RunView::new(self.run);
        let mut ended = false;
        loop {
            // Checked before reading: a driver releases its lease only after its last event is durable.
            let driven = self.reader.driver(self.run)?.is_some();
            for raw in records.by_ref() {
                let raw = raw?;
                let record = raw.parse(self.run)?;
                ended = matches!(record.event, Event::RunEnded { .. });
                let text = match &self.format {
                    _ if !self.filter.matches(&record, &raw.json) => String::new(),
                    LogFormat::Json => safe_json(&raw.json).into_owned() + "\n",
                    LogFormat::Text(zone) => printable_unstyled(&log_lines(&view, &record, zone)).into_owned(),
                    LogFormat::StyledText(zone) => log_lines(&view, &record, zone),
                };
                view.apply(&record);
                if ignore_closed_pipe(output.write_all(text.as_bytes()))?.is_none() {
                    return Ok(RunLiveness::EndedOrRunning);
                }
            }
            if ignore_closed_pipe(output.flush())?.is_none() || ended {
                return Ok(RunLiveness::EndedOrRunning);
            }
            match (driven, self.watch) {
                (false, _) => return Ok(RunLiveness::Interrupted),
                (true, WatchMode::No) => return Ok(RunLiveness::EndedOrRunning),
                (true, WatchMode::UntilRunEnds) => {}
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Formats the lines about an event with styles, each with the time. `before` is the view of the run before the event.
fn log_lines(before: &RunView, record: &Record, zone: &TimeZone) -> String {
    let at = format_time_with(record.at, zone, "%Y-%m-%d %H:%M:%S%.3f");
    let lines = describe(before, record, Verbosity::EveryEvent);
    lines.iter().map(|line| format!("{}  {}\n", at.dimmed(), styled_line(line))).collect()
}

/// Formats a line with the style of its kind. Its text is escaped already, and is escaped again in case it is not.
fn styled_line(line: &ReportLine) -> String {
    let [subject, colon, word, separator, text] = line.parts();
    let word = if word.is_empty() { String::new() } else { word.style(line_style(line.kind)).to_string() };
    let help = line.help.as_ref().map(|help| format!(" ({})", printable(help))).unwrap_or_default();
    format!("{}{colon}{word}{separator}{}{help}", printable(subject).bold(), printable(text))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::journal::{JournalWriter, MemoryJournal, Store, samples};

    fn with_journal(events: &[Record], then: impl FnOnce(&MemoryJournal, &dyn JournalReader)) {
        let journal = MemoryJournal::default();
        block_on(journal.append(&samples::sample_run_id(), events.into())).expect("appends");
        then(&journal, &*journal.open_reader().expect("opens"));
    }

    fn print_logs(reader: &dyn JournalReader, format: LogFormat, watch: WatchMode) -> String {
        let mut output = Vec::new();
        let logs = Logs { reader, run: &samples::sample_run_id(), format, filter: LogFilter::default(), watch };
        logs.print(&mut output).expect("prints");
        String::from_utf8(output).expect("UTF-8")
    }

    #[test]
    fn prints_a_line_for_each_event() {
        with_journal(&samples::sample_run(), |_, reader| {
            let text = print_logs(reader, LogFormat::Text(TimeZone::UTC), WatchMode::No);
            assert!(text.lines().count() >= samples::sample_run().len(), "{text}");
            insta::assert_snapshot!(text);
        });
    }

    #[test]
    fn json_lines_match_the_journal() {
        with_journal(&samples::sample_run(), |_, reader| {
            let lines: Vec<Record> = print_logs(reader, LogFormat::Json, WatchMode::No)
                .lines()
                .map(|line| serde_json::from_str(line).expect("a record"))
                .collect();
            assert_eq!(lines, samples::sample_run());
        });
    }

    /// Runs a callback after the first write, to simulate another process.
    struct CallbackWriter<F>(Vec<u8>, Option<F>);
    impl<F: FnOnce()> Write for CallbackWriter<F> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            if let Some(act) = self.1.take() {
                act();
            }
            Ok(())
        }
    }

    fn watch_logs(reader: &dyn JournalReader, act: impl FnOnce()) -> (RunLiveness, usize) {
        let mut output = CallbackWriter(Vec::new(), Some(act));
        let logs = Logs {
            reader,
            run: &samples::sample_run_id(),
            format: LogFormat::Json,
            filter: LogFilter::default(),
            watch: WatchMode::UntilRunEnds,
        };
        let liveness = logs.print(&mut output).expect("prints");
        (liveness, String::from_utf8(output.0).expect("UTF-8").lines().count())
    }

    #[test]
    fn live_logs_continue_until_the_run_ends() {
        let events = samples::sample_run();
        let (before, after) = events.split_at(5);
        with_journal(before, |journal, reader| {
            let _lease = journal.acquire_lease(&samples::sample_run_id()).expect("acquires");
            let appended = || block_on(journal.append(&samples::sample_run_id(), after.into())).expect("appends");
            assert_eq!(watch_logs(reader, appended), (RunLiveness::EndedOrRunning, events.len()));
        });
    }

    #[test]
    fn live_logs_end_when_the_process_exits() {
        let events = samples::sample_run();
        with_journal(&events[..5], |journal, reader| {
            let lease = journal.acquire_lease(&samples::sample_run_id()).expect("acquires");
            let dies = || {
                block_on(journal.append(&samples::sample_run_id(), events[5..7].into())).expect("appends");
                drop(lease);
            };
            assert_eq!(watch_logs(reader, dies), (RunLiveness::Interrupted, 7));
        });
    }

    #[test]
    fn agent_text_is_truncated_and_escaped() {
        let long = "\u{1b}[2J\n".to_owned() + &"é".repeat(1_000);
        let events = samples::records_from_events(serde_json::json!([
            {"type": "agent_logged", "origin": {"agent": "research"}, "message": {"level": "info", "data": long}},
        ]));
        let line = log_lines(&RunView::new(&samples::sample_run_id()), &events[0], &TimeZone::UTC);
        let line = printable_unstyled(&line).into_owned();
        assert!(line.starts_with("2023-11-14 22:13:20.000  research: info: \\u{1b}[2J éé"), "{line}");
        assert!(line.ends_with("éé…\n") && line.chars().count() < 500, "{line}");
    }
}
