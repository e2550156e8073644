//! The details of a task for `kapell runs show RUN TASK`: its calls with their arguments, what happened during each, and its
//! result. Nothing is shortened.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::run_details::RunDetails;
use crate::model::{AgentId, AttemptId, RequestId, SentCall, TaskId, Timestamp};
use crate::ui::text_table::{TableRow, TextTable};
use crate::view::run_view::{AskedQuestion, AttemptHistory, LoggedMessage, NextAttempt};
use crate::view::text::{answer_action, count_text, format_elapsed, printable, printable_text, tokens_text};
use crate::view::time::{DisplayContext, format_time_with};
use crate::view::{TaskResult, content_lines};

/// The time after the end of a call in which its standard error may still arrive.
const STDERR_DELAY: Duration = Duration::from_millis(200);
/// The maximum number of lines of standard error for each call; the last ones are shown.
const MAX_STDERR_LINES: usize = 20;

/// One task of a run.
#[derive(Debug)]
pub struct TaskDetails<'d> {
    details: &'d RunDetails,
    id: TaskId,
    /// The calls of the task and its items, including the tool calls of a model.
    calls: Vec<SentCall>,
    /// What the processes of agents wrote to standard error.
    stderr: HashMap<AgentId, Vec<(Timestamp, String)>>,
}

impl RunDetails {
    /// Returns the task `id`, or `None` if the run does not have it. `calls` are the calls of the run.
    pub fn task<'d>(&'d self, id: &str, calls: Vec<SentCall>) -> Option<TaskDetails<'d>> {
        let belongs = |call: &SentCall| {
            let rest = call.attempt.task.as_str().strip_prefix(id);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '/']))
        };
        let calls: Vec<_> = calls.into_iter().filter(belongs).collect();
        let id = TaskId::from(id);
        let exists = self.task_result(&id).is_some() || !calls.is_empty();
        exists.then(|| TaskDetails { details: self, id, calls, stderr: HashMap::new() })
    }
}

impl TaskDetails<'_> {
    /// Returns the agents of the calls, each with the start of its first call.
    pub fn agents(&self) -> HashMap<AgentId, Timestamp> {
        let mut agents = HashMap::new();
        for call in &self.calls {
            if let Some(attempt) = self.attempt(call) {
                agents.entry(call.agent.clone()).or_insert(attempt.started);
            }
        }
        agents
    }

    /// Adds what the processes of an agent wrote to standard error, oldest first.
    pub fn add_stderr(&mut self, agent: AgentId, lines: Vec<(Timestamp, String)>) {
        self.stderr.insert(agent, lines);
    }

    /// Formats the task as text with styles.
    pub fn text(&self, context: &DisplayContext) -> String {
        let mut text = String::new();
        let result = self.details.task_result(&self.id);
        if let Some(result) = result {
            let mut table = TextTable::default();
            table.push(self.details.task_row(&self.id, result, context.now));
            let _ = write!(text, "{table}");
        }
        match result.and_then(|result| result.items.as_deref()) {
            Some(items) => text += &self.items_text(items, context),
            None => {
                text += &self.exchanges_text(context);
                self.calls.iter().for_each(|call| text += &self.call_text(call, context));
            }
        }
        let questions = self.questions_table();
        if !questions.is_empty() {
            let _ = write!(text, "\nquestions\n{questions}");
        }
        if let Some(output) = result.and_then(|result| result.output.as_ref()) {
            let _ = writeln!(text, "\noutput\n{}", indented(&value_text(&output.value()), 4));
        }
        let contents = result.map(content_lines).unwrap_or_default();
        if !contents.is_empty() {
            let _ = writeln!(text, "\ncontents\n{}", indented(&contents.join("\n"), 4));
            if let Some(agent) = result.filter(|result| has_links(result)).and_then(|result| result.agent.as_ref()) {
                let _ = writeln!(text, "    `kapell read {agent} URI` reads a resource");
            }
        }
        text
    }

    /// Formats the items of a `foreach` task, one a line.
    fn items_text(&self, items: &[TaskResult], context: &DisplayContext) -> String {
        let mut table = TextTable::default();
        for (index, item) in items.iter().enumerate() {
            table.push(self.details.task_row(&self.id.item(index), item, context.now));
        }
        if table.is_empty() {
            return "\nno items\n".to_owned();
        }
        let run = self.details.view.run().short();
        format!("\nitems\n{table}\n`kapell runs show {run} '{}'` shows the calls of an item\n", self.id.item(0))
    }

    /// Formats the requests to the language model, one a line.
    fn exchanges_text(&self, context: &DisplayContext) -> String {
        let mut table = TextTable::default();
        for (id, attempt) in self.exchanges() {
            let sampling = self.details.view.history().samplings.get(&RequestId::from(id.to_string()));
            let model = sampling.and_then(|sampling| sampling.model.as_deref()).unwrap_or("the language model");
            let used = sampling.and_then(|sampling| sampling.usage).map(tokens_text).unwrap_or_default();
            let (start, elapsed) = self.times_text(attempt, context);
            let row = TableRow::new([&format!("request {}", id.number), model, &start, &elapsed, &used]);
            let error = sampling.and_then(|sampling| sampling.error.as_ref());
            table.push(error.into_iter().fold(row, |row, error| row.with_detail(format!("failed: {error}"))));
        }
        if table.is_empty() { String::new() } else { format!("\n{table}") }
    }

    /// Formats a call: its arguments, its failure and what follows from it, and what the agent wrote meanwhile.
    fn call_text(&self, call: &SentCall, context: &DisplayContext) -> String {
        let SentCall { attempt: id, agent, tool, arguments } = call;
        let of = if id.task == self.id { String::new() } else { format!(" of {}", id.task) };
        let attempt = self.attempt(call);
        let status = match attempt {
            Some(AttemptHistory { failure: Some(_), .. }) => "failed",
            Some(AttemptHistory { ended: Some(_), .. }) => "succeeded",
            _ if self.details.status().is_unfinished() => "running",
            _ => "without an answer",
        };
        let (start, elapsed) = attempt.map(|attempt| self.times_text(attempt, context)).unwrap_or_default();
        let heading = format!("attempt {}{of}  {agent}.{tool}  {status}  {start}  {elapsed}", id.number);
        let mut text = format!("\n{}", printable(heading.trim_end()).bold());
        let _ = write!(text, "\n    arguments\n{}\n", indented(&value_text(arguments), 8));
        if let Some(failure) = attempt.and_then(|attempt| attempt.failure.as_ref()) {
            let _ = writeln!(text, "{}", indented(&format!("error: {failure}"), 4));
        }
        if let Some(next) = attempt.and_then(|attempt| self.next_text(call, attempt)) {
            let _ = writeln!(text, "{}", indented(&format!("next: {next}"), 4));
        }
        let time = |at| format_time_with(at, &context.zone, "%H:%M:%S%.3f");
        let logged = self.logged(call).map(|logged| {
            let logger = logged.message.logger.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            let data = value_text(&logged.message.data);
            format!("{}  {}: {logger}{data}", time(logged.at), logged.message.level)
        });
        let stderr = self.stderr(call).into_iter().map(|(at, line)| format!("{}  {line}", time(*at)));
        for (title, lines) in [("log", logged.collect::<Vec<_>>()), ("stderr", stderr.collect())] {
            if !lines.is_empty() {
                let _ = writeln!(text, "    {title}\n{}", indented(&lines.join("\n"), 8));
            }
        }
        text
    }

    /// Describes the next attempt of the task, and why it went elsewhere.
    fn next_text(&self, call: &SentCall, attempt: &AttemptHistory) -> Option<String> {
        let NextAttempt { ready_at, agent, reason } = attempt.next.as_ref()?;
        let of_task = || self.calls.iter().filter(|other| other.attempt.task == call.attempt.task);
        let next = of_task().find(|other| other.attempt.number > call.attempt.number);
        let delay = ready_at.since(attempt.ended.unwrap_or(attempt.started));
        let delay = if delay.is_zero() { String::new() } else { format!(", {} later", format_elapsed(delay)) };
        let mut text = match next.map(|next| &next.agent).or(agent.as_ref()) {
            Some(agent) if *agent == call.agent => format!("retried on `{agent}`{delay}"),
            Some(agent) => {
                let earlier = of_task().filter(|other| other.attempt.number <= call.attempt.number);
                let tries = earlier.filter(|other| other.agent == call.agent).count();
                format!("rerouted to `{agent}` after {} on `{}`{delay}", count_text(tries, "attempt"), call.agent)
            }
            None => format!("another attempt{delay}"),
        };
        if attempt.failure.as_ref().is_none_or(|failure| failure.message != *reason) {
            text += &format!(": {reason}");
        }
        Some(text)
    }

    fn questions_table(&self) -> TextTable {
        let mut table = TextTable::default();
        let asked = self.details.view.questions();
        for AskedQuestion { question, answer, .. } in
            asked.filter(|asked| asked.question.asker.task() == Some(&self.id))
        {
            let answer = match answer {
                Some((answer, by)) => format!("{} by {by}", answer_action(answer)),
                None if self.details.status().is_unfinished() => "open".to_owned(),
                None => "never answered".to_owned(),
            };
            table.push(TableRow::new([question.id.as_str(), &answer, &question.message]));
        }
        table
    }

    /// Returns the start of an attempt and its duration, so far as it is known.
    fn times_text(&self, attempt: &AttemptHistory, context: &DisplayContext) -> (String, String) {
        let elapsed = attempt.ended.map(|ended| format_elapsed(ended.since(attempt.started)));
        (format_time_with(attempt.started, &context.zone, "%H:%M:%S%.3f"), elapsed.unwrap_or_default())
    }

    fn attempt(&self, call: &SentCall) -> Option<&AttemptHistory> {
        self.details.view.history().attempts.get(&call.attempt)
    }

    /// Returns the requests of a prompt to the language model.
    fn exchanges(&self) -> impl Iterator<Item = (&AttemptId, &AttemptHistory)> {
        let attempts = self.details.view.history().attempts.iter();
        attempts.filter(|(id, attempt)| id.task == self.id && attempt.route.is_none())
    }

    /// Returns the log messages about a call, and those that its agent sent meanwhile without naming a call.
    fn logged(&self, call: &SentCall) -> impl Iterator<Item = &LoggedMessage> {
        let period = self.period(call);
        self.details.view.history().logs.iter().filter(move |logged| match &logged.origin.attempt {
            Some(attempt) => *attempt == call.attempt,
            None => {
                logged.origin.agent == call.agent
                    && period.is_some_and(|(started, ended)| logged.at >= started && logged.at <= ended)
            }
        })
    }

    /// Returns the last lines that the agent wrote to standard error during a call.
    fn stderr(&self, call: &SentCall) -> Vec<&(Timestamp, String)> {
        let Some((started, ended)) = self.period(call) else { return Vec::new() };
        let lines = self.stderr.get(&call.agent).into_iter().flatten();
        let end = ended.after(STDERR_DELAY);
        let mut lines: Vec<_> = lines.filter(|(at, _)| *at >= started && *at <= end).collect();
        lines.drain(..lines.len().saturating_sub(MAX_STDERR_LINES));
        lines
    }

    /// Returns the start and the end of a call, or the last event of the run if it has no end.
    fn period(&self, call: &SentCall) -> Option<(Timestamp, Timestamp)> {
        let attempt = self.attempt(call)?;
        Some((attempt.started, attempt.ended.unwrap_or(self.details.view.last_event_at())))
    }

    /// Formats the task as JSON: its result, and `calls` with `{task, number, agent, tool, arguments, started, ended, error,
    /// next, log, stderr}`.
    ///
    /// # Errors
    /// When the serialization fails, which cannot happen for values that came from JSON.
    pub fn json(&self) -> serde_json::Result<Value> {
        let mut object = match self.details.task_result(&self.id) {
            Some(result) => serde_json::to_value(result)?,
            None => json!({}),
        };
        let call = |call: &SentCall| {
            let mut object = serde_json::to_value(call)?;
            if let Some(attempt) = self.attempt(call) {
                object["started"] = serde_json::to_value(attempt.started)?;
                object["ended"] = serde_json::to_value(attempt.ended)?;
                object["next"] = serde_json::to_value(&attempt.next)?;
            }
            object["error"] = self.details.failure_of(&call.attempt).map(ToString::to_string).into();
            object["log"] = self.logged(call).map(serde_json::to_value).collect::<serde_json::Result<Vec<_>>>()?.into();
            object["stderr"] =
                self.stderr(call).into_iter().map(|(at, line)| json!({"at": at, "text": line})).collect();
            Ok(object)
        };
        object["calls"] = self.calls.iter().map(call).collect::<serde_json::Result<Vec<_>>>()?.into();
        object["task"] = self.id.as_str().into();
        Ok(object)
    }
}

/// Returns whether the output of a task links to resources.
fn has_links(task: &TaskResult) -> bool {
    let links = task.output.iter().flat_map(|output| output.resources());
    links.into_iter().any(|block| block.resource_text().is_none() && block.data().is_none())
}

/// Returns a string unquoted, and other JSON on several lines.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    }
}

/// Indents each line. Escapes it, since the text around it has styles.
fn indented(text: &str, columns: usize) -> String {
    printable_text(text).lines().map(|line| format!("{:columns$}{line}", "")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::journal::samples;
    use crate::ui::history::run_details::sample_details;

    fn call(task: &str, (number, agent): (u32, &str), arguments: Value) -> SentCall {
        SentCall {
            attempt: AttemptId { task: task.into(), number },
            agent: agent.into(),
            tool: "fetch".into(),
            arguments,
        }
    }

    fn calls() -> Vec<SentCall> {
        vec![
            call("read[0]", (1, "research"), json!({"url": "https://a.test"})),
            call("reader", (1, "research"), json!({})),
            call("read[1]", (1, "research"), json!({"url": "https://b.test"})),
        ]
    }

    fn context() -> DisplayContext {
        DisplayContext { now: Timestamp(1_700_000_100_000), zone: TimeZone::UTC }
    }

    #[test]
    fn list_is_shown_with_its_items() {
        let details = sample_details(&samples::sample_run());
        let task = details.task("read", calls()).expect("the task");
        insta::assert_snapshot!(anstream::adapter::strip_str(&task.text(&context())));
        let json = task.json().expect("JSON");
        assert_eq!((&json["task"], &json["calls"][0]["error"]), (&json!("read"), &json!("no such page")));
        assert_eq!(json["calls"][1]["arguments"], json!({"url": "https://b.test"}));
        assert!(details.task("rea", calls()).is_none());
    }

    #[test]
    fn item_is_shown_with_its_calls() {
        let details = sample_details(&samples::sample_run());
        let item = details.task("read[1]", calls()).expect("the task");
        assert_eq!(item.json().expect("JSON")["calls"].as_array().map(Vec::len), Some(1));
        insta::assert_snapshot!(anstream::adapter::strip_str(&item.text(&context())));
    }

    #[test]
    fn attempts_are_shown_with_routing_logs_and_standard_error() {
        let attempt = |number: u32| json!({"task": "a", "number": number});
        let started = |number, agent: &str| json!({"type": "attempt_started", "attempt": attempt(number), "agent": agent, "tool": "fetch"});
        let failed = |number, message: &str| json!({"type": "attempt_failed", "attempt": attempt(number), "failure": {"kind": "tool_error", "message": message}});
        let retry = |agent: Option<&str>, reason: &str| json!({"type": "retry_scheduled", "task": "a", "ready_at": 1_700_000_009_000_u64, "agent": agent, "reason": reason});
        let logged = |of: Value, text: &str| json!({"type": "agent_logged", "origin": {"agent": "research", "attempt": of}, "message": {"level": "warning", "logger": "fetcher", "data": text}});
        let events = samples::records_from_events(json!([
            samples::run_started_event(json!([samples::sample_task("a", json!({}))])),
            started(1, "research"),
            logged(attempt(1), "slow"),
            failed(1, "busy"),
            retry(Some("research"), "busy"),
            started(2, "research"),
            logged(json!(null), "without a call"),
            failed(2, "down"),
            retry(None, "`research` is unavailable"),
            logged(json!(null), "between two calls"),
            started(3, "archive"),
            {"type": "attempt_succeeded", "attempt": attempt(3), "output": {"content": [{"type": "text", "text": "found"}]}},
        ]));
        let details = sample_details(&events);
        let arguments = || json!({"url": "https://a.test", "token": "***"});
        let sent = [(1, "research"), (2, "research"), (3, "archive")].map(|of| call("a", of, arguments()));
        let mut task = details.task("a", sent.to_vec()).expect("the task");
        let mut agents: Vec<_> = task.agents().into_iter().collect();
        agents.sort();
        let (second, last) = (events[1].at, events[10].at);
        assert_eq!(agents, [("archive".into(), last), ("research".into(), second)]);
        let line = |at: Timestamp, text: &str| (at, text.to_owned());
        let lines =
            vec![line(events[0].at, "before"), line(events[2].at, "Traceback"), line(Timestamp(u64::MAX), "after")];
        task.add_stderr("research".into(), lines);
        insta::assert_snapshot!(anstream::adapter::strip_str(&task.text(&context())));
        let json = task.json().expect("JSON");
        let call = &json["calls"][0];
        assert_eq!((&call["log"][0]["data"], &call["next"]["agent"]), (&json!("slow"), &json!("research")));
        assert_eq!(call["stderr"], json!([{"at": events[2].at, "text": "Traceback"}]));
    }
}
