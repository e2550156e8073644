//! Records the outcomes of attempts in the health of their agents. Attempts without an alternative agent are not counted.

use crate::engine::retry;
use crate::engine::state::run::Fold;
use crate::model::{FailureKind, NodeIndex, Timestamp};

impl Fold<'_> {
    /// Records that an attempt succeeded.
    pub(crate) fn record_attempt_success(&mut self, node: NodeIndex, route: usize) {
        let routes = self.state.graph[node].task.routes();
        let used = &routes[route];
        if let Some(agent) = self.state.agents.get_mut(&used.agent) {
            agent.health.record_success();
        }
        for equal in routes.iter().filter(|other| other.rank == used.rank && other.agent != used.agent) {
            if let Some(agent) = self.state.agents.get_mut(&equal.agent) {
                agent.health.cooldown_attempts = agent.health.cooldown_attempts.saturating_sub(1);
            }
        }
    }

    /// Records that an attempt failed.
    pub(crate) fn record_attempt_failure(
        &mut self,
        (node, route): (NodeIndex, usize),
        kind: FailureKind,
        at: Timestamp,
    ) {
        let routes = self.state.graph[node].task.routes();
        let used = &routes[route];
        let has_equal = routes.iter().any(|other| other.rank == used.rank && other.agent != used.agent);
        if !has_equal || !retry::is_agent_failure(kind) {
            return;
        }
        if let Some(agent) = self.state.agents.get_mut(&used.agent) {
            agent.health.record_failure(at);
            self.queues.cooldowns.insert((agent.health.cooldown_until, used.agent.clone()));
        }
    }
}
