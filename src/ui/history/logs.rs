//! Prints the events of a run, one line each (`kapell logs`), and optionally watches for new ones (`-f`).

use std::{borrow::Cow, io::Write, thread, time::Duration};

use jiff::tz::TimeZone;
use serde_json::Value;

use crate::{
    journal::JournalReader,
    model::{Asker, ChatError, ChatReply, Event, Failure, Form, Outcome, PlanPatch, Record, RunId, TaskId},
    ui::reporters::json_lines::{JsonLinesError, ignore_closed_pipe},
    view::text::{
        answer_action, count_text, describe_request, describe_task, format_elapsed, kept, printable, safe_json,
        tokens_text, truncated,
    },
    view::time::format_time_with,
};

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
    /// The mode for events that are not in the journal yet.
    pub follow: FollowMode,
}

/// The output format of events.
#[derive(Debug, Clone)]
pub enum LogFormat {
    /// Lines for people, with times in this zone.
    Text(TimeZone),
    /// Lines of JSON, as stored in the journal.
    Json,
}

/// The mode for future events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowMode {
    /// Print only the existing events.
    No,
    /// Wait until the run ends or its process is gone.
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
    /// Prints the events. A closed output ends the printing without an error.
    ///
    /// # Errors
    /// When the events cannot be read or written.
    pub fn print(&self, output: &mut impl Write) -> Result<RunLiveness, JsonLinesError> {
        let mut records = self.reader.raw_records(self.run, 0);
        let mut ended = false;
        loop {
            // Checked before reading: a driver releases its lease only after its last event is durable.
            let driven = self.reader.driver(self.run)?.is_some();
            for raw in records.by_ref() {
                let raw = raw?;
                let record = raw.parse(self.run)?;
                ended = matches!(record.event, Event::RunEnded { .. });
                let line = match &self.format {
                    LogFormat::Json => safe_json(&raw.json).into_owned(),
                    LogFormat::Text(zone) => log_line(&record, zone),
                };
                if ignore_closed_pipe(writeln!(output, "{line}"))?.is_none() {
                    return Ok(RunLiveness::EndedOrRunning);
                }
            }
            if ignore_closed_pipe(output.flush())?.is_none() || ended {
                return Ok(RunLiveness::EndedOrRunning);
            }
            match (driven, self.follow) {
                (false, _) => return Ok(RunLiveness::Interrupted),
                (true, FollowMode::No) => return Ok(RunLiveness::EndedOrRunning),
                (true, FollowMode::UntilRunEnds) => {}
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Formats an event as a line of text: the time, the subject, and the description.
fn log_line(record: &Record, zone: &TimeZone) -> String {
    let (subject, what) = describe(&record.event);
    let at = format_time_with(record.at, zone, "%Y-%m-%d %H:%M:%S%.3f");
    format!("{at}  {}: {}", printable(&subject), printable(&what))
}

/// Returns the subject and the description of an event.
fn describe(event: &Event) -> (String, String) {
    let run = || "run".to_owned();
    match event {
        Event::RunStarted { plan, seed, .. } => {
            (run(), format!("started plan `{}` with {}, seed {seed}", plan.name, count_text(plan.tasks.len(), "task")))
        }
        Event::RunRerun { of, from } => (run(), format!("does run {of} again from task `{from}` on")),
        Event::TaskReused { task, .. } => (task.to_string(), "has its earlier result".to_owned()),
        Event::RunResumed { away, taken_up, .. } => {
            let away = format!("resumed after {}", format_elapsed(away.0));
            let taken_up: Vec<_> = taken_up.iter().map(ToString::to_string).collect();
            let what = if taken_up.is_empty() { away } else { format!("{away}, takes up {}", taken_up.join(", ")) };
            (run(), what)
        }
        Event::GoalPlanned(planning) => {
            let turns = count_text(planning.turns.len(), "turn");
            let used = planning.usage().map(|usage| format!(", {}", tokens_text(usage))).unwrap_or_default();
            (run(), format!("planned in {turns}{used}, for the goal: {}", truncated(&planning.goal)))
        }
        Event::AgentConnecting { agent } => (agent.to_string(), "connecting".to_owned()),
        Event::AgentConnected { agent, info } => {
            let server = info.server.as_deref().unwrap_or("a server without a name");
            let tools = count_text(info.tools.len(), "tool");
            let warnings: String = info.warnings.iter().map(|text| format!("; warning: {}", printable(text))).collect();
            let what = format!("connected to {server} over protocol {}, {tools}{warnings}", info.protocol);
            (agent.to_string(), what)
        }
        Event::AgentUnavailable { agent, failure } => {
            (agent.to_string(), format!("unavailable: {}", describe_failure(failure)))
        }
        Event::TasksAdded { parent, items } => {
            (parent.to_string(), format!("runs over {}", count_text(items.len(), "item")))
        }
        Event::AttemptStarted { attempt, agent, tool } => (attempt.to_string(), format!("calls {agent}.{tool}")),
        Event::AttemptProgressed { attempt, progress } => {
            let total = progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
            let message = progress.message.as_deref().map(|text| format!(": {}", truncated(text))).unwrap_or_default();
            (attempt.to_string(), format!("progress {}{total}{message}", progress.progress))
        }
        Event::InputRequired { attempt, round, .. } => {
            (attempt.to_string(), format!("needs input before it goes on, round {round}"))
        }
        Event::ModelAsked { attempt, repair, retry, .. } => {
            let why = match (repair, retry) {
                (true, _) => ", to mend its answer",
                (_, true) => " again",
                _ => "",
            };
            (attempt.to_string(), format!("asks the language model{why}"))
        }
        Event::ModelReplied { attempt, result } => (attempt.to_string(), describe_reply(result)),
        Event::ToolCallsAdded { parent, calls } => {
            let tools: Vec<_> = calls.iter().map(|call| format!("{}.{}", call.agent, call.tool)).collect();
            (parent.to_string(), format!("the model asks for {}", tools.join(", ")))
        }
        Event::AttemptSucceeded { attempt, output } => {
            let warning = output.warning.as_ref().map(|warning| format!("; warning: {}", truncated(warning)));
            let said = truncated(&inline_json(&output.value()));
            (attempt.to_string(), format!("succeeded: {said}{}", warning.unwrap_or_default()))
        }
        Event::AttemptFailed { attempt, failure } => {
            (attempt.to_string(), format!("failed: {}", describe_failure(failure)))
        }
        Event::RetryScheduled { task, agent, reason, .. } => {
            let on = agent.as_ref().map(|agent| format!(" on {agent}")).unwrap_or_default();
            (task.to_string(), format!("will be tried again{on}: {}", truncated(reason)))
        }
        Event::TaskEnded { task, outcome } => (task.to_string(), describe_outcome(outcome)),
        Event::ReplanStarted { number, failed } => {
            let failed: Vec<_> = failed.iter().map(|id| format!("`{id}`")).collect();
            (replan_subject(*number), format!("asks the planner for another remainder, without {}", failed.join(", ")))
        }
        Event::ReplanProposed { number, remainder } => {
            (replan_subject(*number), format!("proposed: {}", describe_patch(remainder)))
        }
        Event::Replanned { number, result } => {
            let what = match result {
                Ok(remainder) => format!("goes on with another remainder: {}", describe_patch(remainder)),
                Err(failure) => format!("gave no other remainder: {}", describe_failure(failure)),
            };
            (replan_subject(*number), what)
        }
        Event::QuestionAsked { question, .. } => {
            let asker = match &question.asker {
                Asker::Plan { task } => format!("the plan, before `{task}`"),
                Asker::Replan { number } => replan_subject(*number),
                Asker::Agent(origin) => origin.agent.to_string(),
                Asker::Host { attempt } => format!("the host, about {attempt}"),
            };
            let form = match &question.form {
                Form::Approval | Form::Fields { .. } => String::new(),
                Form::Url { url } => format!(" {}", truncated(url)),
            };
            (question.id.to_string(), format!("{asker} asks: {}{form}", truncated(&question.message)))
        }
        Event::QuestionAskedAgain { question, request } => (question.to_string(), format!("asked again as {request}")),
        Event::QuestionAnswered { question, answer, by } => {
            (question.to_string(), format!("{} by {by}", answer_action(answer)))
        }
        Event::RestApproved { task, by } => (task.to_string(), format!("all calls accepted by {}", truncated(by))),
        Event::QuestionLeftOpen { question, reason } => {
            (question.to_string(), format!("left open: {}", truncated(reason)))
        }
        Event::SamplingStarted { origin, chat, .. } => {
            (origin.name().to_owned(), format!("asks the language model for up to {} tokens", chat.max_tokens))
        }
        Event::SamplingFinished { request, result } => (request.to_string(), describe_reply(result)),
        Event::AgentLogged { origin, message } => {
            let logger = message.logger.as_deref().map(|logger| format!(" {logger}")).unwrap_or_default();
            (origin.agent.to_string(), format!("{}{logger}: {}", message.level, truncated(&inline_json(&message.data))))
        }
        Event::BudgetSpent { what } => (run(), format!("its budget is spent: {}", truncated(what))),
        Event::RequestRefused { question, by, reason } => (
            run(),
            format!("refused {} by {}: {}", describe_request(question.as_ref()), truncated(by), truncated(reason)),
        ),
        Event::ResultsKept { task, results, unsettled } => (task.to_string(), kept(results.len(), unsettled.len())),
        Event::CancelRequested { by: Some(by) } => (run(), format!("is to end, asked for by {}", truncated(by))),
        Event::CancelRequested { by: None } => (run(), "a person asked for it to end".to_owned()),
        Event::InterruptRequested => (run(), "its process is asked to stop".to_owned()),
        Event::RunEnded { status, output_errors, .. } => {
            let missing: Vec<_> = output_errors.keys().map(|name| format!("`{name}`")).collect();
            let missing =
                if missing.is_empty() { String::new() } else { format!(", without output {}", missing.join(", ")) };
            (run(), format!("{status}{missing}"))
        }
    }
}

fn replan_subject(number: u32) -> String {
    format!("replan {number}")
}

/// Describes a patch: tasks that are removed, kept, and added.
fn describe_patch(remainder: &PlanPatch) -> String {
    let ids = |sign: &str, ids: &[TaskId]| ids.iter().map(|id| format!("{sign}{id}")).collect::<Vec<_>>();
    let mut parts = ids("- ", &remainder.removed);
    parts.extend(ids("", &remainder.kept));
    parts.extend(remainder.added.iter().map(|task| format!("+ {}", describe_task(task))));
    if parts.is_empty() { "nothing is left to do".to_owned() } else { parts.join("; ") }
}

fn describe_reply(result: &Result<ChatReply, ChatError>) -> String {
    match result {
        Ok(reply) => {
            let used = reply.usage.map(|usage| format!(", {}", tokens_text(usage))).unwrap_or_default();
            let warning =
                reply.warning.as_deref().map(|text| format!("; warning: {}", printable(text))).unwrap_or_default();
            format!("`{}` replied ({}{used}){warning}", reply.model, reply.stop_reason)
        }
        Err(error) => format!("the language model did not reply: {}", truncated(&error.to_string())),
    }
}

fn describe_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded(_) => "succeeded".to_owned(),
        Outcome::Failed(failure) => format!("failed: {}", describe_failure(failure)),
        Outcome::Skipped(reason) => format!("skipped: {reason}"),
        Outcome::Cancelled => "cancelled".to_owned(),
    }
}

fn describe_failure(failure: &Failure) -> String {
    match &failure.help {
        Some(help) => format!("{} ({})", truncated(&failure.message), truncated(help)),
        None => truncated(&failure.message),
    }
}

/// Returns a string unquoted, and any other value as JSON on one line.
fn inline_json(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
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

    fn print_logs(reader: &dyn JournalReader, format: LogFormat, follow: FollowMode) -> String {
        let mut output = Vec::new();
        let logs = Logs { reader, run: &samples::sample_run_id(), format, follow };
        logs.print(&mut output).expect("prints");
        String::from_utf8(output).expect("UTF-8")
    }

    #[test]
    fn prints_one_line_for_each_event() {
        with_journal(&samples::sample_run(), |_, reader| {
            let text = print_logs(reader, LogFormat::Text(TimeZone::UTC), FollowMode::No);
            assert_eq!(text.lines().count(), samples::sample_run().len());
            insta::assert_snapshot!(text, @r#"
            2023-11-14 22:13:20.000  run: started plan `lisbon` with 4 tasks, seed 18446744073709551615
            2023-11-14 22:13:21.000  travel: connecting
            2023-11-14 22:13:22.000  travel: connected to travel 1.0 over protocol 2025-11-25, 1 tool
            2023-11-14 22:13:23.000  archive: unavailable: `archive` ended at once (run it by hand)
            2023-11-14 22:13:24.000  book#1: calls travel.book
            2023-11-14 22:13:25.000  book#1: progress 1 of 4: looking for hotels
            2023-11-14 22:13:26.000  travel: info: {"found":[1,2.5,null]}
            2023-11-14 22:13:27.000  q1: travel asks: Book for 420 €?
            2023-11-14 22:13:28.000  q1: accepted by person
            2023-11-14 22:13:29.000  book#1: failed: the connection was lost
            2023-11-14 22:13:30.000  book: will be tried again on travel: the connection was lost
            2023-11-14 22:13:31.000  book#2: calls travel.book
            2023-11-14 22:13:32.000  book#2: needs input before it goes on, round 1
            2023-11-14 22:13:33.000  book#2: succeeded: {"id":7}
            2023-11-14 22:13:34.000  read: runs over 2 items
            2023-11-14 22:13:35.000  read[1]#1: calls research.fetch
            2023-11-14 22:13:36.000  research: asks the language model for up to 100 tokens
            2023-11-14 22:13:37.000  r2: `m` replied (endTurn, 20 tokens in, 3 out)
            2023-11-14 22:13:38.000  read[1]#1: succeeded: second page
            2023-11-14 22:13:39.000  read[0]#1: calls research.fetch
            2023-11-14 22:13:40.000  read[0]#1: failed: no such page
            2023-11-14 22:13:41.000  read[0]: failed: no such page
            2023-11-14 22:13:42.000  read: failed: 1 of 2 items failed (`on_failure: continue` goes on)
            2023-11-14 22:13:43.000  file: skipped: its condition `false` is false
            2023-11-14 22:13:44.000  q2: the plan, before `post` asks: Post it?
            2023-11-14 22:13:45.000  q2: left open: no one answered
            2023-11-14 22:13:46.000  run: a person asked for it to end
            2023-11-14 22:13:47.000  post: cancelled
            2023-11-14 22:13:48.000  run: cancelled, without output `pages`
            "#);
        });
    }

    #[test]
    fn json_lines_match_the_journal() {
        with_journal(&samples::sample_run(), |_, reader| {
            let lines: Vec<Record> = print_logs(reader, LogFormat::Json, FollowMode::No)
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

    fn follow_logs(reader: &dyn JournalReader, act: impl FnOnce()) -> (RunLiveness, usize) {
        let mut output = CallbackWriter(Vec::new(), Some(act));
        let logs =
            Logs { reader, run: &samples::sample_run_id(), format: LogFormat::Json, follow: FollowMode::UntilRunEnds };
        let stood = logs.print(&mut output).expect("prints");
        (stood, String::from_utf8(output.0).expect("UTF-8").lines().count())
    }

    #[test]
    fn follow_continues_until_the_run_ends() {
        let events = samples::sample_run();
        let (before, after) = events.split_at(5);
        with_journal(before, |journal, reader| {
            let _lease = journal.acquire_lease(&samples::sample_run_id()).expect("takes");
            let appended = || block_on(journal.append(&samples::sample_run_id(), after.into())).expect("appends");
            assert_eq!(follow_logs(reader, appended), (RunLiveness::EndedOrRunning, events.len()));
        });
    }

    #[test]
    fn follow_ends_when_the_process_is_gone() {
        let events = samples::sample_run();
        with_journal(&events[..5], |journal, reader| {
            let lease = journal.acquire_lease(&samples::sample_run_id()).expect("takes");
            let dies = || {
                block_on(journal.append(&samples::sample_run_id(), events[5..7].into())).expect("appends");
                drop(lease);
            };
            assert_eq!(follow_logs(reader, dies), (RunLiveness::Interrupted, 7));
        });
    }

    #[test]
    fn agent_text_is_truncated_and_escaped() {
        let long = "\u{1b}[2J\n".to_owned() + &"é".repeat(1_000);
        let events = samples::records_from_events(serde_json::json!([
            {"type": "agent_logged", "origin": {"agent": "research"}, "message": {"level": "info", "data": long}},
        ]));
        let line = log_line(&events[0], &TimeZone::UTC);
        assert!(line.starts_with("2023-11-14 22:13:20.000  research: info: \\u{1b}[2J éé"), "{line}");
        assert!(line.ends_with("éé…") && line.chars().count() < 500, "{line}");
    }
}
