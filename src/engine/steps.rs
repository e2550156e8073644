//! Performs work that needs no agent: groups and sub-plans, iterations, questions, timers, signals, and early ends.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::scope::expression_failure;
use super::state::run_state::State;
use super::state::task::{Awaited, TaskState};
use super::transition::Transition;
use crate::expression::{self, Binding, Scope, json_type_name};
use crate::model::{
    Ask, Asker, Event, Failure, FailureKind, Form, Group, HumanDuration, JsonObject, NodeIndex, NodeKind, OnFailure,
    Outcome, Repeat, Stop, SubPlan, TaskId, Template, Timestamp, ToolOutput, Wait, value_as_text,
};

/// Limits the signals of a run that no task has consumed.
const MAX_WAITING_SIGNALS: usize = 1_000;

impl Transition<'_> {
    /// Adds the tasks of a group or of a plan that runs as a task.
    pub(super) fn start_group(&mut self, node: NodeIndex, group: &Group) {
        let task = self.run.graph[node].id.clone();
        let inputs = match group.plan.as_deref().map(|plan| self.run.sub_plan_inputs(node, plan)) {
            Some(Err(failure)) => return self.fail_task(node, failure),
            Some(Ok(inputs)) => Some(Arc::new(Value::Object(inputs))),
            None => None,
        };
        self.emit(Event::GroupStarted { task, inputs });
    }

    /// Ends a group whose tasks have all ended.
    pub(super) fn end_group(&mut self, node: NodeIndex) {
        let members = || {
            let members = self.run.graph.dependencies(node);
            members.filter(|member| self.run.graph[*member].kind == NodeKind::Member(node))
        };
        let is_cancelled =
            members().any(|member| self.run.tasks[member.index()].state == TaskState::Ended(Outcome::Cancelled));
        if is_cancelled {
            return self.end_task(node, Outcome::Cancelled);
        }
        let mut failed: Vec<(&TaskId, &Failure)> = members()
            .filter(|member| matches!(self.run.graph[*member].task.on_failure, OnFailure::Fail | OnFailure::Replan))
            .filter_map(|member| Some((&self.run.graph[member].id, self.run.tasks[member.index()].failure()?)))
            .collect();
        failed.sort_unstable_by_key(|(id, _)| *id);
        if let Some((first, failure)) = failed.first() {
            let denied = failed.iter().all(|(_, failure)| failure.kind == FailureKind::Denied);
            let kind = if denied { FailureKind::Denied } else { FailureKind::ItemsFailed };
            let message = match failed.len() {
                1 => format!("`{first}`: {failure}"),
                failures => format!("{failures} of its tasks failed; `{first}`: {failure}"),
            };
            let failure = Failure { kind, message, help: failure.help.clone(), retry_after: None };
            return self.fail_task(node, failure);
        }
        let outputs = self.run.graph[node].task.group().and_then(|group| group.outputs.as_ref());
        let output = match outputs.map(|outputs| render_outputs(outputs, &self.run.group_scope(node))) {
            Some(Err(failure)) => return self.fail_task(node, failure),
            Some(Ok(outputs)) => Arc::new(ToolOutput {
                structured: Some(Value::Object(outputs.into_iter().collect())),
                ..ToolOutput::default()
            }),
            None => Arc::default(),
        };
        self.end_task(node, Outcome::Succeeded(output));
    }

    /// Ends a `repeat` task after its last iteration, or adds the next one.
    pub(super) fn end_iteration(&mut self, node: NodeIndex) {
        let task = Arc::clone(&self.run.graph[node].task);
        let (Some(repeat), Some(last)) = (&task.repeat, self.run.tasks[node.index()].last_iteration) else { return };
        let count = self.run.graph[last].iteration().map_or(0, |iteration| iteration.index + 1);
        let outcome = match &self.run.tasks[last.index()].state {
            TaskState::Ended(outcome) => outcome.clone(),
            _ => return,
        };
        let output = match outcome {
            Outcome::Succeeded(output) => output,
            Outcome::Failed(failure) => return self.fail_task(node, failure),
            other => return self.end_task(node, other),
        };
        match self.run.is_repetition_over(last, repeat, &output) {
            Err(failure) => self.fail_task(node, failure),
            Ok(true) => self.end_task(node, Outcome::Succeeded(output)),
            Ok(false) if count >= repeat.max as usize => {
                let message = format!("`until` was still false after {count} iterations: {}", repeat.until.0);
                let help = "raise `max` of `repeat`, or correct the condition";
                self.fail_task(node, Failure::new(FailureKind::ToolError, message).with_help(help));
            }
            Ok(false) => {
                let ready_at = repeat.delay.map(|delay| self.now.after(delay.0));
                self.emit(Event::IterationAdded { parent: self.run.graph[node].id.clone(), ready_at });
            }
        }
    }

    /// Asks a person the question of a task.
    pub(super) fn ask(&mut self, node: NodeIndex, ask: &Ask) {
        match expression::render(&ask.message, &self.run.scope(node)) {
            Ok(message) => {
                let form = match &ask.schema {
                    Some(schema) => Form::Fields { schema: schema.clone() },
                    None => Form::Approval,
                };
                let task = self.run.graph[node].id.clone();
                self.ask_person(Asker::Plan { task }, value_as_text(&message), form, None);
            }
            Err(error) => self.fail_task(node, expression_failure("ask", &error)),
        }
    }

    /// Ends a task whose time has come, or begins to wait for it.
    pub(super) fn wait(&mut self, node: NodeIndex, wait: &Wait) {
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
        };
        match until {
            Ok(until) => self.emit(Event::TimerStarted { task, until }),
            Err(failure) => self.fail_task(node, failure),
        }
    }

    fn await_signal(&mut self, node: NodeIndex, name: String) {
        let task = self.run.graph[node].id.clone();
        let data = self.run.signals.get(&name).and_then(|signals| signals.front()).cloned();
        self.emit(Event::SignalAwaited { task, name });
        if let Some(data) = data {
            self.end_task(node, Outcome::Succeeded(Arc::new(signal_output(data))));
        }
    }

    /// Records a signal, and ends the first task that waits for it.
    pub(super) fn on_signal(&mut self, name: String, data: Value, by: String) {
        if self.run.signals.values().map(|signals| signals.len()).sum::<usize>() >= MAX_WAITING_SIGNALS {
            let reason = format!("{MAX_WAITING_SIGNALS} signals already wait for a task that consumes them");
            return self.emit(Event::RequestRefused { question: None, by, reason });
        }
        self.emit(Event::SignalReceived { name: name.clone(), data: data.clone(), by });
        let is_waiting = |entry: &super::state::task::TaskEntry| {
            entry.state == TaskState::AwaitingSignal && entry.awaited == Some(Awaited::Signal(name.clone()))
        };
        if let Some(index) = self.run.tasks.iter().position(is_waiting) {
            self.end_task(NodeIndex::new(index), Outcome::Succeeded(Arc::new(signal_output(data))));
        }
    }

    /// Ends the run early.
    pub(super) fn stop_run(&mut self, node: NodeIndex, stop: &Stop) {
        let scope = self.run.scope(node);
        let message = stop.message.as_ref().map(|message| expression::render(message, &scope));
        let outputs = stop.outputs.as_ref().map(|outputs| render_outputs(outputs, &scope));
        let (message, outputs) = match (message.transpose(), outputs.transpose()) {
            (Err(error), _) => return self.fail_task(node, expression_failure("stop", &error)),
            (_, Err(failure)) => return self.fail_task(node, failure),
            (Ok(message), Ok(outputs)) => (message.map(|message| value_as_text(&message)), outputs),
        };
        let task = self.run.graph[node].id.clone();
        self.emit(Event::RunStopped { task, status: stop.status, message, outputs });
        self.end_task(node, Outcome::Succeeded(Arc::default()));
        self.cancel_running();
    }
}

impl State {
    /// Returns whether a task is a question to a person.
    pub(super) fn is_ask(&self, task: &TaskId) -> bool {
        let node = self.graph.node_index(task.as_str());
        node.is_some_and(|node| matches!(self.graph[node].task.work, crate::model::Work::Ask(_)))
    }

    /// Returns the inputs of a plan that runs as a task.
    fn sub_plan_inputs(&self, node: NodeIndex, plan: &SubPlan) -> Result<JsonObject, Failure> {
        let rendered = expression::render(&plan.arguments, &self.scope(node));
        let given = match rendered.map_err(|error| expression_failure("with", &error))? {
            Value::Object(given) => given,
            Value::Null => JsonObject::new(),
            other => {
                let message = format!("`with` expects a map of inputs, but is {}", json_type_name(&other));
                return Err(Failure::new(FailureKind::Expression, message));
            }
        };
        plan.complete_inputs(&given).map_err(|problem| Failure::new(FailureKind::Expression, problem))
    }

    /// Returns whether the condition of a `repeat` task is true after an iteration.
    fn is_repetition_over(&self, last: NodeIndex, repeat: &Repeat, output: &ToolOutput) -> Result<bool, Failure> {
        let text = Value::String(output.text().into_owned());
        let mut scope = self.scope(last);
        let bind = |name, value| Binding { name, value: std::borrow::Cow::Owned(value) };
        scope.bindings.extend([bind("output", output.value().into_owned()), bind("text", text)]);
        expression::evaluate_condition(&repeat.until, &scope).map_err(|error| expression_failure("until", &error))
    }
}

/// Renders the outputs of a group, or of a run that a task ends.
fn render_outputs(outputs: &IndexMap<String, Template>, scope: &Scope<'_>) -> Result<IndexMap<String, Value>, Failure> {
    let render = |(name, template): (&String, &Template)| {
        let value = expression::render(template, scope);
        value.map(|value| (name.clone(), value)).map_err(|error| expression_failure(&format!("outputs.{name}"), &error))
    };
    outputs.iter().map(render).collect()
}

fn signal_output(data: Value) -> ToolOutput {
    ToolOutput { structured: Some(data), ..ToolOutput::default() }
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
