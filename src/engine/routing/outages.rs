//! Decides when to reconnect an unavailable agent: if a task has no other route, within its `retry`, and after a delay.

use std::sync::Arc;

use crate::engine::retry;
use crate::engine::state::agent::ConnectionStatus;
use crate::engine::state::outages::OutageAction;
use crate::engine::transition::Transition;
use crate::model::{AgentId, Event, Failure, FailureKind, NodeIndex};

impl Transition<'_> {
    /// Reconnects an agent for a node without a usable route, or fails the task.
    pub(crate) fn reconnect_or_fail(&mut self, node: NodeIndex, refusal: Failure) {
        if !self.wait_for_reconnect(node) {
            self.fail_without_agents(node, refusal);
        }
    }

    /// Reconnects an agent for a node without another route, or delays the node before that. Returns whether there is
    /// such an agent.
    fn wait_for_reconnect(&mut self, node: NodeIndex) -> bool {
        let task = Arc::clone(&self.run.graph[node].task);
        let mut routes: Vec<_> = task.routes().iter().enumerate().collect();
        routes.sort_by_key(|(_, route)| route.rank);
        for (index, route) in routes {
            let state = self.run.tasks[node.index()].routes.get(index).copied().unwrap_or_default();
            let ConnectionStatus::Unavailable(failure) = &self.run.agents[&route.agent].connection else { continue };
            let requested = failure.retry_after.map(|requested| requested.0).unwrap_or_default();
            if state.is_used_up
                || failure.kind == FailureKind::Unauthorized
                || retry::is_too_long(requested, task.deadline)
            {
                continue;
            }
            let reason = format!("agent `{}` is unavailable: {failure}", route.agent);
            let max_tries = task.retry.max_attempts;
            match self.run.queues.outages.next_action((node, &route.agent), state.tries, max_tries, self.now) {
                OutageAction::GiveUp => {}
                OutageAction::Connect => {
                    self.request_connection(&route.agent);
                    self.run.queues.outages.add_waiting(node, &route.agent);
                    self.run.queues.waiting.push(vec![route.agent.clone()], node);
                    return true;
                }
                OutageAction::Delay(tries) => {
                    let id = self.run.graph[node].id.clone();
                    let delay = self.run.next_delay(node, tries, requested);
                    let (ready_at, agent) = (self.now.after(delay), Some(route.agent.clone()));
                    self.emit(Event::RetryScheduled { task: id, ready_at, agent, reason });
                    return true;
                }
            }
        }
        false
    }

    /// Fails a task that has no remaining route because agents are unavailable, as `refusal` says. The failure includes
    /// the last failure of the task.
    fn fail_without_agents(&mut self, node: NodeIndex, refusal: Failure) {
        let Some(last) = self.run.tasks[node.index()].last_failure.as_deref().cloned() else {
            return self.fail_task(node, refusal);
        };
        if refusal.message.is_empty() {
            return self.fail_with_last_failure(node);
        }
        if last.kind == FailureKind::Interrupted {
            // The task could be repeated, so the missing agent is the main failure.
            let message = format!("{}; before that: {last}", refusal.message);
            return self.fail_task(node, Failure { message, ..refusal });
        }
        let message = format!("{last}; {refusal}");
        let help = match (last.help, refusal.help) {
            (Some(help), Some(more)) if help != more => Some(format!("{help}; {more}")),
            (help, more) => help.or(more),
        };
        self.fail_with_explanation(node, Failure { help, ..Failure::new(last.kind, message) });
    }

    /// Reconnects an agent for a prompt that starts after the agent became unavailable. If that fails too, the prompt
    /// runs without the tools of the agent.
    pub(crate) fn reconnect_for_prompt(&mut self, node: NodeIndex, agent: &AgentId) {
        if matches!(self.run.agents[agent].connection, ConnectionStatus::Unavailable(_))
            && self.run.queues.outages.next_action((node, agent), 0, 1, self.now) == OutageAction::Connect
        {
            self.request_connection(agent);
        }
    }
}
