//! The early calls whose results a run uses.

use std::collections::HashMap;

use crate::mcp::EarlyCall;
use crate::model::{Operation, TaskId, ToolCall};
use crate::planner::ConstantCall;

/// The early calls whose results a run uses, by task. Dropping them cancels those in progress.
#[derive(Debug, Default)]
pub struct KeptCalls {
    calls: HashMap<TaskId, (ConstantCall, EarlyCall)>,
}

impl KeptCalls {
    /// Returns whether there are none.
    pub(in crate::runtime) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Adds the call of a task.
    pub(super) fn add(&mut self, task: TaskId, planned: ConstantCall, call: EarlyCall) {
        self.calls.insert(task, (planned, call));
    }

    /// Removes the call of a task, and returns it if it is the one that the run makes.
    pub(super) fn remove(&mut self, call: &ToolCall) -> Option<EarlyCall> {
        let (planned, early) = self.calls.remove(&call.attempt.task)?;
        let ToolCall { agent, tool, operation, arguments, awaits, .. } = call;
        let is_same = planned.agent == *agent
            && planned.tool == *tool
            && planned.arguments == *arguments
            && *operation == Operation::CallTool
            && awaits.is_none();
        is_same.then_some(early)
    }
}
