//! The agents that could not be reached, and when to reconnect them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::model::{AgentId, NodeIndex, Timestamp};

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
pub(crate) enum OutageAction {
    /// Reconnect the agent now.
    Connect,
    /// Delay the node; the number counts the failed tries.
    Delay(u32),
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
        let delay = MIN_RECONNECT_DELAY.saturating_mul(2_u32.saturating_pow(outage.failures)).min(MAX_RECONNECT_DELAY);
        *outage = Outage { failures: outage.failures.saturating_add(1), reconnect_at: now.after(delay) };
    }

    /// Decides the next action for a node that may try `max_tries` times and has made `attempts`.
    pub(crate) fn next_action(
        &mut self,
        (node, agent): (NodeIndex, &AgentId),
        attempts: u32,
        max_tries: u32,
        now: Timestamp,
    ) -> OutageAction {
        let key = (node, agent.clone());
        let waited = self.waiting.remove(&key);
        let tries = self.tries.entry(key).or_default();
        let is_delayed = self.agents.get(agent).is_some_and(|outage| now < outage.reconnect_at);
        // A recent failure counts as one that the node has waited for.
        let failed_now = waited || (*tries == 0 && is_delayed);
        if failed_now {
            *tries += 1;
        }
        match (*tries > 0 && *tries + attempts >= max_tries, failed_now) {
            (true, _) => OutageAction::GiveUp,
            (false, true) => OutageAction::Delay(*tries + attempts),
            (false, false) => OutageAction::Connect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outages() -> (Outages, AgentId, NodeIndex) {
        (Outages::default(), AgentId::from("a"), NodeIndex::new(0))
    }

    #[test]
    fn node_is_delayed_after_failures_then_gives_up() {
        let (mut outages, agent, node) = outages();
        for expected in [OutageAction::Delay(1), OutageAction::Delay(2), OutageAction::GiveUp] {
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
        let (second, third) = (NodeIndex::new(1), NodeIndex::new(2));
        assert_eq!(outages.next_action((second, &agent), 0, 1, Timestamp(1_000)), OutageAction::Connect);
        assert_eq!(outages.next_action((third, &agent), 0, 2, Timestamp(999)), OutageAction::Delay(1));
        assert_eq!(outages.next_action((third, &agent), 0, 2, Timestamp(1_500)), OutageAction::Connect);
    }

    #[test]
    fn reconnect_delay_grows_with_failures() {
        let (mut outages, agent, _) = outages();
        let mut delays = Vec::new();
        for _ in 0..8 {
            outages.on_failed(&agent, Timestamp(0));
            delays.push(outages.agents[&agent].reconnect_at.0 / 1_000);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        outages.on_connected(&agent);
        outages.on_failed(&agent, Timestamp(0));
        assert_eq!(outages.agents[&agent].reconnect_at, Timestamp(1_000));
    }
}
