//! The calls that are made while a model writes a plan.

use std::collections::HashMap;

use super::kept_calls::KeptCalls;
use crate::config::{AgentCatalog, AgentsFile};
use crate::mcp::{EarlyCall, EarlyCallEnd, EarlyPool};
use crate::model::{
    AgentId, AttemptId, DiscardReason, DiscardedCall, Operation, Plan, RunId, TaskId, ToolCall, TraceContext,
};
use crate::planner::ConstantCall;
use crate::runtime::effects::call_meta;

/// The maximum number of calls in progress, of all agents.
const MAX_RUNNING: usize = 4;
/// The maximum number of calls for one goal. Models that write a plan again would otherwise repeat most calls.
const MAX_CALLS: usize = 16;
/// The start of the task IDs of early calls. A plan cannot have such IDs.
const TASK_PREFIX: &str = "early:";

/// The run that calls are made for, and the agents that they are made on.
#[derive(Clone, Copy)]
pub struct CallPlace<'a> {
    /// The ID that the run will have.
    pub run: &'a RunId,
    /// The connections.
    pub connections: &'a EarlyPool,
    /// The settings of the agents.
    pub agents: &'a AgentsFile,
}

/// The calls of a plan that a model writes. It is not yet known which of them the plan has. Dropping them cancels those in
/// progress.
#[derive(Debug, Default)]
pub struct UnsettledCalls {
    calls: Vec<(ConstantCall, EarlyCall)>,
    /// The number of calls that were started.
    started: u32,
}

impl UnsettledCalls {
    /// Starts a call, unless an equal one was started or too many were. Returns whether it did.
    pub fn start(&mut self, planned: ConstantCall, place: CallPlace<'_>) -> bool {
        let Some(spec) = place.agents.agents.get(&planned.agent) else { return false };
        let mut running: Vec<AgentId> = Vec::new();
        for (other, call) in &mut self.calls {
            if call.try_end().is_none() {
                running.push(other.agent.clone());
            }
        }
        let running_on_agent = running.iter().filter(|agent| **agent == planned.agent).count();
        if self.calls.iter().any(|(other, _)| *other == planned)
            || !has_capacity((running.len(), running_on_agent), self.calls.len(), spec.policy.max_concurrency)
        {
            return false;
        }
        self.started += 1;
        let attempt = AttemptId { task: TaskId::from(format!("{TASK_PREFIX}{}", self.started)), number: 1 };
        let trace = place.connections.trace().cloned().unwrap_or_else(|| TraceContext::of_run(place.run));
        let meta = call_meta(place.run, &attempt, &trace);
        let call = ToolCall {
            attempt,
            agent: planned.agent.clone(),
            operation: Operation::CallTool,
            tool: planned.tool.clone(),
            arguments: planned.arguments.clone(),
            timeout: spec.policy.tool_timeout.0,
            deadline: None,
            awaits: None,
            cache: None,
            save: None,
        };
        self.calls.push((planned, place.connections.call(call, meta)));
        true
    }

    /// Returns the calls that the tasks of a plan use, and those that none uses. Those are cancelled.
    pub fn settle(self, plan: &Plan, agents: &AgentsFile, catalog: &AgentCatalog) -> (KeptCalls, Vec<DiscardedCall>) {
        let planned =
            plan.tasks.iter().filter_map(|task| Some((task.id.clone(), ConstantCall::of_task(task, agents, catalog)?)));
        let (mut kept, mut discarded) = (KeptCalls::default(), Vec::new());
        let started: Vec<&ConstantCall> = self.calls.iter().map(|(call, _)| call).collect();
        let mut users = users_of(&started, planned);
        for (index, (planned, mut call)) in self.calls.into_iter().enumerate() {
            match (users.remove(&index), failure_reason(&mut call)) {
                (Some(task), None) => kept.add(task, planned, call),
                (user, failed) => {
                    let reason = failed.filter(|_| user.is_some()).unwrap_or(DiscardReason::Unused);
                    discarded.push(discarded_call(planned, reason));
                }
            }
        }
        (kept, discarded)
    }

    /// Cancels all calls, and returns them.
    pub fn discard(self) -> Vec<DiscardedCall> {
        self.calls.into_iter().map(|(planned, _)| discarded_call(planned, DiscardReason::Unused)).collect()
    }
}

/// Returns whether a call can start beside those that run, in all and on its agent, and after those that were started.
fn has_capacity((running, running_on_agent): (usize, usize), started: usize, max_concurrency: usize) -> bool {
    running < MAX_RUNNING && running_on_agent < max_concurrency && started < MAX_CALLS
}

/// Returns the task that uses each started call: the first one with the call.
fn users_of(
    started: &[&ConstantCall],
    planned: impl Iterator<Item = (TaskId, ConstantCall)>,
) -> HashMap<usize, TaskId> {
    let mut users = HashMap::new();
    for (task, call) in planned {
        if let Some(index) = started.iter().position(|other| **other == call) {
            users.entry(index).or_insert(task);
        }
    }
    users
}

/// Returns the reason why a call that has ended has no result.
fn failure_reason(call: &mut EarlyCall) -> Option<DiscardReason> {
    match call.try_end()? {
        EarlyCallEnd::Succeeded(_) => None,
        EarlyCallEnd::Failed(_) => Some(DiscardReason::Failed),
        EarlyCallEnd::Asked => Some(DiscardReason::InputRequested),
    }
}

fn discarded_call(ConstantCall { agent, tool, arguments }: ConstantCall, reason: DiscardReason) -> DiscardedCall {
    DiscardedCall { agent, tool, arguments, reason }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(query: &str) -> ConstantCall {
        let arguments = json!({ "q": query }).as_object().cloned().expect("an object");
        ConstantCall { agent: "box".into(), tool: "find".into(), arguments }
    }

    #[test]
    fn calls_are_limited_in_all_and_for_each_agent() {
        assert!(has_capacity((0, 0), 0, 1));
        assert!(has_capacity((MAX_RUNNING - 1, 1), MAX_CALLS - 1, 2));
        assert!(!has_capacity((1, 1), 1, 1), "the agent is busy");
        assert!(!has_capacity((MAX_RUNNING, 0), MAX_RUNNING, 8), "all are busy");
        assert!(!has_capacity((0, 0), MAX_CALLS, 8), "too many were started");
    }

    #[test]
    fn first_task_with_the_call_uses_it() {
        let (porto, lisbon) = (call("Porto"), call("Lisbon"));
        let started = [&porto, &lisbon];
        let planned = [("a", "Faro"), ("b", "Lisbon"), ("c", "Lisbon")];
        let planned = planned.into_iter().map(|(task, query)| (TaskId::from(task), call(query)));
        assert_eq!(users_of(&started, planned), HashMap::from([(1, TaskId::from("b"))]));
    }
}
