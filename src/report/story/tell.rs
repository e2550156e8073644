//! What each event does to the story, and the line that tells it.
//! Never shows an agent's text as it came.

use std::sync::Arc;

use indexmap::IndexMap;

use super::{Ended, Line, Mark, Retrying, Running, Story, Waits};
use crate::{
    model::{
        AgentId, Answer, Asker, AttemptId, ChatError, ChatReply, EndCause, Event, Failure, LogMessage, Origin, Outcome,
        Progress, Question, QuestionId, Record, RunStatus, Sampler, SkipReason, TaskId, Timestamp,
    },
    report::text::{brief, count, elapsed, kept, printable, request_in_words},
};

impl Story {
    /// Takes the next event and tells it.
    pub fn tell(&mut self, record: &Record) -> Vec<Line> {
        if let Event::RunEnded { status, cause, output_errors, .. } = &record.event {
            let mut lines = self.left_over(*status, output_errors);
            lines.push(self.run_ended(*status, cause.as_ref(), record.at));
            return lines;
        }
        match &record.event {
            Event::ReplanStarted { number, failed } => self.replan_started(*number, failed),
            Event::ReplanProposed { number, remainder } => self.replan_proposed(*number, remainder),
            Event::Replanned { number, result } => self.replanned(*number, result),
            Event::AgentConnected { agent, info } => {
                let warnings = info.warnings.iter().map(|text| format!("warning: {}", brief(text)));
                let warnings = warnings.map(|text| line(Mark::Noted, agent.as_str(), text));
                self.one(record).into_iter().chain(warnings).collect()
            }
            Event::ModelReplied { attempt, result } => {
                let told = self.one(record).into_iter();
                told.chain(warning(attempt.task.as_str(), result)).collect()
            }
            Event::SamplingFinished { request, result } => {
                let name = self.sampling.get(request).map(sampler).unwrap_or_default().to_owned();
                self.one(record).into_iter().chain(warning(&name, result)).collect()
            }
            _ => self.one(record).into_iter().collect(),
        }
    }

    /// The one line that tells any event but the last and those of a replan.
    fn one(&mut self, record: &Record) -> Option<Line> {
        let at = record.at;
        match &record.event {
            Event::RunStarted { plan, .. } => {
                self.plan = Some(Arc::clone(plan));
                self.started = at;
                let text = format!("{}, run {}", count(plan.tasks.len(), "task"), self.run);
                Some(line(Mark::Run, &plan.name, text))
            }
            Event::RunRerun { of, from } => {
                Some(line(Mark::Run, self.name(), format!("does run {of} again from task {} on", brief(from.as_str()))))
            }
            Event::TaskReused { task, output, .. } => {
                self.parents.remove(task);
                self.count(task, &Outcome::Succeeded(Arc::clone(output)));
                task.is_planned().then(|| line(Mark::Succeeded, task.as_str(), "has its earlier result"))
            }
            Event::ResultsKept { task, results, unsettled } => {
                Some(line(Mark::Noted, task.as_str(), kept(results.len(), unsettled.len())))
            }
            Event::RunResumed { away, taken_up, .. } => {
                self.interrupted(taken_up);
                let away = elapsed(away.0);
                let text = match taken_up.len() {
                    0 => format!("resumed after {away}, run {}", self.run),
                    calls => format!("resumed after {away}, {} taken up, run {}", count(calls, "call"), self.run),
                };
                Some(line(Mark::Run, self.name(), text))
            }
            // It was told while it happened, before the run.
            Event::GoalPlanned(_) => None,
            Event::AgentConnecting { agent } => {
                self.connecting.push(agent.clone());
                Some(line(Mark::Began, agent.as_str(), "connecting"))
            }
            Event::AgentConnected { agent, info } => {
                self.connecting.retain(|other| other != agent);
                let server = info.server.as_deref().map(|name| format!(" to {}", brief(name))).unwrap_or_default();
                let (protocol, tools) = (brief(&info.protocol), count(info.tools.len(), "tool"));
                Some(line(Mark::Noted, agent.as_str(), format!("connected{server}, protocol {protocol}, {tools}")))
            }
            Event::AgentUnavailable { agent, failure } => {
                self.connecting.retain(|other| other != agent);
                Some(failed(agent.as_str(), "unavailable", failure))
            }
            Event::TasksAdded { parent, items } => {
                self.parents.insert(parent.clone(), (items.len(), at));
                Some(line(Mark::Noted, parent.as_str(), count(items.len(), "item")))
            }
            Event::AttemptStarted { attempt, agent, tool } => {
                Some(self.attempt_started(attempt, place(agent, tool), at))
            }
            Event::AttemptProgressed { attempt, progress } => self.progressed(attempt, progress),
            Event::InputRequired { attempt, round, .. } => {
                Some(line(Mark::Noted, attempt.task.as_str(), format!("needs input to go on, round {round}")))
            }
            Event::ModelAsked { attempt, .. } => {
                Some(self.attempt_started(attempt, "the language model".to_owned(), at))
            }
            Event::BudgetSpent { what } => {
                Some(line(Mark::Noted, "budget", format!("spent: {}; nothing more is started", brief(what))))
            }
            Event::ModelReplied { attempt, .. } => {
                let running = self.running.remove(&attempt.task)?;
                self.failed.insert(attempt.task.clone(), Ended::of(running, at));
                None
            }
            Event::ToolCallsAdded { parent, calls } => {
                let tools: Vec<_> = calls.iter().map(|call| brief(&place(&call.agent, &call.tool))).collect();
                Some(line(Mark::Noted, parent.as_str(), format!("the model asks for {}", tools.join(", "))))
            }
            Event::AttemptSucceeded { attempt, output } => {
                let ended = self.running.remove(&attempt.task).map(|running| Ended::of(running, at));
                self.count(&attempt.task, &Outcome::Succeeded(Arc::clone(output)));
                let mut text = ended.map(|ended| ended.to_string()).unwrap_or_default();
                if let Some(warning) = &output.warning {
                    text += &format!("; warning: {}", brief(warning));
                }
                Some(line(Mark::Succeeded, attempt.task.as_str(), text))
            }
            Event::AttemptFailed { attempt, .. } => {
                let running = self.running.remove(&attempt.task)?;
                self.failed.insert(attempt.task.clone(), Ended::of(running, at));
                // The next event about the task tells the failure, with what follows from it.
                None
            }
            Event::RetryScheduled { task, ready_at: due, agent, reason } => {
                let ended = self.failed.remove(task).map(|ended| format!("{ended}: ")).unwrap_or_default();
                let pause = due.since(at);
                let when = if pause.is_zero() { String::new() } else { format!(" in {}", elapsed(pause)) };
                self.retrying.insert(task.clone(), Retrying { at: *due, agent: agent.clone() });
                let next = match agent {
                    Some(agent) => format!("next on {agent}{when}"),
                    None => format!("next try{when}"),
                };
                Some(line(Mark::Retried, task.as_str(), format!("{ended}{}; {next}", brief(reason))))
            }
            Event::TaskEnded { task, outcome: outcome @ Outcome::Skipped(SkipReason::Replanned) } => {
                // The replan has told it.
                self.count(task, outcome);
                None
            }
            Event::TaskEnded { task, outcome } => Some(self.task_ended(task, outcome, at)),
            Event::QuestionAsked { question, .. } => {
                self.wait(question.asker.task(), Waits::Person);
                self.questions.insert(question.id.clone(), Arc::clone(question));
                Some(about(Mark::Asked, question, "asked"))
            }
            Event::QuestionAskedAgain { question, .. } => {
                let question = Arc::clone(self.questions.get(question)?);
                self.wait(question.asker.task(), Waits::Person);
                Some(about(Mark::Asked, &question, "asked again"))
            }
            Event::QuestionAnswered { question, answer, by } => self.answered(question, answer, by),
            Event::QuestionLeftOpen { question, reason } => {
                let question = self.questions.get(question)?;
                Some(about(Mark::LeftOpen, question, &format!("left open, {}", brief(reason))))
            }
            Event::SamplingStarted { request, origin, chat } => {
                self.wait(origin.attempt().map(|attempt| &attempt.task), Waits::Model);
                self.sampling.insert(request.clone(), origin.clone());
                let text = format!("asks the language model for up to {}", count(chat.max_tokens as usize, "token"));
                Some(line(Mark::Began, sampler(origin), text))
            }
            Event::SamplingFinished { request, result } => {
                let origin = self.sampling.remove(request)?;
                self.wait(origin.attempt().map(|attempt| &attempt.task), Waits::Agent);
                Some(sampled(&origin, result))
            }
            Event::AgentLogged { origin, message } => Some(logged(origin, message)),
            Event::RequestRefused { question, by, reason } => {
                let text =
                    format!("refused {} by {}: {}", request_in_words(question.as_ref()), brief(by), brief(reason));
                Some(line(Mark::Run, self.name(), text))
            }
            Event::RestApproved { task, by } => {
                Some(line(Mark::Answered, task.as_str(), format!("all calls accepted (by {})", brief(by))))
            }
            Event::CancelRequested { by } => {
                let by = by.as_deref().map(|by| format!(" (asked for by {})", brief(by))).unwrap_or_default();
                Some(line(Mark::Run, self.name(), format!("cancelling what runs{by}")))
            }
            Event::InterruptRequested => {
                let text = "stopping, and cancelling what runs; press Ctrl-C again to stop at once";
                Some(line(Mark::Run, self.name(), text))
            }
            Event::RunEnded { .. }
            | Event::ReplanStarted { .. }
            | Event::ReplanProposed { .. }
            | Event::Replanned { .. } => None,
        }
    }

    /// The plan's name.
    fn name(&self) -> &str {
        self.plan.as_ref().map_or("run", |plan| &plan.name)
    }

    /// Forgets what the process before this one was about to hear. Calls that are not taken up fail next.
    fn interrupted(&mut self, taken_up: &[AttemptId]) {
        self.connecting.clear();
        self.sampling.clear();
        for (task, running) in &mut self.running {
            let waits = self.questions.values().any(|question| question.asker.task() == Some(task));
            let goes_on = taken_up.iter().any(|attempt| attempt.task == *task);
            running.waits = if waits && goes_on { Waits::Person } else { Waits::Agent };
        }
    }

    fn attempt_started(&mut self, attempt: &AttemptId, place: String, at: Timestamp) -> Line {
        let number = attempt.number;
        self.failed.remove(&attempt.task);
        self.retrying.remove(&attempt.task);
        let text = format!("started on {place}, attempt {number}");
        let running = Running { number, place, since: at, order: self.begun, progress: None, waits: Waits::Agent };
        self.begun += 1;
        self.running.insert(attempt.task.clone(), running);
        line(Mark::Began, attempt.task.as_str(), text)
    }

    /// Notifications can overtake each other, so progress that goes back is not believed.
    fn progressed(&mut self, attempt: &AttemptId, progress: &Progress) -> Option<Line> {
        let running = self.running.get_mut(&attempt.task).filter(|running| running.number == attempt.number)?;
        if running.progress.as_ref().is_some_and(|last| last.progress > progress.progress) {
            return None;
        }
        running.progress = Some(progress.clone());
        Some(line(Mark::Progressed, attempt.task.as_str(), how_far(progress)))
    }

    fn task_ended(&mut self, task: &TaskId, outcome: &Outcome, at: Timestamp) -> Line {
        self.retrying.remove(task);
        let ended = self.running.remove(task).map(|running| Ended::of(running, at)).or(self.failed.remove(task));
        let place = match (self.parents.remove(task), ended) {
            (Some((items, since)), _) => format!("{}, {}", count(items, "item"), elapsed(at.since(since))),
            (None, Some(ended)) => ended.to_string(),
            (None, None) => String::new(),
        };
        self.count(task, outcome);
        match outcome {
            Outcome::Succeeded(_) => line(Mark::Succeeded, task.as_str(), place),
            Outcome::Failed(failure) => failed(task.as_str(), &place, failure),
            Outcome::Skipped(reason) => line(Mark::Skipped, task.as_str(), brief(&reason.to_string())),
            Outcome::Cancelled => line(Mark::Cancelled, task.as_str(), place),
        }
    }

    fn answered(&mut self, question: &QuestionId, answer: &Answer, by: &str) -> Option<Line> {
        let question = self.questions.shift_remove(question)?;
        self.wait(question.asker.task(), Waits::Agent);
        let said = match answer {
            Answer::Accept { content: Some(content) } => format!("accepted with {}", brief(&content.to_string())),
            Answer::Accept { content: None } => "accepted".to_owned(),
            Answer::Decline => "declined".to_owned(),
            Answer::Cancel => "dismissed".to_owned(),
        };
        Some(about(Mark::Answered, &question, &format!("{said} (by {})", brief(by))))
    }

    fn left_over(&self, status: RunStatus, output_errors: &IndexMap<String, String>) -> Vec<Line> {
        let open = self.questions.values().filter(|_| status == RunStatus::Paused);
        let open = open.map(|question| about(Mark::LeftOpen, question, "waits for an answer"));
        let broken = output_errors
            .iter()
            .map(|(name, reason)| line(Mark::Failed, &brief(name), format!("no such output: {}", brief(reason))));
        open.chain(broken).collect()
    }

    fn run_ended(&mut self, status: RunStatus, cause: Option<&EndCause>, at: Timestamp) -> Line {
        self.running.clear();
        self.retrying.clear();
        self.connecting.clear();
        let time = elapsed(at.since(self.started));
        let help = cause.map(|cause| match cause {
            EndCause::RequiredAgentUnavailable { agent } => {
                format!("agent `{agent}` is `required` and unavailable; `kapell agents test {agent}` tells more")
            }
            EndCause::BudgetSpent { what } => format!("the budget is spent: {}", brief(what)),
            EndCause::AgentChanged { agent, tools } => format!(
                "agent `{agent}` is not what it was when the run began: {} changed; `kapell resume {} \
                 --accept-changes` goes on all the same",
                tools.iter().map(|tool| format!("`{}`", brief(tool))).collect::<Vec<_>>().join(", "),
                self.run
            ),
            EndCause::Denied => "only what was not approved did not run".to_owned(),
        });
        if status == RunStatus::Interrupted {
            let open = self.tasks().saturating_sub(self.tally.ended());
            let text = format!("{}, {open} left after {time}, run {}", self.tally, self.run);
            let help = format!("`kapell resume {}` continues the run", self.run.short());
            return Line { help: Some(help), ..line(Mark::Ended(status), self.name(), text) };
        }
        let text = format!("{} in {time}, run {}", self.tally, self.run);
        Line { help, ..line(Mark::Ended(status), self.name(), text) }
    }

    /// Counts tasks of the plan, not items.
    fn count(&mut self, task: &TaskId, outcome: &Outcome) {
        if task.is_planned() {
            self.tally.add(outcome);
        }
    }

    fn wait(&mut self, task: Option<&TaskId>, waits: Waits) {
        if let Some(running) = task.and_then(|task| self.running.get_mut(task)) {
            running.waits = waits;
        }
    }
}

/// Progress in words: `40%, fetching`, `3 of 8`, `3`.
pub(in crate::report) fn how_far(progress: &Progress) -> String {
    let message = progress.message.as_deref().map(brief).filter(|message| !message.is_empty());
    let far = match progress.total {
        Some(total) if total > 0.0 => format!("{:.0}%", (progress.progress / total * 100.0).clamp(0.0, 100.0)),
        _ => number(progress.progress),
    };
    message.map_or(far.clone(), |message| format!("{far}, {message}"))
}

/// A number in few digits, however large it is.
fn number(number: f64) -> String {
    if number.abs() < 1e15 { number.to_string() } else { format!("{number:e}") }
}

pub(super) fn line(mark: Mark, subject: &str, text: impl Into<String>) -> Line {
    Line { mark, subject: brief(subject), text: text.into(), help: None }
}

fn failed(subject: &str, place: &str, failure: &Failure) -> Line {
    let message = brief(&failure.message);
    let text = if place.is_empty() { message } else { format!("{place}: {message}") };
    Line { help: failure.help.as_deref().map(brief), ..line(Mark::Failed, subject, text) }
}

/// What became of a question, with its message.
fn about(mark: Mark, question: &Question, news: &str) -> Line {
    let subject = match &question.asker {
        Asker::Plan { task } => task.to_string(),
        Asker::Replan { number } => format!("replan {number}"),
        Asker::Agent(origin) => subject(origin).to_owned(),
        Asker::Host { attempt } => attempt.task.to_string(),
    };
    line(mark, &subject, format!("{news}: {}", brief(&question.message)))
}

fn sampled(origin: &Sampler, result: &Result<ChatReply, ChatError>) -> Line {
    let text = match result {
        Ok(reply) => {
            let usage = reply.usage.map(|usage| format!(", {} + {} tokens", usage.input_tokens, usage.output_tokens));
            format!("language model {} answered{}", brief(&reply.model), usage.unwrap_or_default())
        }
        Err(error) => format!("the language model did not answer: {}", brief(&error.to_string())),
    };
    line(Mark::Noted, sampler(origin), text)
}

/// Under whom the news of a request to the language model goes.
fn sampler(sampler: &Sampler) -> &str {
    match sampler {
        Sampler::Agent(origin) => subject(origin),
        Sampler::Planner { .. } => sampler.name(),
    }
}

fn logged(origin: &Origin, message: &LogMessage) -> Line {
    let data = message.data.as_str().map_or_else(|| message.data.to_string(), str::to_owned);
    let logger = message.logger.as_deref().map(|logger| format!(" {}", brief(logger))).unwrap_or_default();
    line(Mark::Logged, subject(origin), format!("{}{logger}: {}", brief(&message.level), brief(&data)))
}

/// What a reply warns of, if it does.
fn warning(subject: &str, result: &Result<ChatReply, ChatError>) -> Option<Line> {
    let warning = result.as_ref().ok()?.warning.as_deref()?;
    Some(line(Mark::Noted, subject, format!("warning: {}", printable(warning))))
}

/// Under whom the news of a request goes: the task that caused it, else its agent.
fn subject(origin: &Origin) -> &str {
    origin.attempt.as_ref().map_or(origin.agent.as_str(), |attempt| attempt.task.as_str())
}

fn place(agent: &AgentId, tool: &str) -> String {
    brief(&format!("{agent}.{tool}"))
}
