//! The words for the parts of an event: failures, replies, questions, and patches.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::model::{
    Answer, Asker, ChatError, ChatReply, DiscardReason, DiscardedCall, EndCause, Failure, LogLevel, LogMessage, Origin,
    PlanPatch, Progress, Question, RunId, SamplingOrigin, SentCall, Task, TaskId,
};
use crate::view::report_line::{LineKind, ReportLine};
use crate::view::run_view::RunView;
use crate::view::text::{describe_task, printable, route_name, tokens_text, truncated};

/// Formats progress: `40%, fetching`, `3 of 8`, `3`.
pub(crate) fn progress_text(progress: &Progress) -> String {
    let message = progress.message.as_deref().map(truncated).filter(|message| !message.is_empty());
    let amount = match progress.percent() {
        Some(percent) => format!("{percent:.0}%"),
        None => format_number(progress.progress),
    };
    message.map_or(amount.clone(), |message| format!("{amount}, {message}"))
}

/// Formats a number in few digits, even if it is large.
fn format_number(number: f64) -> String {
    if number.abs() < 1e15 { number.to_string() } else { format!("{number:e}") }
}

/// Returns a line about a failure, after what is known of the call.
pub(super) fn failure_line(subject: &str, call: &str, failure: &Failure) -> ReportLine {
    let message = truncated(&failure.message);
    let text = if call.is_empty() { message } else { format!("{call}: {message}") };
    ReportLine { help: failure.help.as_deref().map(truncated), ..ReportLine::new(LineKind::Failed, subject, text) }
}

/// Returns a line about a question: its ID, its status, and its message.
pub(super) fn question_line(kind: LineKind, question: &Question, status: &str) -> ReportLine {
    let subject = match &question.asker {
        Asker::Plan { task } => task.to_string(),
        Asker::Replan { number } => replan_subject(*number),
        Asker::Agent(origin) => origin_subject(origin).to_owned(),
        Asker::Host { attempt } => attempt.task.to_string(),
    };
    ReportLine::new(kind, &subject, format!("{} {status}: {}", question.id, truncated(&question.message)))
}

/// Describes an answer with its content.
pub(super) fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Accept { content: Some(content) } => format!("accepted with {}", truncated(&content.to_string())),
        Answer::Accept { content: None } => "accepted".to_owned(),
        Answer::Decline => "declined".to_owned(),
        Answer::Cancel => "dismissed".to_owned(),
    }
}

/// Describes the author of an answer.
pub(super) fn author_text(by: &str) -> String {
    match by.strip_prefix("command (").and_then(|by| by.strip_suffix(')')) {
        Some(process) => truncated(&format!("via `kapell answer`, {process}")),
        None if by == "no input available" => "no input is available".to_owned(),
        None if by == "its deadline" => "at its deadline".to_owned(),
        None => format!("by {}", truncated(by)),
    }
}

/// Describes the reply of a language model.
pub(super) fn reply_text(result: &Result<ChatReply, ChatError>) -> String {
    match result {
        Ok(reply) => {
            let used = reply.usage.map(|usage| format!(", {}", tokens_text(usage))).unwrap_or_default();
            format!("language model {} replied{used}", truncated(&reply.model))
        }
        Err(error) => format!("the language model did not reply: {}", truncated(&error.to_string())),
    }
}

/// Returns a line about the warning of a reply, if it has one.
pub(super) fn reply_warning(subject: &str, result: &Result<ChatReply, ChatError>) -> Option<ReportLine> {
    let warning = result.as_ref().ok()?.warning.as_deref()?;
    Some(ReportLine::new(LineKind::Warning, subject, format!("warning: {}", printable(warning))))
}

/// Returns the subject of lines about a request to the language model.
pub(super) fn sampling_subject(origin: &SamplingOrigin) -> &str {
    match origin {
        SamplingOrigin::Agent(origin) => origin_subject(origin),
        SamplingOrigin::Planner { .. } => origin.name(),
    }
}

/// Returns the line of an agent's log message.
pub(super) fn log_line(origin: &Origin, message: &LogMessage) -> ReportLine {
    let logger = message.logger.as_deref().map(|logger| format!(" {}", truncated(logger))).unwrap_or_default();
    let text = format!("{}{logger}: {}", truncated(&message.level), log_text(&message.data));
    ReportLine::new(LineKind::Log, origin_subject(origin), text)
}

/// Returns the line of a log message that a person needs, without its logger: one of the host about the agent, or one that
/// reports a problem.
pub(super) fn important_line(origin: &Origin, message: &LogMessage) -> Option<ReportLine> {
    if let Some(text) = message.host_text() {
        return Some(ReportLine::new(LineKind::Info, origin_subject(origin), truncated(text)));
    }
    let severity = LogLevel::from_name(&message.level).filter(|level| *level >= LogLevel::Warning)?;
    let word = if severity == LogLevel::Warning { "warning" } else { "error" };
    let text = format!("{word}: {}", log_text(&message.data));
    Some(ReportLine::new(LineKind::Warning, origin_subject(origin), text))
}

/// Formats the data of a log message in one line.
pub(crate) fn log_text(data: &Value) -> String {
    truncated(&inline_json(data))
}

/// Returns a line with the arguments of a call.
pub fn call_arguments(call: &SentCall) -> ReportLine {
    let arguments = truncated(&call.arguments.to_string());
    ReportLine::new(LineKind::Detail, call.attempt.task.as_str(), format!("arguments {arguments}"))
}

/// Returns the subject of a request: the task that caused it, or else its agent.
fn origin_subject(origin: &Origin) -> &str {
    origin.attempt.as_ref().map_or(origin.agent.as_str(), |attempt| attempt.task.as_str())
}

/// Returns the subject of lines about a replan.
pub(super) fn replan_subject(number: u32) -> String {
    format!("replan {number}")
}

/// Returns a line for each task that had not started, and for each added task.
pub(super) fn patch_lines(view: &RunView, number: u32, patch: &PlanPatch) -> Vec<ReportLine> {
    let planned: HashMap<_, _> = view.planned_tasks().map(|task| (&task.id, task)).collect();
    let known = |id: &TaskId| planned.get(id).map_or_else(|| truncated(id.as_str()), |task| describe_task(task));
    let removed = patch.removed.iter().map(|id| format!("- {}", known(id)));
    let kept = patch.kept.iter().map(|id| format!("  {}", known(id)));
    let added = patch.added.iter().map(|task: &Arc<Task>| format!("+ {}", describe_task(task)));
    let mut texts: Vec<String> = removed.chain(kept).chain(added).collect();
    texts.extend(patch.missing.as_ref().map(|missing| format!("not done: {}", truncated(missing))));
    if patch.kept.is_empty() && patch.added.is_empty() {
        match (view.is_goal_check(), &patch.missing) {
            (true, None) => texts.push("the goal is reached".to_owned()),
            (true, Some(_)) => {}
            (false, _) => texts.push("no tasks remain".to_owned()),
        }
    }
    let subject = replan_subject(number);
    texts.into_iter().map(|text| ReportLine::new(LineKind::Info, &subject, text)).collect()
}

/// Returns the lines for a replan without a patch: the reasons, and the advice below the last one.
pub(super) fn failed_replan_lines(number: u32, failure: &Failure) -> Vec<ReportLine> {
    let subject = replan_subject(number);
    let mut reasons = failure.message.lines();
    let first = format!("the plan is unchanged: {}", truncated(reasons.next().unwrap_or_default()));
    let mut lines = vec![ReportLine::new(LineKind::Failed, &subject, first)];
    lines.extend(reasons.map(|reason| ReportLine::new(LineKind::Info, &subject, truncated(reason))));
    if let Some(last) = lines.last_mut() {
        last.help = failure.help.as_deref().map(truncated);
    }
    lines
}

/// Describes the cause of a run's end, with the command that helps.
pub fn end_cause_text(cause: &EndCause, run: &RunId) -> String {
    match cause {
        EndCause::RequiredAgentUnavailable { agent } => {
            format!("agent `{agent}` is `required` and unavailable; `kapell agents test {agent}` shows the reason")
        }
        EndCause::BudgetSpent { what } => format!("the budget is exhausted: {}", truncated(what)),
        EndCause::AgentChanged { agent, tools } => format!(
            "agent `{agent}` has changed since the run started: {}; `kapell resume {} --accept-changes` continues with \
             the change",
            tools.iter().map(|tool| format!("`{}`", truncated(tool))).collect::<Vec<_>>().join(", "),
            run.short(),
        ),
        EndCause::Stopped { task, message } => match message {
            Some(message) => format!("task `{}` ended the run: {}", truncated(task.as_str()), truncated(message)),
            None => format!("task `{}` ended the run", truncated(task.as_str())),
        },
        EndCause::Denied => "only calls that were not approved did not run".to_owned(),
    }
}

/// Names a call that was made while a plan was written, and says why no task uses its result.
pub fn discarded_call_text(call: &DiscardedCall) -> String {
    let reason = match call.reason {
        DiscardReason::Unused => "no task uses its result",
        DiscardReason::Failed => "it failed",
        DiscardReason::InputRequested => "its agent asks for input",
    };
    let arguments = Value::Object(call.arguments.clone());
    format!("{} {} ({reason})", route_name(&call.agent, &call.tool), truncated(&inline_json(&arguments)))
}

/// Returns a string unquoted, and any other value as JSON on one line.
pub(super) fn inline_json(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}
