//! Saves the answers of prompts in files of the run. A task ends only when its file exists, so that dependents can use it.

use std::sync::Arc;

use crate::engine::state::task::TaskState;
use crate::engine::transition::Transition;
use crate::model::{Command, Event, Failure, NodeIndex, Outcome, TaskId, ToolOutput};

impl Transition<'_> {
    /// Ends a prompt with its answer, after the answer is saved if the task saves it.
    pub(super) fn end_with_answer(&mut self, node: NodeIndex, output: Arc<ToolOutput>) {
        match self.run.save_name(node) {
            Ok(None) => self.end_task(node, Outcome::Succeeded(output)),
            Ok(Some(name)) => {
                let task = self.run.graph[node].id.clone();
                self.emit(Event::AnswerAccepted { task: task.clone(), output: Arc::clone(&output) });
                self.push_command(Command::SaveAnswer { task, output, name });
            }
            Err(failure) => self.fail_task(node, failure),
        }
    }

    /// Ends a prompt whose answer was saved, or could not be saved.
    pub(crate) fn on_answer_saved(&mut self, task: &TaskId, result: Result<Arc<ToolOutput>, Failure>) {
        let Some(node) = self.run.graph.node_index(task.as_str()) else { return };
        if !matches!(self.run.tasks[node.index()].state, TaskState::Saving(_)) {
            return;
        }
        match result {
            Ok(output) => self.end_task(node, Outcome::Succeeded(output)),
            Err(failure) => self.fail_task(node, failure),
        }
    }

    /// Saves the answers again that an earlier process may not have saved.
    pub(crate) fn resume_saving(&mut self) {
        for node in (0..self.run.tasks.len()).map(NodeIndex::new) {
            if let TaskState::Saving(output) = &self.run.tasks[node.index()].state {
                let output = Arc::clone(output);
                match self.run.save_name(node) {
                    Ok(Some(name)) => {
                        let task = self.run.graph[node].id.clone();
                        self.push_command(Command::SaveAnswer { task, output, name });
                    }
                    Ok(None) => self.end_task(node, Outcome::Succeeded(output)),
                    Err(failure) => self.fail_task(node, failure),
                }
            }
        }
    }
}
