//! The details of a run as text (`kapell runs show`): its tasks, agents, questions, model requests, and spending.

use std::fmt::Write as _;

use owo_colors::Style;

use super::run_details::RunDetails;
use super::spending;
use crate::model::{Asker, RunId, RunStatus, TaskId, Timestamp};
use crate::ui::styles::{run_status_style, task_status_style};
use crate::ui::text_table::{TableRow, TextTable};
use crate::view::TaskResult;
use crate::view::run_view::AgentConnection;
use crate::view::text::{answer_action, count_text, tokens_text};
use crate::view::time::{DisplayContext, format_duration, format_time, last_event};

impl RunDetails {
    /// Formats the details as text with styles.
    pub fn text(&self, context: &DisplayContext) -> String {
        let sections = [
            ("", self.header_table(context)),
            ("tasks", self.tasks_table(context.now.max(self.view.last_event_at()))),
            ("agents", self.agents_table()),
            ("questions", self.questions_table()),
            ("sampling", self.sampling_table()),
            ("spent", spending::spending_table(self.view.result(), self.view.history().spending(), &self.budgets())),
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

    fn header_table(&self, context: &DisplayContext) -> TextTable {
        let result = self.view.result();
        let zone = &context.zone;
        let status = match self.driver {
            Some(driver) if self.view.ended_at().is_none() => format!("{}, driven by {driver}", self.status()),
            _ => self.status().to_string(),
        };
        let end = match (self.view.started_at(), self.view.ended_at()) {
            (Some(started), Some(ended)) => {
                format!("{}, after {}", format_time(ended, zone), format_duration(started, ended))
            }
            _ => format!("not yet; {}", last_event(self.view.last_event_at(), context)),
        };
        let mut head = TextTable::default();
        head.push(TableRow::new(["run", result.run.short()]));
        head.push(TableRow::new(["full ID", result.run.as_str()]));
        if let Some(planning) = &self.view.history().planning {
            head.push(TableRow::new(["goal", &planning.goal]));
        }
        head.push(TableRow::new(["plan", self.view.plan_name()]));
        head.push(TableRow::new(["status", &status]).with_style(1, run_status_style(self.status())));
        if let Some(earlier) = self.view.earlier_run() {
            head.push(TableRow::new(["retry of", earlier.short()]));
        }
        if !self.reruns.is_empty() {
            let reruns: Vec<&str> = self.reruns.iter().map(RunId::short).collect();
            head.push(TableRow::new(["retried as", &reruns.join(", ")]));
        }
        if let Some(started) = self.view.started_at() {
            head.push(TableRow::new(["started", &format_time(started, zone)]));
        }
        let end = TableRow::new(["ended", &end]);
        head.push(match self.status() {
            RunStatus::Interrupted => {
                end.with_detail(format!("its process has exited; `kapell resume {}` resumes it", result.run.short()))
            }
            _ => end,
        });
        head
    }

    fn tasks_table(&self, now: Timestamp) -> TextTable {
        let mut table = TextTable::default();
        for (id, task) in &self.view.result().tasks {
            self.push_task(id, task, now, &mut table);
        }
        table
    }

    /// Adds a task with its items and the tasks of its group.
    fn push_task(&self, id: &TaskId, task: &TaskResult, now: Timestamp, table: &mut TextTable) {
        if task.is_untriggered_hook() {
            return;
        }
        table.push(self.task_row(id, task, now));
        for (index, item) in task.items.iter().flatten().enumerate() {
            self.push_task(&id.item(index), item, now, table);
        }
        for (name, member) in task.tasks.iter().flatten() {
            self.push_task(&id.member(name), member, now, table);
        }
    }

    /// Formats a task as a row of a table.
    pub(super) fn task_row(&self, id: &TaskId, task: &TaskResult, now: Timestamp) -> TableRow {
        let tool = match (&task.agent, &task.tool) {
            (Some(agent), Some(tool)) => format!("{agent}.{tool}"),
            _ => String::new(),
        };
        let attempts = match task.attempts {
            0 if task.reused => "reused".to_owned(),
            0 => String::new(),
            number => count_text(number as usize, "attempt"),
        };
        let times = self.times(id);
        // A task without an end was cut off by the end of the run.
        let ended = times.ended.or(self.view.ended_at()).unwrap_or(now);
        let duration = times.started.map(|started| format_duration(started, ended)).unwrap_or_default();
        let mut row = TableRow::new([id.as_str(), &task.status.to_string(), &tool, &attempts, &duration])
            .with_style(1, task_status_style(task.status));
        if let Some(failure) = &task.error {
            row = row.with_detail(failure.message.clone());
            if let Some(help) = &failure.help {
                row = row.with_detail(format!("help: {help}"));
            }
        }
        if let Some(warning) = &task.warning {
            row = row.with_detail(format!("warning: {warning}"));
        }
        if task.output.as_ref().is_some_and(|output| output.cached) {
            row = row.with_detail("from the cache".to_owned());
        }
        if task.output.as_ref().is_some_and(|output| output.early) {
            row = row.with_detail("called while the plan was written".to_owned());
        }
        for file in task.files.iter().filter(|file| file.saved_as.is_some()) {
            row = row.with_detail(format!("saved as {}", file.path.display()));
        }
        if let Some(number) = task.replanned {
            row = row.with_detail(format!("its failure triggered replan {number}"));
        }
        match &task.skipped_because {
            Some(reason) => row.with_detail(reason.to_string()),
            None => row,
        }
    }

    fn agents_table(&self) -> TextTable {
        let mut table = TextTable::default();
        for (agent, state) in self.view.agents() {
            table.push(match state {
                AgentConnection::Connecting => TableRow::new([agent.as_str(), "connecting"]),
                AgentConnection::Connected(info) => {
                    let server = info.server.as_deref().unwrap_or_default();
                    let tools = count_text(info.tools.len(), "tool");
                    TableRow::new([agent.as_str(), "connected", &info.protocol, server, &tools])
                }
                AgentConnection::Unavailable(failure) => {
                    let row = TableRow::new([agent.as_str(), "unavailable"]).with_style(1, Style::new().red());
                    row.with_detail(failure.message.clone())
                }
            });
        }
        table
    }

    fn questions_table(&self) -> TextTable {
        let mut table = TextTable::default();
        for asked in self.view.questions() {
            let asker = match &asked.question.asker {
                Asker::Plan { task } => format!("the plan, for {task}"),
                Asker::Replan { number } => format!("replan {number}"),
                Asker::Agent(origin) => origin.agent.to_string(),
                Asker::Host { attempt } => format!("the host, about {attempt}"),
            };
            let outcome = match (&asked.answer, &asked.deferred_because) {
                (Some((answer, by)), _) => format!("{} by {by}", answer_action(answer)),
                (None, _) if self.status() == RunStatus::Cancelled => "cancelled with the run".to_owned(),
                (None, _) if !self.status().is_unfinished() => "never answered".to_owned(),
                (None, Some(reason)) => format!("open: {reason}"),
                (None, None) => "open".to_owned(),
            };
            table.push(TableRow::new([asked.question.id.as_str(), &asker, &outcome, &asked.question.message]));
        }
        table
    }

    fn sampling_table(&self) -> TextTable {
        let mut table = TextTable::default();
        for exchange in self.view.history().planning.iter().flat_map(|planning| &planning.exchanges) {
            let used = exchange.usage.map(tokens_text).unwrap_or_default();
            table.push(TableRow::new(["planning", &exchange.model, &exchange.stop_reason, &used]));
        }
        for sampling in self.view.history().samplings.values() {
            let model = sampling.model.as_deref().unwrap_or_default();
            let stop_reason = sampling.stop_reason.as_deref().unwrap_or_default();
            let used = sampling.usage.map(tokens_text).unwrap_or_default();
            let row = TableRow::new([sampling.requester().as_str(), model, stop_reason, &used]);
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

    use super::*;
    use crate::journal::{Holder, samples};
    use crate::ui::history::run_details::sample_details;

    /// Returns the text without styles.
    fn bare(details: &RunDetails) -> String {
        anstream::adapter::strip_str(&details.text(&context())).to_string()
    }

    fn context() -> DisplayContext {
        DisplayContext { now: Timestamp(1_700_000_100_000), zone: TimeZone::UTC }
    }

    #[test]
    fn shows_a_finished_run() {
        insta::assert_snapshot!(bare(&sample_details(&samples::sample_run())), @r"
        run      0000abcd
        full ID  01990000-0000-7000-8000-00000000abcd
        plan     lisbon
        status   cancelled
        started  2023-11-14 22:13:20
        ended    2023-11-14 22:13:50, after 30.0s

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
        q1  travel              accepted by person      Book for 420 €?
        q2  the plan, for post  cancelled with the run  Post it?

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
        let mut driven = RunDetails { driver, ..sample_details(&samples::sample_run()[..8]) };
        driven.apply(&samples::sample_run()[8]);
        let shown = bare(&driven);
        let head: Vec<_> = shown.lines().take(6).collect();
        assert_eq!(head[3], "status   running, driven by process 1234");
        assert_eq!(head[5], "ended    not yet; last event 1m32s ago");
        insta::assert_snapshot!(bare(&sample_details(&samples::sample_run()[..8])), @r"
        run      0000abcd
        full ID  01990000-0000-7000-8000-00000000abcd
        plan     lisbon
        status   interrupted
        started  2023-11-14 22:13:20
        ended    not yet; last event 1m33s ago
            its process has exited; `kapell resume 0000abcd` resumes it

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
}
