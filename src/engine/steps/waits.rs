//! Performs waits: timers, signals, and watches of files and resources.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::scope::expression_failure;
use crate::engine::state::task::{Awaited, TaskEntry, TaskState};
use crate::engine::transition::Transition;
use crate::expression;
use crate::model::{
    Command, Event, Failure, FailureKind, HumanDuration, NodeIndex, Outcome, TaskId, Template, Timestamp, ToolOutput,
    Wait, Watch, Watched, value_as_text,
};

/// Limits the signals of a run that no task has consumed.
const MAX_WAITING_SIGNALS: usize = 1_000;

impl Transition<'_> {
    /// Ends a task whose time has come, or begins to wait for it.
    pub(crate) fn wait(&mut self, node: NodeIndex, wait: &Wait) {
        if let Some(Awaited::Time(_)) = self.run.tasks[node.index()].awaited {
            return self.end_task(node, Outcome::Succeeded(Arc::default()));
        }
        let task = self.run.graph[node].id.clone();
        let rendered = |template: &Template, key: &str| {
            let value = expression::render(template, &self.run.scope(node));
            value.map_err(|error| expression_failure(key, &error))
        };
        let until = match wait {
            Wait::Sleep(duration) => {
                rendered(duration, "sleep").and_then(|value| parse_duration(&value)).map(|wait| self.now.after(wait.0))
            }
            Wait::Until(time) => rendered(time, "until").and_then(|value| parse_time(&value)),
            Wait::Signal(name) => {
                return match rendered(name, "wait") {
                    Ok(name) => self.await_signal(node, value_as_text(&name)),
                    Err(failure) => self.fail_task(node, failure),
                };
            }
            Wait::File(file) => {
                let watched = |path| Watched::File { path, changed: file.changed };
                let path = rendered(&file.path, "wait").and_then(|value| nonempty_text(&value, "file", "a path"));
                return self.start_watch(node, path.map(watched));
            }
            Wait::Resource(resource) => {
                let watched = |uri| Watched::Resource { agent: resource.agent.clone(), uri };
                let uri = rendered(&resource.uri, "wait").and_then(|value| nonempty_text(&value, "resource", "a URI"));
                return self.start_watch(node, uri.map(watched));
            }
        };
        match until {
            Ok(until) => self.emit(Event::TimerStarted { task, until }),
            Err(failure) => self.fail_task(node, failure),
        }
    }

    /// Begins to wait for a change.
    fn start_watch(&mut self, node: NodeIndex, watched: Result<Watched, Failure>) {
        match watched {
            Ok(watched) => {
                let task = self.run.graph[node].id.clone();
                let deadline = self.wait_deadline(node);
                self.emit(Event::WatchStarted { task, watched, deadline });
                self.watch(node);
            }
            Err(failure) => self.fail_task(node, failure),
        }
    }

    /// Returns the time at which a wait that begins now fails.
    fn wait_deadline(&self, node: NodeIndex) -> Option<Timestamp> {
        self.run.graph[node].task.deadline.map(|deadline| self.now.after(deadline.0))
    }

    /// Fails the waits whose deadlines have passed, also while no process ran.
    pub(crate) fn fail_overdue_waits(&mut self) {
        while let Some(&(at, node)) = self.run.queues.wait_deadlines.first() {
            if at > self.now {
                break;
            }
            self.run.queues.wait_deadlines.pop_first();
            let is_waiting =
                matches!(self.run.tasks[node.index()].state, TaskState::AwaitingSignal | TaskState::AwaitingChange);
            // The process that resumes an interrupted run fails it.
            if is_waiting && !self.run.is_interrupted_at(node) && !self.run.stops(node) {
                let failure = self.overdue_failure(node);
                self.fail_task(node, failure);
            }
        }
    }

    fn overdue_failure(&self, node: NodeIndex) -> Failure {
        let what = match &self.run.tasks[node.index()].awaited {
            Some(Awaited::Signal(name)) => format!("the signal `{name}` did not arrive"),
            Some(Awaited::Change { watched: Watched::File { path, changed: false }, .. }) => {
                format!("the file `{path}` was not there")
            }
            Some(Awaited::Change { watched: Watched::File { path, .. }, .. }) => {
                format!("the file `{path}` did not change")
            }
            Some(Awaited::Change { watched: Watched::Resource { agent, uri }, .. }) => {
                format!("the resource `{uri}` of `{agent}` did not change")
            }
            Some(Awaited::Time(_)) | None => "the wait did not end".to_owned(),
        };
        let limit = self.run.graph[node].task.deadline.map(|deadline| format!(" within {deadline}"));
        Failure::new(FailureKind::DeadlineExceeded, what + &limit.unwrap_or_default())
    }

    /// Requests the watch of a task that waits for a change.
    fn watch(&mut self, node: NodeIndex) {
        let entry = &self.run.tasks[node.index()];
        let Some(Awaited::Change { watched, baseline }) = entry.awaited.clone() else { return };
        if let Watched::Resource { agent, .. } = &watched {
            self.connect(agent);
        }
        let task = self.run.graph[node].id.clone();
        self.push_command(Command::Watch(Box::new(Watch { task, watched, baseline })));
    }

    /// Continues the watches of an earlier process.
    pub(crate) fn resume_watches(&mut self) {
        for node in (0..self.run.tasks.len()).map(NodeIndex::new) {
            if self.run.tasks[node.index()].state == TaskState::AwaitingChange && !self.run.stops(node) {
                self.watch(node);
            }
        }
    }

    /// Returns the node of a task that waits for a change, and whether the state to compare with is known.
    fn watching_node(&self, task: &TaskId) -> Option<(NodeIndex, bool)> {
        let node = self.run.graph.node_index(task.as_str())?;
        let entry = &self.run.tasks[node.index()];
        match &entry.awaited {
            Some(Awaited::Change { baseline, .. }) if entry.state == TaskState::AwaitingChange => {
                Some((node, baseline.is_some()))
            }
            _ => None,
        }
    }

    /// Records the state from which a task recognizes a change.
    pub(crate) fn on_watch_baseline(&mut self, task: TaskId, fingerprint: String) {
        if let Some((_, false)) = self.watching_node(&task) {
            self.emit(Event::WatchBaselineRecorded { task, fingerprint });
        }
    }

    /// Ends a task that waited for a change.
    pub(crate) fn on_watch_ended(&mut self, task: &TaskId, result: Result<Arc<ToolOutput>, Failure>) {
        let Some((node, _)) = self.watching_node(task) else { return };
        // The process that resumes the run watches again.
        if self.run.is_interrupted_at(node) {
            return;
        }
        match result {
            Ok(output) => self.end_task(node, Outcome::Succeeded(output)),
            Err(failure) => self.fail_task(node, failure),
        }
    }

    fn await_signal(&mut self, node: NodeIndex, name: String) {
        let task = self.run.graph[node].id.clone();
        let data = self.run.signals.get(&name).and_then(|signals| signals.front()).cloned();
        let deadline = self.wait_deadline(node);
        self.emit(Event::SignalAwaited { task, name, deadline });
        if let Some(data) = data {
            self.end_task(node, Outcome::Succeeded(Arc::new(signal_output(data))));
        }
    }

    /// Records a signal, and ends the first task that waits for it.
    pub(crate) fn on_signal(&mut self, name: String, data: Value, by: String) {
        if self.run.signals.values().map(|signals| signals.len()).sum::<usize>() >= MAX_WAITING_SIGNALS {
            let reason = format!("{MAX_WAITING_SIGNALS} signals already wait for a task that consumes them");
            return self.emit(Event::RequestRefused { question: None, by, reason });
        }
        self.emit(Event::SignalReceived { name: name.clone(), data: data.clone(), by });
        let is_waiting = |entry: &TaskEntry| {
            entry.state == TaskState::AwaitingSignal && entry.awaited == Some(Awaited::Signal(name.clone()))
        };
        if let Some(index) = self.run.tasks.iter().position(is_waiting) {
            self.end_task(NodeIndex::new(index), Outcome::Succeeded(Arc::new(signal_output(data))));
        }
    }
}

fn signal_output(data: Value) -> ToolOutput {
    ToolOutput { structured: Some(data), ..ToolOutput::default() }
}

/// Returns the text that a wait is for.
fn nonempty_text(value: &Value, key: &str, expected: &str) -> Result<String, Failure> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        _ => {
            let message = format!("`{key}` of `wait` expects {expected}, but is {value}");
            Err(Failure::new(FailureKind::Expression, message))
        }
    }
}

fn parse_duration(value: &Value) -> Result<HumanDuration, Failure> {
    let parsed = match value {
        Value::String(text) => HumanDuration::parse(text).ok(),
        Value::Number(seconds) => {
            let seconds = seconds.as_f64().and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
            seconds.map(HumanDuration)
        }
        _ => None,
    };
    parsed.ok_or_else(|| {
        let message = format!("`sleep` expects a duration such as `10m`, but is {value}");
        Failure::new(FailureKind::Expression, message)
    })
}

fn parse_time(value: &Value) -> Result<Timestamp, Failure> {
    let parsed = match value {
        Value::String(text) => {
            text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok())
        }
        Value::Number(seconds) => {
            let seconds = seconds.as_f64().and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
            seconds.and_then(|since| u64::try_from(since.as_millis()).ok())
        }
        _ => None,
    };
    parsed.map(Timestamp).ok_or_else(|| {
        let message = format!(
            "`until` expects a time such as `2026-12-24T18:00:00+01:00`, or seconds since 1970, but is {value}"
        );
        Failure::new(FailureKind::Expression, message)
    })
}
