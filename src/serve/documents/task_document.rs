//! A task with all that is known of it.

use serde_json::{Value, json};

use super::exchanges::Exchanges;
use super::task_output::output_json;
use super::trace::Trace;
use crate::model::{AttemptId, Effect, Operation, Secrets, SentCall, TaskId, Timestamp, Work};
use crate::serve::live::{AgentOutput, RunRecord};
use crate::view::page::{RowState, TaskRow};
use crate::view::run_view::{AttemptHistory, LoggedMessage};
use crate::view::text::{printable, printable_text};

/// The maximum number of lines of standard error for each call.
const MAX_STDERR_LINES: usize = 50;

/// Returns the task of a row, with what its agents wrote to standard error.
pub(crate) fn task_json(row: &TaskRow, sources: &RunRecord, written: &AgentOutput) -> Value {
    let (view, id) = (sources.page.view(), &row.id);
    let definition = view.task_definition(id.as_str()).filter(|_| !id.as_str().contains('/'));
    let operation = definition.map_or(Operation::CallTool, |task| task.operation());
    let (mut exchanges, mut trace) = (Exchanges::default(), Trace::default());
    for record in &sources.records {
        exchanges.apply(id, record);
        trace.apply(id, operation, record);
    }
    let calls: Vec<Value> = own_calls(id, sources).map(|call| call_json(call, sources, written)).collect();
    let mut object = json!({
        "row": row,
        "calls": calls,
        "exchanges": exchanges.into_json(),
        "trace": trace.into_json(),
    });
    let last_call = own_calls(id, sources).filter(|call| call.attempt.task == *id).last();
    if let Some(call) = last_call {
        object["arguments"] = masked(call, &sources.secrets);
    } else if let Some(template) = definition.and_then(|task| task.arguments()) {
        object["arguments"] = template.0.clone();
    }
    if let Some(output) = view.task_result(id).and_then(|result| result.output.as_ref()) {
        object["output"] = output_json(view.run(), output);
    }
    if let Some(help) = view.task_result(id).and_then(|result| result.error.as_ref()?.help.as_ref()) {
        object["help"] = printable(help).into();
    }
    if let Some(effect) = row.effect {
        object["effect"] = json!(effect);
    }
    let is_call = definition.is_some_and(|task| matches!(task.work, Work::Call(_)));
    object["retry_effect"] = retry_effect(row, is_call).into();
    object
}

/// Returns the calls of a task, and of its model.
fn own_calls<'s>(id: &'s TaskId, sources: &'s RunRecord) -> impl Iterator<Item = &'s SentCall> {
    sources.calls.iter().filter(move |call| {
        let rest = call.attempt.task.as_str().strip_prefix(id.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn masked(call: &SentCall, secrets: &Secrets) -> Value {
    let mut arguments = call.arguments.clone();
    secrets.mask_value(&mut arguments);
    arguments
}

fn call_json(call: &SentCall, sources: &RunRecord, written: &AgentOutput) -> Value {
    let view = sources.page.view();
    let attempt = view.history().attempts.get(&call.attempt);
    let period = attempt.map(|attempt| (attempt.started, attempt.ended.unwrap_or(view.last_event_at())));
    let logs = view.history().logs.iter().filter(|logged| is_about(logged, call, period));
    let log = logs.map(|LoggedMessage { at, message, .. }| {
        json!({"at": at, "level": message.level, "logger": message.logger, "data": message.data})
    });
    let lines = written.get(&call.agent).into_iter().flatten();
    let written = lines.filter(|(at, _)| period.is_some_and(|(start, end)| *at >= start && *at <= end));
    let stderr: Vec<Value> =
        written.map(|(at, text)| json!({"at": at, "text": printable(&sources.secrets.mask_text(text))})).collect();
    let stderr = &stderr[stderr.len().saturating_sub(MAX_STDERR_LINES)..];
    let AttemptId { task, number } = &call.attempt;
    let mut object = json!({
        "task": task,
        "number": number,
        "agent": call.agent,
        "tool": call.tool,
        "arguments": masked(call, &sources.secrets),
        "started": attempt.map(|attempt| attempt.started),
        "ended": attempt.and_then(|attempt| attempt.ended),
        "log": log.collect::<Vec<_>>(),
        "stderr": stderr,
    });
    if let Some(AttemptHistory { failure: Some(failure), .. }) = attempt {
        object["error"] = printable_text(&failure.message).into();
    }
    if let Some(next) = attempt.and_then(|attempt| attempt.next.as_ref()) {
        object["next"] = json!({"agent": next.agent, "at": next.ready_at, "reason": printable(&next.reason)});
    }
    object
}

/// Returns whether a log message is about a call: it names the call, or came from its agent meanwhile.
fn is_about(logged: &LoggedMessage, call: &SentCall, period: Option<(Timestamp, Timestamp)>) -> bool {
    match &logged.origin.attempt {
        Some(attempt) => *attempt == call.attempt,
        None => {
            logged.origin.agent == call.agent
                && period.is_some_and(|(start, end)| logged.at >= start && logged.at <= end)
        }
    }
}

/// Describes what a retry of a task would do.
fn retry_effect(row: &TaskRow, is_call: bool) -> &'static str {
    match (row.effect, row.state) {
        _ if !is_call => "A retry does the task and everything after it again.",
        (Some(Effect::ReadOnly), _) => "A retry calls the tool again, which changes nothing.",
        (Some(Effect::Idempotent), _) => "A retry calls the tool again, which is safe to repeat.",
        (Some(Effect::AtMostOnce) | None, RowState::Succeeded) => {
            "A retry keeps the result: the call is not safe to repeat, and it has succeeded."
        }
        (Some(Effect::AtMostOnce) | None, _) => {
            "A retry calls the tool again, although the call may not be safe to repeat."
        }
    }
}
