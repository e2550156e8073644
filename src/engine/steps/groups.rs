//! Performs groups and iterations.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::outputs::render_outputs;
use crate::engine::scope::expression_failure;
use crate::engine::state::run::Fold;
use crate::engine::state::run_state::{State, UnknownName};
use crate::engine::state::task::{TaskEntry, TaskState};
use crate::engine::transition::Transition;
use crate::expression::{self, Binding};
use crate::model::{
    Event, Failure, FailureKind, Group, NodeIndex, NodeKind, OnFailure, Outcome, Repeat, TaskId, ToolOutput,
};

impl Transition<'_> {
    /// Adds the tasks of a group or of a plan that runs as a task.
    pub(crate) fn start_group(&mut self, node: NodeIndex, group: &Group) {
        let task = self.run.graph[node].id.clone();
        let inputs = match group.plan.as_deref().map(|plan| self.run.sub_plan_inputs(node, plan)) {
            Some(Err(failure)) => return self.fail_task(node, failure),
            Some(Ok(inputs)) => Some(Arc::new(Value::Object(inputs))),
            None => None,
        };
        self.emit(Event::GroupStarted { task, inputs });
    }

    /// Ends a group whose tasks have all ended.
    pub(crate) fn end_group(&mut self, node: NodeIndex) {
        let members = || {
            let members = self.run.graph.dependencies(node);
            members.filter(|member| self.run.graph[*member].kind == NodeKind::Member(node))
        };
        if self.run.tasks[node.index()].is_expired {
            let failure = self.run.plan_time_failure(node);
            return self.fail_task(node, failure);
        }
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
    pub(crate) fn end_iteration(&mut self, node: NodeIndex) {
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
}

impl State {
    /// Returns whether the condition of a `repeat` task is true after an iteration.
    fn is_repetition_over(&self, last: NodeIndex, repeat: &Repeat, output: &ToolOutput) -> Result<bool, Failure> {
        let text = Value::String(output.text().into_owned());
        let mut scope = self.scope(last);
        let bind = |name, value| Binding { name, value: Cow::Owned(value) };
        scope.bindings.extend([bind("output", output.value().into_owned()), bind("text", text)]);
        expression::evaluate_condition(&repeat.until, &scope).map_err(|error| expression_failure("until", &error))
    }
}

impl Fold<'_> {
    /// Adds the tasks of a group.
    pub(crate) fn start_group(&mut self, task: &TaskId, inputs: Option<&Arc<Value>>) -> Result<(), UnknownName> {
        let node = self.find_node(task)?;
        let members = self.state.graph.add_members(node);
        let at = self.state.last_event_at;
        for member in &members {
            let pending = self.state.graph.dependencies(*member).count();
            let state = if pending == 0 { TaskState::Ready } else { TaskState::Blocked };
            self.state.tasks.push(TaskEntry { ready_at: at, ..TaskEntry::new(state, pending) });
            if pending == 0 {
                self.queues.ready.push_back(*member);
            }
        }
        self.state.unfinished_nodes += members.len();
        self.open_accounts(node, &members);
        let entry = &mut self.state.tasks[node.index()];
        entry.state = TaskState::Expanded;
        entry.inputs = inputs.cloned();
        entry.pending_dependencies = members.len();
        self.count_running_item(node, 1);
        self.start_plan_timer(node, at);
        Ok(())
    }
}
