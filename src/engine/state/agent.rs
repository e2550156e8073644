//! The state of an agent, and the choice among equal agents.

use std::sync::Arc;

use super::health::AgentHealth;
use crate::model::{AgentId, AgentInfo, AgentPolicy, Failure, HOST_AGENT, Timestamp};

/// The state of an agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AgentState {
    pub(crate) policy: AgentPolicy,
    pub(crate) connection: ConnectionStatus,
    /// The last information that the agent reported, kept after it disconnects.
    pub(crate) last_info: Option<Arc<AgentInfo>>,
    /// The number of attempts in progress on the agent.
    pub(crate) running: usize,
    /// The sequence number of the event that started the agent's last attempt. Of equal agents, the one that has been
    /// idle longest is chosen.
    pub(crate) last_started: u64,
    /// The outcomes of recent attempts.
    pub(crate) health: AgentHealth,
}

/// The connection status of an agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ConnectionStatus {
    NotRequested,
    Connecting,
    Connected(Arc<AgentInfo>),
    Unavailable(Failure),
}

impl ConnectionStatus {
    /// Returns the status of an agent at the beginning of a process. The host itself needs no connection.
    pub(crate) fn initial(agent: &AgentId) -> Self {
        match agent.as_str() {
            HOST_AGENT => Self::Connected(Arc::default()),
            _ => Self::NotRequested,
        }
    }
}

impl AgentState {
    /// Creates the state of an agent that was not requested yet.
    pub(crate) fn new(id: &AgentId, policy: &AgentPolicy) -> Self {
        Self {
            policy: policy.clone(),
            connection: ConnectionStatus::initial(id),
            last_info: None,
            running: 0,
            last_started: 0,
            health: AgentHealth::default(),
        }
    }

    /// Returns whether another attempt can start on the agent now.
    pub(crate) fn has_capacity(&self) -> bool {
        matches!(self.connection, ConnectionStatus::Connected(_)) && self.running < self.policy.max_concurrency
    }

    /// Returns the used share of the agent's capacity, in millionths.
    fn load(&self) -> usize {
        self.running.saturating_mul(1_000_000) / self.policy.max_concurrency.max(1)
    }

    /// Returns the number of attempts that may run on the agent at once. `smallest_debt` is the smallest debt of the
    /// agents that could be chosen instead.
    pub(crate) fn capacity(&self, smallest_debt: u32, now: Timestamp) -> usize {
        let max_concurrency = self.policy.max_concurrency;
        if self.health.debt() <= smallest_debt {
            return max_concurrency;
        }
        match self.health.is_cooling_down(now) {
            true => 0,
            false => max_concurrency.min(self.health.streak as usize).max(1),
        }
    }
}

/// Returns the least busy of equal agents that has capacity. Ties are resolved by the fewest tries of the task, and
/// then by the longest idle time. Each candidate includes its number of tries.
///
/// An agent with more debt than the best candidate is limited by [`AgentState::capacity`]. The best candidate is never
/// limited, so a node without capacity waits for an agent that works.
pub(crate) fn least_busy<'r, T>(
    candidates: impl Iterator<Item = (T, u32, &'r AgentState)> + Clone,
    now: Timestamp,
) -> Option<T> {
    let connected = candidates.filter(|(_, _, agent)| matches!(agent.connection, ConnectionStatus::Connected(_)));
    let smallest_debt = connected.clone().map(|(_, _, agent)| agent.health.debt()).min()?;
    connected
        .filter(|(_, _, agent)| agent.running < agent.capacity(smallest_debt, now))
        .min_by_key(|(_, tries, agent)| (agent.load(), *tries, agent.last_started))
        .map(|(which, _, _)| which)
}
