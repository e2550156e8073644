//! Asks the questions of tasks, and ends runs early.

use std::sync::Arc;

use super::outputs::render_outputs;
use crate::engine::scope::expression_failure;
use crate::engine::state::run_state::State;
use crate::engine::transition::Transition;
use crate::expression;
use crate::model::{Ask, Asker, Event, Form, NodeIndex, Outcome, Stop, TaskId, Work, value_as_text};

impl Transition<'_> {
    /// Asks a person the question of a task.
    pub(crate) fn ask(&mut self, node: NodeIndex, ask: &Ask) {
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

    /// Ends the run early.
    pub(crate) fn stop_run(&mut self, node: NodeIndex, stop: &Stop) {
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
    pub(crate) fn is_ask(&self, task: &TaskId) -> bool {
        let node = self.graph.node_index(task.as_str());
        node.is_some_and(|node| matches!(self.graph[node].task.work, Work::Ask(_)))
    }
}
