//! The lines about each event.

use std::borrow::Cow;

use serde_json::Value;

use super::words::{
    answer_text, author_text, discarded_call_text, end_cause_text, failed_replan_lines, failure_line, important_line,
    inline_json, log_line, patch_lines, progress_text, question_line, replan_subject, reply_text, reply_warning,
    sampling_subject,
};
use crate::model::{
    Answer, Asker, AttemptId, EndCause, Event, Failure, FailureKind, Form, GoalPlanning, OnFailure, Operation, Outcome,
    PromptCall, Question, QuestionId, Record, RunStatus, SkipReason, TaskId, Timestamp, ToolOutput, Watched,
};
use crate::view::report_line::{LineKind, ReportLine, Verbosity};
use crate::view::run_view::{AgentConnection, RunView};
use crate::view::text::{count_text, format_elapsed, kept, route_name, tokens_text, truncated};

/// Returns the lines about an event. `before` is the view of the run before the event.
pub fn describe(before: &RunView, record: &Record, verbosity: Verbosity) -> Vec<ReportLine> {
    let is_full = verbosity == Verbosity::EveryEvent;
    let mut lines = Description { view: before, at: record.at, is_full }.lines(&record.event);
    lines.retain(|line| line.kind.verbosity() <= verbosity);
    // Without details, only important log messages have a line.
    if let (Event::AgentLogged { origin, message }, Verbosity::Quiet | Verbosity::Progress) = (&record.event, verbosity)
    {
        lines.extend(important_line(origin, message).filter(|line| line.kind.verbosity() <= verbosity));
    }
    lines
}

/// The context of the words about an event.
struct Description<'v> {
    view: &'v RunView,
    at: Timestamp,
    /// Set if every event has a line.
    is_full: bool,
}

impl Description<'_> {
    fn lines(&self, event: &Event) -> Vec<ReportLine> {
        match event {
            Event::RunEnded { status, cause, output_errors, .. } => {
                let mut lines = self.open_question_lines(*status);
                lines.extend(output_errors.iter().map(|(name, reason)| {
                    let text = format!("the output has no value: {}", truncated(reason));
                    ReportLine::new(LineKind::Failed, name, text)
                }));
                lines.push(self.run_ended(*status, cause.as_ref()));
                lines
            }
            Event::ReplanProposed { number, patch } => patch_lines(self.view, *number, patch),
            Event::Replanned { number, result: Ok(patch) } => match self.view.replanning() {
                Some(_) => patch_lines(self.view, *number, patch),
                // The proposal was described before it was approved.
                None if self.is_full => vec![info(&replan_subject(*number), "the proposed tasks are added")],
                None => Vec::new(),
            },
            Event::Replanned { number, result: Err(failure) } => failed_replan_lines(*number, failure),
            Event::AgentConnected { agent, info: description } => {
                let warnings = description.warnings.iter().map(|text| format!("warning: {}", truncated(text)));
                let warnings = warnings.map(|text| ReportLine::new(LineKind::Warning, agent.as_str(), text));
                self.line(event).into_iter().chain(warnings).collect()
            }
            Event::ModelReplied { attempt, result } => {
                let warning = reply_warning(attempt.task.as_str(), result);
                self.line(event).into_iter().chain(warning).collect()
            }
            Event::SamplingFinished { request, result } => {
                let subject = self.view.samplings.get(request).map_or(request.as_str(), sampling_subject);
                self.line(event).into_iter().chain(reply_warning(subject, result)).collect()
            }
            _ => self.line(event).into_iter().collect(),
        }
    }

    /// Returns the line about an event that has at most one besides warnings.
    fn line(&self, event: &Event) -> Option<ReportLine> {
        Some(match event {
            Event::RunStarted { plan, seed, .. } => {
                let seed = if self.is_full { format!(", seed {seed}") } else { String::new() };
                let tasks = count_text(plan.written_tasks().count(), "task");
                ReportLine::new(LineKind::Run, &plan.name, format!("{tasks}, run {}{seed}", self.view.run().short()))
            }
            Event::RunRerun { of, from: Some(from) } => {
                self.run_line(format!("repeats run {} from task `{}`", of.short(), truncated(from.as_str())))
            }
            Event::RunRerun { of, from: None } => {
                self.run_line(format!("repeats the failed tasks of run {}", of.short()))
            }
            Event::RunResumed { downtime, reattached, .. } => {
                let mut resumed = match reattached.len() {
                    0 => String::new(),
                    calls => format!(", {} resumed", count_text(calls, "call")),
                };
                if self.is_full && !reattached.is_empty() {
                    let calls: Vec<_> = reattached.iter().map(|attempt| truncated(&attempt.to_string())).collect();
                    resumed += &format!(" ({})", calls.join(", "));
                }
                let run = self.view.run().short();
                self.run_line(format!("resumed after {}{resumed}, run {run}", format_elapsed(downtime.0)))
            }
            // Planning was reported while it happened, before the run.
            Event::GoalPlanned(planning) => return self.is_full.then(|| self.run_line(planning_text(planning))),
            Event::TaskReused { task, .. } => {
                let is_shown = self.is_full || task.is_planned();
                let line = || ReportLine::new(LineKind::Succeeded, task.as_str(), "reuses its earlier result");
                return is_shown.then(line);
            }
            Event::ResultsKept { task, results, unsettled } => {
                info(task.as_str(), kept(results.len(), unsettled.len()))
            }
            Event::AgentConnecting { agent } => ReportLine::new(LineKind::Detail, agent.as_str(), "connecting"),
            Event::AgentConnected { agent, info: description } => {
                let server = description.server.as_deref().map(|name| format!(" to {}", truncated(name)));
                let (protocol, tools) = (truncated(&description.protocol), count_text(description.tools.len(), "tool"));
                let text = format!("connected{}, protocol {protocol}, {tools}", server.unwrap_or_default());
                detail(agent.as_str(), text)
            }
            Event::AgentUnavailable { agent, failure } => failure_line(agent.as_str(), "unavailable", failure),
            Event::TasksAdded { parent, items } => info(parent.as_str(), count_text(items.len(), "item")),
            Event::GroupStarted { task, .. } => {
                let tasks = self.view.task_definition(task.as_str()).map_or(0, |definition| definition.members().len());
                ReportLine::new(LineKind::Started, task.as_str(), format!("started, {}", count_text(tasks, "task")))
            }
            Event::IterationAdded { parent, ready_at } => {
                let number = self.view.result().task(parent).map_or(1, |task| task.items.iter().flatten().count() + 1);
                let when = ready_at.map(|at| format!(" in {}", format_elapsed(at.since(self.at))));
                info(parent.as_str(), format!("iteration {number}{}", when.unwrap_or_default()))
            }
            Event::TimerStarted { task, until } => {
                info(task.as_str(), format!("waits for {}", format_elapsed(until.since(self.at))))
            }
            Event::SignalAwaited { task, name, deadline } => {
                info(task.as_str(), format!("waits for the signal `{}`{}", truncated(name), self.within(*deadline)))
            }
            Event::WatchStarted { task, watched, deadline } => {
                let what = match watched {
                    Watched::File { path, changed: false } => format!("the file `{}`", truncated(path)),
                    Watched::File { path, changed: true } => format!("a change of the file `{}`", truncated(path)),
                    Watched::Resource { agent, uri } => format!("a change of `{}` of {agent}", truncated(uri)),
                };
                info(task.as_str(), format!("waits for {what}{}", self.within(*deadline)))
            }
            Event::WatchBaselineRecorded { task, .. } => {
                detail(task.as_str(), "the state before the change is recorded")
            }
            Event::SignalReceived { name, by, .. } => info(name, format!("signal received ({})", author_text(by))),
            Event::AttemptStarted { attempt, agent, tool } => started(attempt, &route_name(agent, tool)),
            Event::AttemptProgressed { attempt, progress } => {
                let running = self.view.running.get(&attempt.task);
                let is_newer = running.is_some_and(|running| !running.is_outdated(attempt, progress));
                let line = || ReportLine::new(LineKind::Progress, attempt.task.as_str(), progress_text(progress));
                return (is_newer || self.is_full).then(line);
            }
            Event::InputRequired { attempt, round, .. } => {
                detail(attempt.task.as_str(), format!("requests input, round {round}"))
            }
            Event::ModelRequested { attempt, repair, retry, .. } => {
                let reason = match (repair, retry) {
                    (true, _) if self.is_full => ", to correct the answer",
                    (_, true) if self.is_full => ", again",
                    _ => "",
                };
                started(attempt, &format!("the language model{reason}"))
            }
            Event::ModelReplied { attempt, result } => {
                return self.is_full.then(|| info(attempt.task.as_str(), reply_text(result)));
            }
            Event::ToolCallsAdded { parent, calls } => detail(parent.as_str(), tool_calls_text(calls)),
            Event::AttemptSucceeded { attempt, output } => self.succeeded(attempt, output),
            // The next event of the task states the consequence.
            Event::AttemptFailed { attempt, failure } => {
                let line = || ReportLine {
                    kind: LineKind::Retrying,
                    ..failure_line(attempt.task.as_str(), &self.call_text(&attempt.task), failure)
                };
                return self.is_full.then(line);
            }
            Event::RetryScheduled { task, ready_at, agent, reason } => {
                let delay = ready_at.since(self.at);
                let when = if delay.is_zero() { String::new() } else { format!(" in {}", format_elapsed(delay)) };
                let next = match agent {
                    Some(agent) => format!("retrying on {agent}{when}"),
                    None => format!("next attempt{when}"),
                };
                if self.is_reported(task, reason) {
                    return Some(info(task.as_str(), next));
                }
                let call = self.call_text(task);
                let call = if call.is_empty() { call } else { call + ": " };
                ReportLine::new(LineKind::Retrying, task.as_str(), format!("{call}{}; {next}", truncated(reason)))
            }
            Event::AnswerAccepted { task, .. } => detail(task.as_str(), "saves its answer"),
            Event::TaskEnded { task, outcome } => return self.task_ended(task, outcome),
            Event::ReplanStarted { number, failed } if failed.is_empty() => {
                info(&replan_subject(*number), "checking whether the goal is reached".to_owned())
            }
            Event::ReplanStarted { number, failed } => {
                let failed: Vec<_> = failed.iter().map(|id| format!("`{}`", truncated(id.as_str()))).collect();
                info(&replan_subject(*number), format!("replanning after the failure of {}", failed.join(", ")))
            }
            Event::QuestionAsked { question, .. } => self.asked(question, "asked"),
            Event::QuestionAskedAgain { question, .. } => {
                return Some(self.asked(&self.view.question(question.as_str())?.question, "asked again"));
            }
            Event::QuestionAnswered { question, answer, by } => {
                let is_approval =
                    self.view.question(question.as_str()).is_some_and(|asked| asked.question.call.is_some());
                let status = match answer {
                    Answer::Accept { content: Some(arguments) } if is_approval => {
                        format!("accepted with changed arguments {}", truncated(&arguments.to_string()))
                    }
                    answer => answer_text(answer),
                };
                let status = format!("{status} ({})", author_text(by));
                return self.question_line(LineKind::Answered, question, &status);
            }
            Event::QuestionDeferred { question, reason } => {
                let status = format!("waits for an answer ({})", truncated(reason));
                return self.question_line(LineKind::Deferred, question, &status);
            }
            Event::ToolApproved { agent, tool, by } => {
                let text = format!("all further calls accepted ({})", author_text(by));
                ReportLine::new(LineKind::Answered, &route_name(agent, tool), text)
            }
            Event::RestApproved { task, by } => {
                let text = format!("all calls accepted ({})", author_text(by));
                ReportLine::new(LineKind::Answered, task.as_str(), text)
            }
            Event::SamplingStarted { origin, chat, .. } => {
                let tokens = count_text(chat.max_tokens as usize, "token");
                let text = format!("requests up to {tokens} from the language model");
                detail(sampling_subject(origin), text)
            }
            Event::SamplingFinished { request, result } => match self.view.samplings.get(request) {
                Some(origin) => {
                    let kind = if result.is_ok() { LineKind::Detail } else { LineKind::Warning };
                    ReportLine::new(kind, sampling_subject(origin), reply_text(result))
                }
                None => return self.is_full.then(|| info(request.as_str(), reply_text(result))),
            },
            Event::AgentLogged { origin, message } => log_line(origin, message),
            Event::BudgetSpent { what } => info("budget", format!("spent: {}; nothing more starts", truncated(what))),
            Event::PlanTimeSpent { task, what } => {
                info(task.as_str(), format!("its budget is exhausted: {}; its tasks are cancelled", truncated(what)))
            }
            Event::RequestRefused { question, by, reason } => {
                let request = match question {
                    Some(question) => format!("an answer to {}", truncated(question.as_str())),
                    None => "a cancellation".to_owned(),
                };
                self.run_line(format!("refused {request} by {}: {}", truncated(by), truncated(reason)))
            }
            Event::RunStopped { task, message, .. } => {
                let reason = message.as_deref().map(|message| format!(": {}", truncated(message))).unwrap_or_default();
                info(task.as_str(), format!("ends the run{reason}"))
            }
            Event::RunFinalizing { status } => {
                let text = format!("running the tasks after a run that {}", final_status_text(*status));
                return self.is_full.then(|| self.run_line(text));
            }
            Event::CancelRequested { by } => {
                let by = by.as_deref().map(|by| format!(" (requested by {})", truncated(by))).unwrap_or_default();
                self.run_line(format!("cancelling running calls{by}"))
            }
            Event::InterruptRequested => {
                let run = self.view.run().short();
                let how = format!("; `kapell resume {run}` continues the run; press Ctrl-C again to stop immediately");
                self.run_line(format!("stopping{}", if self.is_full { "" } else { &how }))
            }
            Event::RunEnded { .. } | Event::ReplanProposed { .. } | Event::Replanned { .. } => return None,
        })
    }

    /// Returns a line about the whole run.
    fn run_line(&self, text: impl Into<String>) -> ReportLine {
        let name = self.view.plan_name();
        ReportLine::new(LineKind::Run, if name.is_empty() { "run" } else { name }, text)
    }

    /// Describes the call of a task that ends with this event, or that ended before it; empty if there was none.
    fn call_text(&self, task: &TaskId) -> String {
        match (self.view.running.get(task), self.view.failed_calls.get(task)) {
            (Some(running), _) => running.summary(self.at),
            (None, Some(ended)) => ended.call.summary(ended.ended_at),
            (None, None) => String::new(),
        }
    }

    /// Returns the time that a wait has until it fails, as the end of a line.
    fn within(&self, deadline: Option<Timestamp>) -> String {
        deadline.map(|at| format!(", for at most {}", format_elapsed(at.since(self.at)))).unwrap_or_default()
    }

    /// Returns whether the line of the last attempt has this message.
    fn is_reported(&self, task: &TaskId, message: &str) -> bool {
        self.is_full && self.view.failed_calls.get(task).is_some_and(|ended| ended.failure.as_deref() == Some(message))
    }

    fn succeeded(&self, attempt: &AttemptId, output: &ToolOutput) -> ReportLine {
        let running = self.view.running.get(&attempt.task);
        let mut text = running.map(|running| running.summary(self.at)).unwrap_or_default();
        if self.is_full {
            text += &match output.missing_file().or_else(|| output.file_of_text().cloned()) {
                Some(file) => format!("; result: in the file {}", file.name),
                None => format!("; result: {}", truncated(&inline_json(&output.value()))),
            };
        }
        if output.cached {
            text += "; from the cache";
        }
        if output.early {
            text += "; called while the plan was written";
        }
        if let Some(saved) = &output.saved {
            text += &format!("; saved as {}", truncated(&saved.name));
        }
        if let Some(warning) = &output.warning {
            text += &format!("; warning: {}", truncated(warning));
        }
        ReportLine::new(LineKind::Succeeded, attempt.task.as_str(), text)
    }

    fn task_ended(&self, id: &TaskId, outcome: &Outcome) -> Option<ReportLine> {
        let call = || match self.view.foreach_tasks.get(id) {
            Some((items, since)) => {
                format!("{}, {}", count_text(*items, "item"), format_elapsed(self.at.since(*since)))
            }
            None => self.call_text(id),
        };
        let task = id.as_str();
        match outcome {
            // The replan has reported it, or nothing has happened.
            Outcome::Skipped(SkipReason::Replanned | SkipReason::NotTriggered) if !self.is_full => None,
            Outcome::Succeeded(output) => {
                let mut text = call();
                if let Some(saved) = &output.saved {
                    text += &format!("{}saved as {}", if text.is_empty() { "" } else { "; " }, truncated(&saved.name));
                }
                Some(ReportLine::new(LineKind::Succeeded, task, text))
            }
            Outcome::Failed(failure) => {
                let mut line = match self.is_reported(id, &failure.message) {
                    true => ReportLine {
                        help: failure.help.as_deref().map(truncated),
                        ..ReportLine::new(LineKind::Failed, task, call())
                    },
                    false => failure_line(task, &call(), &self.without_repetition(failure)),
                };
                if self.continues_without(task) {
                    line.kind = LineKind::FailedContinuing;
                }
                Some(line)
            }
            Outcome::Skipped(reason) => Some(ReportLine::new(LineKind::Skipped, task, truncated(&reason.to_string()))),
            Outcome::Cancelled => Some(ReportLine::new(LineKind::Cancelled, task, call())),
        }
    }

    /// Returns the failure of a task, without the reason of an unavailable agent, which has a line of its own.
    fn without_repetition<'f>(&self, failure: &'f Failure) -> Cow<'f, Failure> {
        if self.is_full || failure.kind != FailureKind::AgentUnavailable {
            return Cow::Borrowed(failure);
        }
        let mut agents = self.view.agents().iter();
        let is_reason = |connection: &AgentConnection| match connection {
            AgentConnection::Unavailable(reason) => failure.message.contains(reason.message.as_str()),
            _ => false,
        };
        match agents.find(|(_, connection)| is_reason(connection)) {
            Some((agent, _)) => {
                let message = format!("agent `{agent}` is unavailable");
                Cow::Owned(Failure::new(FailureKind::AgentUnavailable, message))
            }
            None => Cow::Borrowed(failure),
        }
    }

    /// Returns whether the plan permits the failure of a task, or of the task that an item belongs to.
    fn continues_without(&self, task: &str) -> bool {
        let name = TaskId::planned_task_name(task);
        let planned = self.view.planned_tasks().find(|planned| planned.id.as_str() == name);
        planned.is_some_and(|planned| planned.on_failure == OnFailure::Continue)
    }

    fn asked(&self, question: &Question, verb: &str) -> ReportLine {
        let mut line = match &question.asker {
            Asker::Agent(origin) => {
                let status = format!("{verb} by {}", truncated(origin.agent.as_str()));
                question_line(LineKind::Asked, question, &status)
            }
            _ => question_line(LineKind::Asked, question, verb),
        };
        if let Form::Url { url, .. } = &question.form {
            line.text.push_str(&format!(" {}", truncated(url)));
        }
        line
    }

    fn question_line(&self, kind: LineKind, question: &QuestionId, status: &str) -> Option<ReportLine> {
        Some(question_line(kind, &self.view.question(question.as_str())?.question, status))
    }

    /// Returns a line for each question that a paused run waits for.
    fn open_question_lines(&self, status: RunStatus) -> Vec<ReportLine> {
        let open = self.view.open_questions().filter(|_| status == RunStatus::Paused);
        open.map(|asked| question_line(LineKind::Deferred, &asked.question, "waits for an answer")).collect()
    }

    fn run_ended(&self, status: RunStatus, cause: Option<&EndCause>) -> ReportLine {
        let (run, counts) = (self.view.run(), self.view.counts());
        let time = format_elapsed(self.view.elapsed(self.at));
        let kind = LineKind::Ended(status);
        let unfinished = match status {
            RunStatus::Interrupted | RunStatus::Paused => format!(", {} unfinished", self.view.unfinished_count()),
            _ => String::new(),
        };
        let help = cause.map(|cause| end_cause_text(cause, run));
        ReportLine { kind, help, ..self.run_line(format!("{counts}{unfinished} in {time}, run {}", run.short())) }
    }
}

/// Describes the status that a run has before its hooks.
fn final_status_text(status: RunStatus) -> String {
    match status {
        RunStatus::Cancelled | RunStatus::Interrupted => format!("was {status}"),
        status => status.to_string(),
    }
}

fn info(subject: &str, text: impl Into<String>) -> ReportLine {
    ReportLine::new(LineKind::Info, subject, text)
}

fn detail(subject: &str, text: impl Into<String>) -> ReportLine {
    ReportLine::new(LineKind::Detail, subject, text)
}

fn started(attempt: &AttemptId, route: &str) -> ReportLine {
    let text = format!("started on {route}, attempt {}", attempt.number);
    ReportLine::new(LineKind::Started, attempt.task.as_str(), text)
}

fn tool_calls_text(calls: &[PromptCall]) -> String {
    if let [PromptCall { agent, operation: Operation::GetPrompt, arguments, .. }] = calls {
        let name = arguments.get("name").and_then(Value::as_str).unwrap_or_default();
        return format!("uses the prompt {}", route_name(agent, name));
    }
    let tools: Vec<_> = calls.iter().map(|call| route_name(&call.agent, &call.tool)).collect();
    format!("the model requests {}", tools.join(", "))
}

fn planning_text(planning: &GoalPlanning) -> String {
    let exchanges = count_text(planning.exchanges.len(), "exchange");
    let used = planning.usage().map(|usage| format!(", {}", tokens_text(usage))).unwrap_or_default();
    let discarded: Vec<String> = planning.discarded_calls.iter().map(discarded_call_text).collect();
    let discarded = match discarded.as_slice() {
        [] => String::new(),
        calls => format!("; discarded early calls: {}", calls.join(", ")),
    };
    format!("planned in {exchanges}{used}, for the goal: {}{discarded}", truncated(&planning.goal))
}
