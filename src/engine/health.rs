//! Tracks how the attempts on an agent ended, so that an agent that fails does not draw the tasks of its equals.
//! Counts only attempts that another agent could have made as well: without an alternative there is nothing to choose.
//!
//! An agent that fails is in debt until it has completed as many attempts. While its debt is larger than that of an equal,
//! it rests after a failure, then gets one attempt, and later as many at once as it has completed since. So all that are in
//! flight can fail without failing more than was completed, and only attempts after a rest can add to the debt.
//!
//! A rest lasts until equals have completed a number of attempts, or some time has passed, whichever comes first. Both
//! double with each further rest and are halved by each success. Counting attempts keeps the share of wasted calls small
//! however fast the tasks are; the time keeps slow tasks from waiting for other slow tasks.

use std::time::Duration;

use crate::model::{FailureKind, NodeIndex, Timestamp};

use super::{apply::Fold, retry, run::AgentState};

/// Rests beyond this many in a row grow no longer. By then nothing is known to the agent's credit.
const MAX_RESTS: u32 = 8;
/// The rest after no failure, which doubles with each.
const BASE_COOLDOWN_DELAY: Duration = Duration::from_millis(100);

/// How the attempts on an agent ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AgentHealth {
    /// Failures that no later success has made up for.
    debt: u32,
    /// Successes since the last failure.
    streak: u32,
    /// Rests in a row: one more for each, one less for each success.
    rests: u32,
    /// Attempts that equal agents have to complete before it is tried again.
    cooldown_attempts: u32,
    /// When it is tried again in any case.
    cooldown_until: Timestamp,
}

impl AgentHealth {
    /// Returns the debt, to be compared with those of equal agents. Agents that only fail are alike.
    pub(super) fn debt(&self) -> u32 {
        if self.rests == MAX_RESTS { u32::MAX } else { self.debt }
    }

    fn is_cooling_down(&self, now: Timestamp) -> bool {
        self.cooldown_attempts > 0 && now < self.cooldown_until
    }

    /// Counts a failure. Those of attempts that were in flight when a rest began make it no longer.
    fn record_failure(&mut self, now: Timestamp) {
        self.debt = self.debt.saturating_add(1);
        self.streak = 0;
        if self.is_cooling_down(now) {
            return;
        }
        self.rests = (self.rests + 1).min(MAX_RESTS);
        self.cooldown_attempts = 1 << self.rests;
        self.cooldown_until = now.after(BASE_COOLDOWN_DELAY * self.cooldown_attempts);
    }

    fn record_success(&mut self) {
        self.debt = self.debt.saturating_sub(1);
        self.streak = self.streak.saturating_add(1);
        self.rests = self.rests.saturating_sub(1);
        self.cooldown_attempts = 0;
    }
}

impl AgentState {
    /// Returns how many attempts may be in flight on it, given the smallest debt of the agents that could be taken
    /// instead.
    pub(super) fn capacity(&self, smallest_debt: u32, now: Timestamp) -> usize {
        let most = self.policy.max_concurrency;
        if self.health.debt() <= smallest_debt {
            return most;
        }
        match self.health.is_cooling_down(now) {
            true => 0,
            false => most.min(self.health.streak as usize).max(1),
        }
    }
}

impl Fold<'_> {
    /// Takes in that an attempt succeeded.
    pub(super) fn record_attempt_success(&mut self, node: NodeIndex, route: usize) {
        let routes = self.state.graph[node].task.routes();
        let taken = &routes[route];
        if let Some(agent) = self.state.agents.get_mut(&taken.agent) {
            agent.health.record_success();
        }
        for equal in routes.iter().filter(|other| other.rank == taken.rank && other.agent != taken.agent) {
            if let Some(agent) = self.state.agents.get_mut(&equal.agent) {
                agent.health.cooldown_attempts = agent.health.cooldown_attempts.saturating_sub(1);
            }
        }
    }

    /// Takes in that an attempt failed.
    pub(super) fn record_attempt_failure(
        &mut self,
        (node, route): (NodeIndex, usize),
        kind: FailureKind,
        at: Timestamp,
    ) {
        let routes = self.state.graph[node].task.routes();
        let taken = &routes[route];
        let has_equal = routes.iter().any(|other| other.rank == taken.rank && other.agent != taken.agent);
        if !has_equal || !retry::is_agent_failure(kind) {
            return;
        }
        if let Some(agent) = self.state.agents.get_mut(&taken.agent) {
            agent.health.record_failure(at);
            self.queues.cooldowns.insert((agent.health.cooldown_until, taken.agent.clone()));
        }
    }
}
