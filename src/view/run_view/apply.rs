//! Applies events to the view and returns their report lines. Text of agents is always escaped.

use std::sync::Arc;

use indexmap::IndexMap;

use super::{FinishedAttempt, LineKind, ReportLine, RunView, RunningCall, ScheduledRetry, WaitingOn};
use crate::{
    model::{
        AgentId, Answer, Asker, AttemptId, ChatError, ChatReply, EndCause, Event, Failure, LogMessage, Origin, Outcome,
        Progress, Question, QuestionId, Record, RunStatus, SamplingOrigin, SkipReason, TaskId, Timestamp,
    },
    view::text::{count_text, describe_request, format_elapsed, kept, printable, truncated},
};

impl RunView {
    /// Applies the next event and returns its lines.
    pub fn apply(&mut self, record: &Record) -> Vec<ReportLine> {
        if let Event::RunEnded { status, cause, output_errors, .. } = &record.event {
            let mut lines = self.remaining_lines(*status, output_errors);
            lines.push(self.run_ended(*status, cause.as_ref(), record.at));
            return lines;
        }
        match &record.event {
            Event::ReplanStarted { number, failed } => self.replan_started(*number, failed),
            Event::ReplanProposed { number, remainder } => self.replan_proposed(*number, remainder),
            Event::Replanned { number, result } => self.replanned(*number, result),
            Event::AgentConnected { agent, info } => {
                let warnings = info.warnings.iter().map(|text| format!("warning: {}", truncated(text)));
                let warnings = warnings.map(|text| line(LineKind::Info, agent.as_str(), text));
                self.line_for(record).into_iter().chain(warnings).collect()
            }
            Event::ModelReplied { attempt, result } => {
                let told = self.line_for(record).into_iter();
                told.chain(warning(attempt.task.as_str(), result)).collect()
            }
            Event::SamplingFinished { request, result } => {
                let name = self.samplings.get(request).map(sampling_subject).unwrap_or_default().to_owned();
                self.line_for(record).into_iter().chain(warning(&name, result)).collect()
            }
            _ => self.line_for(record).into_iter().collect(),
        }
    }

    /// Returns the line of any event except the end of the run and replans.
    fn line_for(&mut self, record: &Record) -> Option<ReportLine> {
        let at = record.at;
        match &record.event {
            Event::RunStarted { plan, .. } => {
                self.plan = Some(Arc::clone(plan));
                self.started_at = at;
                let text = format!("{}, run {}", count_text(plan.tasks.len(), "task"), self.run);
                Some(line(LineKind::Run, &plan.name, text))
            }
            Event::RunRerun { of, from } => Some(line(
                LineKind::Run,
                self.plan_name(),
                format!("does run {of} again from task {} on", truncated(from.as_str())),
            )),
            Event::TaskReused { task, output, .. } => {
                self.foreach_tasks.remove(task);
                self.count(task, &Outcome::Succeeded(Arc::clone(output)));
                task.is_planned().then(|| line(LineKind::Succeeded, task.as_str(), "has its earlier result"))
            }
            Event::ResultsKept { task, results, unsettled } => {
                Some(line(LineKind::Info, task.as_str(), kept(results.len(), unsettled.len())))
            }
            Event::RunResumed { away, taken_up, .. } => {
                self.mark_interrupted(taken_up);
                let away = format_elapsed(away.0);
                let text = match taken_up.len() {
                    0 => format!("resumed after {away}, run {}", self.run),
                    calls => format!("resumed after {away}, {} taken up, run {}", count_text(calls, "call"), self.run),
                };
                Some(line(LineKind::Run, self.plan_name(), text))
            }
            // Planning was reported while it happened, before the run.
            Event::GoalPlanned(_) => None,
            Event::AgentConnecting { agent } => {
                self.connecting.push(agent.clone());
                Some(line(LineKind::Started, agent.as_str(), "connecting"))
            }
            Event::AgentConnected { agent, info } => {
                self.connecting.retain(|other| other != agent);
                let server = info.server.as_deref().map(|name| format!(" to {}", truncated(name))).unwrap_or_default();
                let (protocol, tools) = (truncated(&info.protocol), count_text(info.tools.len(), "tool"));
                Some(line(LineKind::Info, agent.as_str(), format!("connected{server}, protocol {protocol}, {tools}")))
            }
            Event::AgentUnavailable { agent, failure } => {
                self.connecting.retain(|other| other != agent);
                Some(failure_line(agent.as_str(), "unavailable", failure))
            }
            Event::TasksAdded { parent, items } => {
                self.foreach_tasks.insert(parent.clone(), (items.len(), at));
                Some(line(LineKind::Info, parent.as_str(), count_text(items.len(), "item")))
            }
            Event::AttemptStarted { attempt, agent, tool } => {
                Some(self.attempt_started(attempt, route_name(agent, tool), at))
            }
            Event::AttemptProgressed { attempt, progress } => self.progressed(attempt, progress),
            Event::InputRequired { attempt, round, .. } => {
                Some(line(LineKind::Info, attempt.task.as_str(), format!("needs input to go on, round {round}")))
            }
            Event::ModelAsked { attempt, .. } => {
                Some(self.attempt_started(attempt, "the language model".to_owned(), at))
            }
            Event::BudgetSpent { what } => {
                Some(line(LineKind::Info, "budget", format!("spent: {}; nothing more is started", truncated(what))))
            }
            Event::ModelReplied { attempt, .. } => {
                let running = self.running.remove(&attempt.task)?;
                self.failed_attempts.insert(attempt.task.clone(), FinishedAttempt::new(running, at));
                None
            }
            Event::ToolCallsAdded { parent, calls } => {
                let tools: Vec<_> = calls.iter().map(|call| truncated(&route_name(&call.agent, &call.tool))).collect();
                Some(line(LineKind::Info, parent.as_str(), format!("the model asks for {}", tools.join(", "))))
            }
            Event::AttemptSucceeded { attempt, output } => {
                let ended = self.running.remove(&attempt.task).map(|running| FinishedAttempt::new(running, at));
                self.count(&attempt.task, &Outcome::Succeeded(Arc::clone(output)));
                let mut text = ended.map(|ended| ended.to_string()).unwrap_or_default();
                if let Some(warning) = &output.warning {
                    text += &format!("; warning: {}", truncated(warning));
                }
                Some(line(LineKind::Succeeded, attempt.task.as_str(), text))
            }
            Event::AttemptFailed { attempt, .. } => {
                let running = self.running.remove(&attempt.task)?;
                self.failed_attempts.insert(attempt.task.clone(), FinishedAttempt::new(running, at));
                // The next event of the task reports the failure with its consequence.
                None
            }
            Event::RetryScheduled { task, ready_at: due, agent, reason } => {
                let ended = self.failed_attempts.remove(task).map(|ended| format!("{ended}: ")).unwrap_or_default();
                let pause = due.since(at);
                let when = if pause.is_zero() { String::new() } else { format!(" in {}", format_elapsed(pause)) };
                self.retrying.insert(task.clone(), ScheduledRetry { at: *due, agent: agent.clone() });
                let next = match agent {
                    Some(agent) => format!("next on {agent}{when}"),
                    None => format!("next try{when}"),
                };
                Some(line(LineKind::Retrying, task.as_str(), format!("{ended}{}; {next}", truncated(reason))))
            }
            Event::TaskEnded { task, outcome: outcome @ Outcome::Skipped(SkipReason::Replanned) } => {
                // The replan already reported it.
                self.count(task, outcome);
                None
            }
            Event::TaskEnded { task, outcome } => Some(self.task_ended(task, outcome, at)),
            Event::QuestionAsked { question, .. } => {
                self.set_waiting_for(question.asker.task(), WaitingOn::Person);
                self.questions.insert(question.id.clone(), Arc::clone(question));
                Some(question_line(LineKind::Asked, question, "asked"))
            }
            Event::QuestionAskedAgain { question, .. } => {
                let question = Arc::clone(self.questions.get(question)?);
                self.set_waiting_for(question.asker.task(), WaitingOn::Person);
                Some(question_line(LineKind::Asked, &question, "asked again"))
            }
            Event::QuestionAnswered { question, answer, by } => self.answered(question, answer, by),
            Event::QuestionLeftOpen { question, reason } => {
                let question = self.questions.get(question)?;
                Some(question_line(LineKind::Deferred, question, &format!("left open, {}", truncated(reason))))
            }
            Event::SamplingStarted { request, origin, chat } => {
                self.set_waiting_for(origin.attempt().map(|attempt| &attempt.task), WaitingOn::Model);
                self.samplings.insert(request.clone(), origin.clone());
                let text =
                    format!("asks the language model for up to {}", count_text(chat.max_tokens as usize, "token"));
                Some(line(LineKind::Started, sampling_subject(origin), text))
            }
            Event::SamplingFinished { request, result } => {
                let origin = self.samplings.remove(request)?;
                self.set_waiting_for(origin.attempt().map(|attempt| &attempt.task), WaitingOn::Agent);
                Some(sampling_line(&origin, result))
            }
            Event::AgentLogged { origin, message } => Some(log_line(origin, message)),
            Event::RequestRefused { question, by, reason } => {
                let text = format!(
                    "refused {} by {}: {}",
                    describe_request(question.as_ref()),
                    truncated(by),
                    truncated(reason)
                );
                Some(line(LineKind::Run, self.plan_name(), text))
            }
            Event::RestApproved { task, by } => {
                Some(line(LineKind::Answered, task.as_str(), format!("all calls accepted (by {})", truncated(by))))
            }
            Event::CancelRequested { by } => {
                let by = by.as_deref().map(|by| format!(" (asked for by {})", truncated(by))).unwrap_or_default();
                Some(line(LineKind::Run, self.plan_name(), format!("cancelling what runs{by}")))
            }
            Event::InterruptRequested => {
                let text = "stopping, and cancelling what runs; press Ctrl-C again to stop at once";
                Some(line(LineKind::Run, self.plan_name(), text))
            }
            Event::RunEnded { .. }
            | Event::ReplanStarted { .. }
            | Event::ReplanProposed { .. }
            | Event::Replanned { .. } => None,
        }
    }

    /// Returns the name of the plan.
    fn plan_name(&self) -> &str {
        self.plan.as_ref().map_or("run", |plan| &plan.name)
    }

    /// Clears what the previous process was waiting for. Calls that are not reattached fail next.
    fn mark_interrupted(&mut self, resumed: &[AttemptId]) {
        self.connecting.clear();
        self.samplings.clear();
        for (task, running) in &mut self.running {
            let waits = self.questions.values().any(|question| question.asker.task() == Some(task));
            let goes_on = resumed.iter().any(|attempt| attempt.task == *task);
            running.waiting_for = if waits && goes_on { WaitingOn::Person } else { WaitingOn::Agent };
        }
    }

    fn attempt_started(&mut self, attempt: &AttemptId, place: String, at: Timestamp) -> ReportLine {
        let number = attempt.number;
        self.failed_attempts.remove(&attempt.task);
        self.retrying.remove(&attempt.task);
        let text = format!("started on {place}, attempt {number}");
        let running = RunningCall {
            attempt: number,
            route_name: place,
            started_at: at,
            order: self.started_calls,
            progress: None,
            waiting_for: WaitingOn::Agent,
        };
        self.started_calls += 1;
        self.running.insert(attempt.task.clone(), running);
        line(LineKind::Started, attempt.task.as_str(), text)
    }

    /// Applies progress unless it decreases, since notifications may arrive out of order.
    fn progressed(&mut self, attempt: &AttemptId, progress: &Progress) -> Option<ReportLine> {
        let running = self.running.get_mut(&attempt.task).filter(|running| running.attempt == attempt.number)?;
        if running.progress.as_ref().is_some_and(|last| last.progress > progress.progress) {
            return None;
        }
        running.progress = Some(progress.clone());
        Some(line(LineKind::Progress, attempt.task.as_str(), progress_text(progress)))
    }

    fn task_ended(&mut self, task: &TaskId, outcome: &Outcome, at: Timestamp) -> ReportLine {
        self.retrying.remove(task);
        let ended = self
            .running
            .remove(task)
            .map(|running| FinishedAttempt::new(running, at))
            .or(self.failed_attempts.remove(task));
        let place = match (self.foreach_tasks.remove(task), ended) {
            (Some((items, since)), _) => format!("{}, {}", count_text(items, "item"), format_elapsed(at.since(since))),
            (None, Some(ended)) => ended.to_string(),
            (None, None) => String::new(),
        };
        self.count(task, outcome);
        match outcome {
            Outcome::Succeeded(_) => line(LineKind::Succeeded, task.as_str(), place),
            Outcome::Failed(failure) => failure_line(task.as_str(), &place, failure),
            Outcome::Skipped(reason) => line(LineKind::Skipped, task.as_str(), truncated(&reason.to_string())),
            Outcome::Cancelled => line(LineKind::Canceled, task.as_str(), place),
        }
    }

    fn answered(&mut self, question: &QuestionId, answer: &Answer, by: &str) -> Option<ReportLine> {
        let question = self.questions.shift_remove(question)?;
        self.set_waiting_for(question.asker.task(), WaitingOn::Agent);
        let said = match answer {
            Answer::Accept { content: Some(content) } => format!("accepted with {}", truncated(&content.to_string())),
            Answer::Accept { content: None } => "accepted".to_owned(),
            Answer::Decline => "declined".to_owned(),
            Answer::Cancel => "dismissed".to_owned(),
        };
        Some(question_line(LineKind::Answered, &question, &format!("{said} (by {})", truncated(by))))
    }

    fn remaining_lines(&self, status: RunStatus, output_errors: &IndexMap<String, String>) -> Vec<ReportLine> {
        let open = self.questions.values().filter(|_| status == RunStatus::Paused);
        let open = open.map(|question| question_line(LineKind::Deferred, question, "waits for an answer"));
        let broken = output_errors.iter().map(|(name, reason)| {
            line(LineKind::Failed, &truncated(name), format!("no such output: {}", truncated(reason)))
        });
        open.chain(broken).collect()
    }

    fn run_ended(&mut self, status: RunStatus, cause: Option<&EndCause>, at: Timestamp) -> ReportLine {
        self.running.clear();
        self.retrying.clear();
        self.connecting.clear();
        let time = format_elapsed(at.since(self.started_at));
        let help = cause.map(|cause| match cause {
            EndCause::RequiredAgentUnavailable { agent } => {
                format!("agent `{agent}` is `required` and unavailable; `kapell agents test {agent}` tells more")
            }
            EndCause::BudgetSpent { what } => format!("the budget is spent: {}", truncated(what)),
            EndCause::AgentChanged { agent, tools } => format!(
                "agent `{agent}` is not what it was when the run began: {} changed; `kapell resume {} \
                 --accept-changes` goes on all the same",
                tools.iter().map(|tool| format!("`{}`", truncated(tool))).collect::<Vec<_>>().join(", "),
                self.run
            ),
            EndCause::Denied => "only what was not approved did not run".to_owned(),
        });
        if status == RunStatus::Interrupted {
            let open = self.task_count().saturating_sub(self.counts.ended());
            let text = format!("{}, {open} left after {time}, run {}", self.counts, self.run);
            let help = format!("`kapell resume {}` continues the run", self.run.short());
            return ReportLine { help: Some(help), ..line(LineKind::Ended(status), self.plan_name(), text) };
        }
        let text = format!("{} in {time}, run {}", self.counts, self.run);
        ReportLine { help, ..line(LineKind::Ended(status), self.plan_name(), text) }
    }

    /// Counts the outcome of a task of the plan; items are not counted.
    fn count(&mut self, task: &TaskId, outcome: &Outcome) {
        if task.is_planned() {
            self.counts.add(outcome);
        }
    }

    fn set_waiting_for(&mut self, task: Option<&TaskId>, waits: WaitingOn) {
        if let Some(running) = task.and_then(|task| self.running.get_mut(task)) {
            running.waiting_for = waits;
        }
    }
}

/// Formats progress: `40%, fetching`, `3 of 8`, `3`.
pub(crate) fn progress_text(progress: &Progress) -> String {
    let message = progress.message.as_deref().map(truncated).filter(|message| !message.is_empty());
    let far = match progress.total {
        Some(total) if total > 0.0 => format!("{:.0}%", (progress.progress / total * 100.0).clamp(0.0, 100.0)),
        _ => format_number(progress.progress),
    };
    message.map_or(far.clone(), |message| format!("{far}, {message}"))
}

/// Formats a number in few digits, even if it is large.
fn format_number(number: f64) -> String {
    if number.abs() < 1e15 { number.to_string() } else { format!("{number:e}") }
}

pub(super) fn line(mark: LineKind, subject: &str, text: impl Into<String>) -> ReportLine {
    ReportLine { kind: mark, subject: truncated(subject), text: text.into(), help: None }
}

fn failure_line(subject: &str, place: &str, failure: &Failure) -> ReportLine {
    let message = truncated(&failure.message);
    let text = if place.is_empty() { message } else { format!("{place}: {message}") };
    ReportLine { help: failure.help.as_deref().map(truncated), ..line(LineKind::Failed, subject, text) }
}

/// Returns the line for a change of a question, with its message.
fn question_line(mark: LineKind, question: &Question, news: &str) -> ReportLine {
    let subject = match &question.asker {
        Asker::Plan { task } => task.to_string(),
        Asker::Replan { number } => format!("replan {number}"),
        Asker::Agent(origin) => subject(origin).to_owned(),
        Asker::Host { attempt } => attempt.task.to_string(),
    };
    line(mark, &subject, format!("{news}: {}", truncated(&question.message)))
}

fn sampling_line(origin: &SamplingOrigin, result: &Result<ChatReply, ChatError>) -> ReportLine {
    let text = match result {
        Ok(reply) => {
            let usage = reply.usage.map(|usage| format!(", {} + {} tokens", usage.input_tokens, usage.output_tokens));
            format!("language model {} answered{}", truncated(&reply.model), usage.unwrap_or_default())
        }
        Err(error) => format!("the language model did not answer: {}", truncated(&error.to_string())),
    };
    line(LineKind::Info, sampling_subject(origin), text)
}

/// Returns the subject of lines about a request to the language model.
fn sampling_subject(sampler: &SamplingOrigin) -> &str {
    match sampler {
        SamplingOrigin::Agent(origin) => subject(origin),
        SamplingOrigin::Planner { .. } => sampler.name(),
    }
}

fn log_line(origin: &Origin, message: &LogMessage) -> ReportLine {
    let data = message.data.as_str().map_or_else(|| message.data.to_string(), str::to_owned);
    let logger = message.logger.as_deref().map(|logger| format!(" {}", truncated(logger))).unwrap_or_default();
    line(LineKind::Log, subject(origin), format!("{}{logger}: {}", truncated(&message.level), truncated(&data)))
}

/// Returns the line for the warning of a reply, if any.
fn warning(subject: &str, result: &Result<ChatReply, ChatError>) -> Option<ReportLine> {
    let warning = result.as_ref().ok()?.warning.as_deref()?;
    Some(line(LineKind::Info, subject, format!("warning: {}", printable(warning))))
}

/// Returns the subject of a request: the task that caused it, or else its agent.
fn subject(origin: &Origin) -> &str {
    origin.attempt.as_ref().map_or(origin.agent.as_str(), |attempt| attempt.task.as_str())
}

fn route_name(agent: &AgentId, tool: &str) -> String {
    truncated(&format!("{agent}.{tool}"))
}
