//! The details of a run for `kapell runs show`: its tasks, agents, questions, model requests, and spending.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::{
    list::run_status,
    spending::{self, Budgets},
    text_table::{TableRow, TextTable},
};
use crate::{
    engine::Ledger,
    journal::Holder,
    model::{
        AgentId, Answer, Asker, AttemptId, ChatError, ChatReply, Event, Failure, GoalPlanning, Plan, ProposedCall,
        QuestionId, Record, RequestId, RunId, RunStatus, SamplingOrigin, SentCall, TaskId, Timestamp, Usage,
    },
    view::{
        RunResult, RunResultBuilder, SpendingBreakdown, TaskResult,
        text::{answer_action, count_text, tokens_text},
        time::{DisplayContext, format_duration, format_time, last_event},
    },
};

/// The details of a run, folded from its events.
///
/// Serializes to the result of the run with additional fields. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct RunDetails {
    merge: RunResultBuilder,
    ledger: Ledger<SpendingBreakdown>,
    metadata: RunMetadata,
    last_event: Timestamp,
    driver: Option<Holder>,
    /// The plan and its inputs.
    start: Option<(Arc<Plan>, Arc<Value>)>,
    /// The failures of calls.
    failures: HashMap<AttemptId, Failure>,
}

/// The details that are not part of the result.
#[derive(Debug, Clone, Default, Serialize)]
struct RunMetadata {
    name: String,
    /// The process that drives the run.
    process: Option<u32>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    agents: IndexMap<AgentId, AgentStatus>,
    times: IndexMap<TaskId, TaskTimes>,
    questions: IndexMap<QuestionId, QuestionSummary>,
    sampling: IndexMap<RequestId, SamplingSummary>,
    /// The goal of the plan and the exchanges of the planner.
    #[serde(skip_serializing_if = "Option::is_none")]
    planning: Option<GoalPlanning>,
    #[serde(skip_serializing_if = "Budgets::is_empty")]
    budgets: Budgets,
}

/// The JSON output.
#[derive(Serialize)]
struct RunJson<'a> {
    #[serde(flatten)]
    result: &'a RunResult,
    #[serde(flatten)]
    metadata: &'a RunMetadata,
    spending: &'a SpendingBreakdown,
}

/// The status of an agent.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum AgentStatus {
    Connecting,
    Connected { protocol: String, server: Option<String>, tools: usize },
    Unavailable { failure: Failure },
}

/// The start of a task's first attempt, and the end of the task.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct TaskTimes {
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// A question and its answer.
#[derive(Debug, Clone, Serialize)]
struct QuestionSummary {
    asker: Asker,
    message: String,
    answer: Option<Answer>,
    answered_by: Option<String>,
    left_open_because: Option<String>,
}

/// A request to the language model and its outcome. The text is only in the events.
#[derive(Debug, Clone, Serialize)]
struct SamplingSummary {
    /// The agent that requested sampling, or the task with the prompt.
    asker: String,
    /// The task that caused the request, or `None` if the agent did not name a call.
    task: Option<TaskId>,
    model: Option<String>,
    stop_reason: Option<String>,
    usage: Option<Usage>,
    error: Option<String>,
}

impl SamplingSummary {
    fn new(asker: &str, task: Option<&TaskId>) -> Self {
        let asker = asker.to_owned();
        Self { asker, task: task.cloned(), model: None, stop_reason: None, usage: None, error: None }
    }

    /// Returns the requester, and the task if it differs.
    fn requester(&self) -> String {
        match &self.task {
            Some(task) if task.as_str() != self.asker => format!("{}, for {task}", self.asker),
            _ => self.asker.clone(),
        }
    }
}

impl RunMetadata {
    fn record_reply(&mut self, request: &RequestId, result: &Result<ChatReply, ChatError>) {
        let Some(sampling) = self.sampling.get_mut(request) else { return };
        match result {
            Ok(reply) => {
                sampling.model = Some(reply.model.clone());
                sampling.stop_reason = Some(reply.stop_reason.clone());
                sampling.usage = reply.usage;
            }
            Err(error) => sampling.error = Some(error.to_string()),
        }
    }
}

impl RunDetails {
    /// Creates the details of a run without events, with the process that drives it.
    pub fn new(run: &RunId, driver: Option<Holder>) -> Self {
        let more = RunMetadata { process: driver.and_then(|driver| driver.pid), ..RunMetadata::default() };
        Self {
            merge: RunResultBuilder::new(run),
            ledger: Ledger::default(),
            metadata: more,
            last_event: Timestamp::default(),
            driver,
            start: None,
            failures: HashMap::new(),
        }
    }

    /// Applies the next event.
    pub fn apply(&mut self, record: &Record) {
        self.merge.apply_record(record);
        self.ledger.apply(&record.event);
        self.last_event = record.at;
        let more = &mut self.metadata;
        match &record.event {
            Event::RunStarted { plan, inputs, .. } => {
                more.name.clone_from(&plan.name);
                more.started = Some(record.at);
                more.budgets = Budgets::from_plan(plan);
                self.start = Some((Arc::clone(plan), Arc::clone(inputs)));
            }
            Event::GoalPlanned(planning) => more.planning = Some(planning.clone()),
            Event::RunEnded { .. } => more.ended = Some(record.at),
            Event::RunResumed { .. } => more.ended = None,
            Event::AgentConnecting { agent } => {
                more.agents.insert(agent.clone(), AgentStatus::Connecting);
            }
            Event::AgentConnected { agent, info } => {
                let standing = AgentStatus::Connected {
                    protocol: info.protocol.clone(),
                    server: info.server.clone(),
                    tools: info.tools.len(),
                };
                more.agents.insert(agent.clone(), standing);
            }
            Event::AgentUnavailable { agent, failure } => {
                more.agents.insert(agent.clone(), AgentStatus::Unavailable { failure: failure.clone() });
            }
            Event::ModelAsked { attempt, .. } => {
                more.times.entry(attempt.task.clone()).or_default().started.get_or_insert(record.at);
                let sampling = SamplingSummary::new(attempt.task.as_str(), Some(&attempt.task));
                more.sampling.insert(RequestId::from(attempt.to_string()), sampling);
            }
            Event::ModelReplied { attempt, result } => more.record_reply(&RequestId::from(attempt.to_string()), result),
            Event::AttemptStarted { attempt, .. } => {
                more.times.entry(attempt.task.clone()).or_default().started.get_or_insert(record.at);
            }
            Event::AttemptFailed { attempt, failure } => {
                self.failures.insert(attempt.clone(), failure.clone());
            }
            Event::TasksAdded { parent, .. } => {
                more.times.entry(parent.clone()).or_default().started.get_or_insert(record.at);
            }
            Event::AttemptSucceeded { attempt, .. } => {
                more.times.entry(attempt.task.clone()).or_default().ended = Some(record.at);
            }
            Event::TaskEnded { task, .. } => more.times.entry(task.clone()).or_default().ended = Some(record.at),
            Event::QuestionAsked { question, .. } => {
                let standing = QuestionSummary {
                    asker: question.asker.clone(),
                    message: question.message.clone(),
                    answer: None,
                    answered_by: None,
                    left_open_because: None,
                };
                more.questions.insert(question.id.clone(), standing);
            }
            Event::QuestionAnswered { question, answer, by } => {
                if let Some(standing) = more.questions.get_mut(question) {
                    standing.answer = Some(answer.clone());
                    standing.answered_by = Some(by.clone());
                }
            }
            Event::QuestionLeftOpen { question, reason } => {
                if let Some(standing) = more.questions.get_mut(question) {
                    standing.left_open_because = Some(reason.clone());
                }
            }
            Event::SamplingStarted { request, origin, .. } => {
                let asker = match origin {
                    SamplingOrigin::Agent(origin) => origin.agent.to_string(),
                    SamplingOrigin::Planner { replan } => format!("replan {replan}"),
                };
                let task = origin.attempt().map(|attempt| &attempt.task);
                more.sampling.insert(request.clone(), SamplingSummary::new(&asker, task));
            }
            Event::SamplingFinished { request, result } => more.record_reply(request, result),
            Event::AttemptProgressed { .. }
            | Event::QuestionAskedAgain { .. }
            | Event::RunRerun { .. }
            | Event::TaskReused { .. }
            | Event::InputRequired { .. }
            | Event::ToolCallsAdded { .. }
            | Event::BudgetSpent { .. }
            | Event::ReplanStarted { .. }
            | Event::ReplanProposed { .. }
            | Event::Replanned { .. }
            | Event::RetryScheduled { .. }
            | Event::AgentLogged { .. }
            | Event::RequestRefused { .. }
            | Event::ResultsKept { .. }
            | Event::RestApproved { .. }
            | Event::CancelRequested { .. }
            | Event::InterruptRequested => {}
        }
    }

    /// Formats the details as JSON. `calls` are the calls of the run; long arguments are shortened to a string.
    ///
    /// # Errors
    /// When the serialization fails, which cannot happen for values that came from JSON.
    pub fn json(&self, calls: Vec<SentCall>) -> serde_json::Result<Value> {
        let mut whole = serde_json::to_value(RunJson {
            result: self.merge.result(),
            metadata: &self.metadata,
            spending: self.ledger.spending(),
        })?;
        whole["status"] = self.status().as_str().into();
        let shortened = |call: SentCall| {
            serde_json::to_value(SentCall { arguments: ProposedCall::truncate_arguments(call.arguments), ..call })
        };
        whole["calls"] = calls.into_iter().map(shortened).collect::<serde_json::Result<Vec<_>>>()?.into();
        Ok(whole)
    }

    /// Returns the ID of the run.
    pub(super) fn run(&self) -> &RunId {
        &self.result().run
    }

    /// Returns the result so far.
    pub(super) fn result(&self) -> &RunResult {
        self.merge.result()
    }

    /// Returns the plan and the inputs of the run.
    pub(super) fn start(&self) -> Option<(&Plan, &Value)> {
        self.start.as_ref().map(|(plan, inputs)| (&**plan, &**inputs))
    }

    /// Returns the duration of a task, from the start of its first attempt to its end.
    pub(super) fn duration(&self, task: &TaskId) -> Option<Duration> {
        let times = self.metadata.times.get(task)?;
        Some(times.ended?.since(times.started?))
    }

    /// Returns the status of the run, which is running only while a process drives it.
    pub(super) fn status(&self) -> RunStatus {
        run_status(self.merge.result().status, self.driver)
    }

    /// Formats the details as text.
    pub fn text(&self, viewpoint: &DisplayContext) -> String {
        let sections = [
            ("", self.header_table(viewpoint)),
            ("tasks", self.tasks_table(viewpoint.now.max(self.last_event))),
            ("agents", self.agents_table()),
            ("questions", self.questions_table()),
            ("sampling", self.sampling_table()),
            ("spent", spending::spending_table(self.merge.result(), self.ledger.spending(), &self.metadata.budgets)),
        ];
        let mut text = String::new();
        for (title, table) in sections.into_iter().filter(|(_, table)| !table.is_empty()) {
            if !title.is_empty() {
                let _ = writeln!(text, "\n{title}");
            }
            let _ = write!(text, "{table}");
        }
        text
    }

    fn header_table(&self, viewpoint: &DisplayContext) -> TextTable {
        let result = self.merge.result();
        let zone = &viewpoint.zone;
        let status = match self.driver {
            Some(driver) if self.metadata.ended.is_none() => format!("{}, driven by {driver}", self.status()),
            _ => self.status().to_string(),
        };
        let end = match (self.metadata.started, self.metadata.ended) {
            (Some(started), Some(ended)) => {
                format!("{}, after {}", format_time(ended, zone), format_duration(started, ended))
            }
            _ => format!("not yet; {}", last_event(self.last_event, viewpoint)),
        };
        let mut head = TextTable::default();
        head.push(TableRow::new(["run", result.run.as_str()]));
        if let Some(planning) = &self.metadata.planning {
            head.push(TableRow::new(["goal", &planning.goal]));
        }
        head.push(TableRow::new(["plan", &self.metadata.name]));
        head.push(TableRow::new(["status", &status]));
        if let Some(started) = self.metadata.started {
            head.push(TableRow::new(["started", &format_time(started, zone)]));
        }
        let end = TableRow::new(["ended", &end]);
        head.push(match self.status() {
            RunStatus::Interrupted => {
                end.with_detail(format!("its process is gone; `kapell resume {}` goes on with it", result.run))
            }
            _ => end,
        });
        head
    }

    fn tasks_table(&self, now: Timestamp) -> TextTable {
        let mut table = TextTable::default();
        for (id, task) in &self.merge.result().tasks {
            table.push(self.task_row(id, task, now));
            for (index, item) in task.items.iter().flatten().enumerate() {
                table.push(self.task_row(&id.item(index), item, now));
            }
        }
        table
    }

    /// Returns the result of a task or of an item.
    pub(super) fn task_result(&self, id: &TaskId) -> Option<&TaskResult> {
        let tasks = &self.result().tasks;
        let item = || {
            let (parent, place) = id.as_str().strip_suffix(']')?.rsplit_once('[')?;
            tasks.get(parent)?.items.as_ref()?.get(place.parse::<usize>().ok()?)
        };
        tasks.get(id).or_else(item)
    }

    /// Returns the failure of a call, if it failed.
    pub(super) fn failure_of(&self, attempt: &AttemptId) -> Option<&Failure> {
        self.failures.get(attempt)
    }

    /// Formats a task as a row of a table.
    pub(super) fn task_row(&self, id: &TaskId, task: &TaskResult, now: Timestamp) -> TableRow {
        let tool = match (&task.agent, &task.tool) {
            (Some(agent), Some(tool)) => format!("{agent}.{tool}"),
            _ => String::new(),
        };
        let attempts = match task.attempts {
            0 => String::new(),
            number => count_text(number as usize, "attempt"),
        };
        let times = self.metadata.times.get(id).copied().unwrap_or_default();
        // A task without an end was cut off by the end of the run.
        let ended = times.ended.or(self.metadata.ended).unwrap_or(now);
        let took = times.started.map(|started| format_duration(started, ended)).unwrap_or_default();
        let mut row = TableRow::new([id.as_str(), &task.status.to_string(), &tool, &attempts, &took]);
        if let Some(failure) = &task.error {
            row = row.with_detail(failure.message.clone());
            if let Some(help) = &failure.help {
                row = row.with_detail(format!("help: {help}"));
            }
        }
        if let Some(warning) = &task.warning {
            row = row.with_detail(format!("warning: {warning}"));
        }
        if let Some(number) = task.replanned {
            row = row.with_detail(format!("the rest of the plan was planned anew: replan {number}"));
        }
        match &task.skipped_because {
            Some(reason) => row.with_detail(reason.to_string()),
            None => row,
        }
    }

    fn agents_table(&self) -> TextTable {
        let mut table = TextTable::default();
        for (agent, standing) in &self.metadata.agents {
            table.push(match standing {
                AgentStatus::Connecting => TableRow::new([agent.as_str(), "connecting"]),
                AgentStatus::Connected { protocol, server, tools } => {
                    let server = server.as_deref().unwrap_or_default();
                    TableRow::new([agent.as_str(), "connected", protocol, server, &count_text(*tools, "tool")])
                }
                AgentStatus::Unavailable { failure } => {
                    TableRow::new([agent.as_str(), "unavailable"]).with_detail(failure.message.clone())
                }
            });
        }
        table
    }

    fn questions_table(&self) -> TextTable {
        let mut table = TextTable::default();
        for (id, question) in &self.metadata.questions {
            let asker = match &question.asker {
                Asker::Plan { task } => format!("the plan, for {task}"),
                Asker::Replan { number } => format!("replan {number}"),
                Asker::Agent(origin) => origin.agent.to_string(),
                Asker::Host { attempt } => format!("the host, about {attempt}"),
            };
            let outcome = match (&question.answer, &question.answered_by, &question.left_open_because) {
                (Some(answer), Some(by), _) => format!("{} by {by}", answer_action(answer)),
                (.., Some(reason)) => format!("open: {reason}"),
                _ => "open".to_owned(),
            };
            table.push(TableRow::new([id.as_str(), &asker, &outcome, &question.message]));
        }
        table
    }

    fn sampling_table(&self) -> TextTable {
        let mut table = TextTable::default();
        for turn in self.metadata.planning.iter().flat_map(|planning| &planning.turns) {
            let used = turn.usage.map(tokens_text).unwrap_or_default();
            table.push(TableRow::new(["planning", &turn.model, &turn.stop_reason, &used]));
        }
        for sampling in self.metadata.sampling.values() {
            let word = |text: &Option<String>| text.clone().unwrap_or_default();
            let used = sampling.usage.map(tokens_text).unwrap_or_default();
            let row = TableRow::new([
                sampling.requester().as_str(),
                &word(&sampling.model),
                &word(&sampling.stop_reason),
                &used,
            ]);
            table.push(match &sampling.error {
                Some(error) => row.with_detail(format!("failed: {error}")),
                None => row,
            });
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;
    use crate::journal::samples;

    fn details(events: &[Record]) -> RunDetails {
        let mut details = RunDetails::new(&samples::sample_run_id(), None);
        events.iter().for_each(|record| details.apply(record));
        details
    }

    fn viewpoint() -> DisplayContext {
        DisplayContext { now: Timestamp(1_700_000_100_000), zone: TimeZone::UTC }
    }

    #[test]
    fn shows_a_finished_run() {
        insta::assert_snapshot!(details(&samples::sample_run()).text(&viewpoint()), @r"
        run      01990000-0000-7000-8000-00000000abcd
        plan     lisbon
        status   cancelled
        started  2023-11-14 22:13:20
        ended    2023-11-14 22:13:48, after 28.0s

        tasks
        book     succeeded  travel.book     2 attempts  9.0s
        read     failed                     2 attempts  8.0s
            1 of 2 items failed
            help: `on_failure: continue` goes on
        read[0]  failed     research.fetch  1 attempt   2.0s
            no such page
        read[1]  succeeded  research.fetch  1 attempt   3.0s
        file     skipped
            its condition `false` is false
        post     cancelled

        agents
        travel   connected    2025-11-25  travel 1.0  1 tool
        archive  unavailable
            `archive` ended at once

        questions
        q1  travel              accepted by person     Book for 420 €?
        q2  the plan, for post  open: no one answered  Post it?

        sampling
        research  m  endTurn  20 tokens in, 3 out

        spent
                               LLM calls  tokens in  tokens out  tool calls
        book                                                     2
        read                                                     2
        research, for no task  1          20         3
        all                    1          20         3           4
        ");
    }

    #[test]
    fn shows_running_and_interrupted_runs() {
        let driver = Some(Holder { pid: Some(1234) });
        let mut driven = RunDetails { driver, ..details(&samples::sample_run()[..8]) };
        driven.apply(&samples::sample_run()[8]);
        let shown = driven.text(&viewpoint());
        let head: Vec<_> = shown.lines().take(5).collect();
        assert_eq!(head[2], "status   running, driven by process 1234");
        assert_eq!(head[4], "ended    not yet; last event 1m32s ago");
        insta::assert_snapshot!(details(&samples::sample_run()[..8]).text(&viewpoint()), @r"
        run      01990000-0000-7000-8000-00000000abcd
        plan     lisbon
        status   interrupted
        started  2023-11-14 22:13:20
        ended    not yet; last event 1m33s ago
            its process is gone; `kapell resume 01990000-0000-7000-8000-00000000abcd` goes on with it

        tasks
        book  running  travel.book  1 attempt  1m36s
        read  waiting
        file  waiting
        post  waiting

        agents
        travel   connected    2025-11-25  travel 1.0  1 tool
        archive  unavailable
            `archive` ended at once

        questions
        q1  travel  open  Book for 420 €?
        ");
    }

    #[test]
    fn json_is_the_result_with_metadata() {
        assert_eq!(
            details(&samples::sample_run()[..8]).json(Vec::new()).expect("serialises")["status"],
            json!("interrupted")
        );
        let json = details(&samples::sample_run()).json(Vec::new()).expect("serialises");
        assert_eq!(json["status"], json!("cancelled"));
        assert_eq!(json["tasks"]["book"]["output"], json!({"id": 7}));
        assert_eq!(
            json["agents"],
            json!({
                "travel": {"status": "connected", "protocol": "2025-11-25", "server": "travel 1.0", "tools": 1},
                "archive": {"status": "unavailable", "failure": {
                    "kind": "agent_unavailable", "message": "`archive` ended at once", "help": "run it by hand",
                }},
            })
        );
        assert_eq!(json["times"]["book"], json!({"started": 1_700_000_004_000_u64, "ended": 1_700_000_013_000_u64}));
        assert_eq!(
            json["sampling"]["r2"],
            json!({
                "asker": "research", "task": null, "model": "m", "stop_reason": "endTurn",
                "usage": {"input_tokens": 20, "output_tokens": 3}, "error": null,
            })
        );
        assert_eq!(json["questions"]["q2"]["left_open_because"], json!("no one answered"));
    }
}
