//! Decides when to reconnect an unavailable agent: if a task has no other route, within its `retry`, and after a delay.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    engine::{decide::Transition, retry, state::run::ConnectionStatus},
    model::{AgentId, Command, Event, Failure, FailureKind, NodeIndex, Timestamp},
};

/// The delay before a task without `retry` reconnects an unavailable agent: after the first failure in a row, and at
/// most. It doubles with each further failure.
const MIN_RECONNECT_DELAY: Duration = Duration::from_secs(1);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(60);

/// The agents that could not be reached. This is not part of the state of a run: a later process connects to every
/// agent again.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    /// Nodes that wait for the end of a connection attempt.
    waiting: HashSet<(NodeIndex, AgentId)>,
    /// The number of failed connection attempts that each node has waited for.
    tries: HashMap<(NodeIndex, AgentId), u32>,
    agents: HashMap<AgentId, Outage>,
}

/// The consecutive connection failures of an agent.
#[derive(Debug, Default, Clone, Copy)]
struct Outage {
    /// The number of consecutive failures.
    failures: u32,
    /// The time before which only a `retry` reconnects the agent.
    reconnect_at: Timestamp,
}

/// The next action for a node whose agent is unavailable.
#[derive(Debug, PartialEq, Eq)]
enum OutageAction {
    /// Reconnect the agent now.
    Connect,
    /// Delay the node; the number counts the failed tries.
    Pause(u32),
    /// Continue without the agent.
    GiveUp,
}

impl Outages {
    /// Records that a node waits for the connection of an agent.
    pub(crate) fn add_waiting(&mut self, node: NodeIndex, agent: &AgentId) {
        self.waiting.insert((node, agent.clone()));
    }

    /// Records that an agent is connected.
    pub(crate) fn on_connected(&mut self, agent: &AgentId) {
        self.agents.remove(agent);
        self.waiting.retain(|(_, other)| other != agent);
    }

    /// Records that a connection attempt failed.
    pub(crate) fn on_failed(&mut self, agent: &AgentId, now: Timestamp) {
        let outage = self.agents.entry(agent.clone()).or_default();
        let hold = MIN_RECONNECT_DELAY.saturating_mul(2_u32.saturating_pow(outage.failures)).min(MAX_RECONNECT_DELAY);
        *outage = Outage { failures: outage.failures.saturating_add(1), reconnect_at: now.after(hold) };
    }

    /// Decides the next action for a node that may try `max_tries` times and has made `attempts`.
    fn next_action(
        &mut self,
        (node, agent): (NodeIndex, &AgentId),
        attempts: u32,
        max_tries: u32,
        now: Timestamp,
    ) -> OutageAction {
        let key = (node, agent.clone());
        let waited = self.waiting.remove(&key);
        let tries = self.tries.entry(key).or_default();
        let held = self.agents.get(agent).is_some_and(|outage| now < outage.reconnect_at);
        // A recent failure counts as one that the node has waited for.
        let failed_now = waited || (*tries == 0 && held);
        if failed_now {
            *tries += 1;
        }
        match (*tries > 0 && *tries + attempts >= max_tries, failed_now) {
            (true, _) => OutageAction::GiveUp,
            (false, true) => OutageAction::Pause(*tries + attempts),
            (false, false) => OutageAction::Connect,
        }
    }
}

impl Transition<'_> {
    /// Reconnects an agent for a node without another route, or delays the node before that. Returns whether there is
    /// such an agent.
    pub(crate) fn wait_for_reconnect(&mut self, node: NodeIndex) -> bool {
        let task = Arc::clone(&self.run.graph[node].task);
        let mut routes: Vec<_> = task.routes().iter().enumerate().collect();
        routes.sort_by_key(|(_, route)| route.rank);
        for (index, route) in routes {
            let state = self.run.tasks[node.index()].routes.get(index).copied().unwrap_or_default();
            let ConnectionStatus::Unavailable(failure) = &self.run.agents[&route.agent].connection else { continue };
            let wait = failure.retry_after.map(|wait| wait.0).unwrap_or_default();
            if state.is_used_up || failure.kind == FailureKind::Unauthorized || retry::is_too_long(wait, task.deadline)
            {
                continue;
            }
            let reason = format!("agent `{}` is unavailable: {failure}", route.agent);
            let most = task.retry.max_attempts;
            match self.run.queues.outages.next_action((node, &route.agent), state.tries, most, self.now) {
                OutageAction::GiveUp => {}
                OutageAction::Connect => {
                    self.reconnect(node, &route.agent);
                    return true;
                }
                OutageAction::Pause(tries) => {
                    let id = self.run.graph[node].id.clone();
                    let pause = retry::retry_delay(&task.retry.backoff, tries, self.run.seed, &id).max(wait);
                    let (ready_at, agent) = (self.now.after(pause), Some(route.agent.clone()));
                    self.emit(Event::RetryScheduled { task: id, ready_at, agent, reason });
                    return true;
                }
            }
        }
        false
    }

    /// Fails a task that has no remaining route because agents are unavailable, as `refusal` says. The failure includes
    /// the last failure of the task.
    pub(crate) fn fail_without_agents(&mut self, node: NodeIndex, refusal: Failure) {
        let Some(last) = self.run.tasks[node.index()].last_failure.as_deref().cloned() else {
            return self.fail_task(self.run.graph[node].id.clone(), refusal);
        };
        if refusal.message.is_empty() {
            return self.fail_with_last_failure(node);
        }
        if last.kind == FailureKind::Interrupted {
            // The task could be repeated, so the missing agent is the main failure.
            let message = format!("{}; before that, {last}", refusal.message);
            return self.fail_task(self.run.graph[node].id.clone(), Failure { message, ..refusal });
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
            self.emit(Event::AgentConnecting { agent: agent.clone() });
            self.push_command(Command::ConnectAgent { agent: agent.clone() });
        }
    }

    /// Reconnects an unavailable agent and makes the node wait for the connection.
    fn reconnect(&mut self, node: NodeIndex, agent: &AgentId) {
        self.emit(Event::AgentConnecting { agent: agent.clone() });
        self.push_command(Command::ConnectAgent { agent: agent.clone() });
        self.run.queues.outages.add_waiting(node, agent);
        self.run.queues.waiting.push(vec![agent.clone()], node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outages() -> (Outages, AgentId, NodeIndex) {
        (Outages::default(), AgentId::from("a"), NodeIndex::new(0))
    }

    #[test]
    fn node_pauses_after_failures_then_gives_up() {
        let (mut outages, agent, node) = outages();
        for expected in [OutageAction::Pause(1), OutageAction::Pause(2), OutageAction::GiveUp] {
            outages.add_waiting(node, &agent);
            outages.on_failed(&agent, Timestamp(0));
            assert_eq!(outages.next_action((node, &agent), 0, 3, Timestamp(0)), expected);
        }
    }

    #[test]
    fn later_node_reconnects_after_delay() {
        let (mut outages, agent, node) = outages();
        outages.on_failed(&agent, Timestamp(0));
        assert_eq!(outages.next_action((node, &agent), 0, 1, Timestamp(999)), OutageAction::GiveUp);
        let (late, patient) = (NodeIndex::new(1), NodeIndex::new(2));
        assert_eq!(outages.next_action((late, &agent), 0, 1, Timestamp(1_000)), OutageAction::Connect);
        assert_eq!(outages.next_action((patient, &agent), 0, 2, Timestamp(999)), OutageAction::Pause(1));
        assert_eq!(outages.next_action((patient, &agent), 0, 2, Timestamp(1_500)), OutageAction::Connect);
    }

    #[test]
    fn reconnect_delay_grows_with_failures() {
        let (mut outages, agent, _) = outages();
        let mut holds = Vec::new();
        for _ in 0..8 {
            outages.on_failed(&agent, Timestamp(0));
            holds.push(outages.agents[&agent].reconnect_at.0 / 1_000);
        }
        assert_eq!(holds, [1, 2, 4, 8, 16, 32, 60, 60]);
        outages.on_connected(&agent);
        outages.on_failed(&agent, Timestamp(0));
        assert_eq!(outages.agents[&agent].reconnect_at, Timestamp(1_000));
    }
}
