//! The details of a task for `kapell runs show RUN TASK`: its calls with their arguments, and its result. Nothing is
//! shortened.

use std::fmt::Write as _;

use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::run_details::RunDetails;
use crate::model::{SentCall, TaskId};
use crate::ui::text_table::TextTable;
use crate::view::content_lines;
use crate::view::text::{printable, printable_text};
use crate::view::time::DisplayContext;

/// One task of a run.
#[derive(Debug)]
pub struct TaskDetails<'d> {
    details: &'d RunDetails,
    id: TaskId,
    /// The calls of the task and its items, including the tool calls of a model.
    calls: Vec<SentCall>,
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
        exists.then_some(TaskDetails { details: self, id, calls })
    }
}

impl TaskDetails<'_> {
    /// Formats the task as text with styles.
    pub fn text(&self, context: &DisplayContext) -> String {
        let mut text = String::new();
        let result = self.details.task_result(&self.id);
        if let Some(result) = result {
            let mut table = TextTable::default();
            table.push(self.details.task_row(&self.id, result, context.now));
            let _ = write!(text, "{table}");
        }
        for call in &self.calls {
            let SentCall { attempt, agent, tool, arguments } = call;
            let call = format!("{attempt}  {agent}.{tool}");
            let _ = writeln!(text, "\n{}\n{}", printable(&call).bold(), indented(arguments));
            if let Some(failure) = self.details.failure_of(attempt) {
                let _ = writeln!(text, "    {} {}", "failed:".red(), printable_text(&failure.to_string()));
            }
        }
        if let Some(output) = result.and_then(|result| result.output.as_ref()) {
            let _ = writeln!(text, "\nanswer\n{}", indented(&output.value()));
        }
        let contents = result.map(content_lines).unwrap_or_default();
        if !contents.is_empty() {
            let _ = writeln!(text, "\ncontents\n{}", indented(&contents.join("\n").into()));
        }
        text
    }

    /// Formats the task as JSON: its result, and `calls` with `{task, number, agent, tool, arguments, error}`.
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
            object["error"] = self.details.failure_of(&call.attempt).map(ToString::to_string).into();
            Ok(object)
        };
        object["calls"] = self.calls.iter().map(call).collect::<serde_json::Result<Vec<_>>>()?.into();
        object["task"] = self.id.as_str().into();
        Ok(object)
    }
}

/// Formats a value on indented lines, a string unquoted. Escapes it, since the text around it has styles.
fn indented(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        value => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    printable_text(&text).lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::journal::samples;
    use crate::model::{AttemptId, Timestamp};
    use crate::ui::history::run_details::sample_details;

    fn calls() -> Vec<SentCall> {
        let call = |task: &str, number, arguments| SentCall {
            attempt: AttemptId { task: task.into(), number },
            agent: "research".into(),
            tool: "fetch".into(),
            arguments,
        };
        vec![
            call("read[0]", 1, json!({"url": "https://a.test"})),
            call("reader", 1, json!({})),
            call("read[1]", 1, json!({"url": "https://b.test"})),
        ]
    }

    #[test]
    fn a_task_is_shown_with_its_calls_and_those_of_its_items() {
        let details = sample_details(&samples::sample_run());
        let context = DisplayContext { now: Timestamp(1_700_000_100_000), zone: TimeZone::UTC };
        let task = details.task("read", calls()).expect("the task");
        insta::assert_snapshot!(anstream::adapter::strip_str(&task.text(&context)));
        let json = task.json().expect("JSON");
        assert_eq!((&json["task"], &json["calls"][0]["error"]), (&json!("read"), &json!("no such page")));
        assert_eq!(json["calls"][1]["arguments"], json!({"url": "https://b.test"}));
        let item = details.task("read[1]", calls()).expect("the task");
        assert_eq!(item.json().expect("JSON")["calls"].as_array().map(Vec::len), Some(1));
        assert!(details.task("rea", calls()).is_none());
    }
}
