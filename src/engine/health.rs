//! Tracks how the recent attempts on an agent ended, so that an agent that fails does not draw the tasks of its equals.
//! Counts only attempts that another agent could have made as well: without an alternative there is nothing to choose.
//!
//! After a failure an agent rests until its equals have completed a number of attempts, or some time has passed,
//! whichever comes first. Both double with each further failure and are halved by a success. Counting attempts keeps the
//! share of wasted calls small however fast the tasks are; the time keeps slow tasks from waiting for other slow tasks.

use std::time::Duration;

use crate::model::{FailureKind, NodeIndex, Timestamp};

use super::{
    retry,
    run::{AgentState, Run},
};

/// Failures beyond this many change nothing, so that an agent that recovers is in full use after a few successes.
const MAX_FAILURES: u32 = 8;
/// The rest after no failure, which doubles with each.
const BASE_REST: Duration = Duration::from_millis(100);

/// How the recent attempts on an agent ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Recent failures: one more for each, half for each success.
    failures: u32,
    /// Attempts that equal agents have to complete before it is tried again.
    rest: u32,
    /// When it is tried again in any case.
    rests_until: Timestamp,
}

impl Health {
    /// Recent failures, to be compared with those of equal agents.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    fn is_resting(&self, now: Timestamp) -> bool {
        self.rest > 0 && now < self.rests_until
    }

    /// Counts a failure. Those of attempts that were in flight when the rest began say nothing new.
    fn fail(&mut self, now: Timestamp) {
        if self.is_resting(now) {
            return;
        }
        self.failures = (self.failures + 1).min(MAX_FAILURES);
        self.rest = 1 << self.failures;
        self.rests_until = now.after(BASE_REST * self.rest);
    }

    fn succeed(&mut self) {
        self.failures /= 2;
        self.rest = 0;
    }
}

impl AgentState {
    /// How many attempts may be in flight on it, given the failures of the best of the agents that could be taken
    /// instead. An agent that fails more than the best gets fewer at once, and none while it rests.
    pub(super) fn capacity(&self, fewest_failures: u32, now: Timestamp) -> usize {
        let most = self.policy.max_concurrency;
        match self.health.failures.saturating_sub(fewest_failures) {
            0 => most,
            _ if self.health.is_resting(now) => 0,
            excess => (most >> excess).max(1),
        }
    }
}

impl Run {
    /// Takes in that an attempt succeeded.
    pub(super) fn note_success(&mut self, node: NodeIndex, route: usize) {
        let routes = self.graph[node].task.routes();
        let taken = &routes[route];
        if let Some(agent) = self.agents.get_mut(&taken.agent) {
            agent.health.succeed();
        }
        for equal in routes.iter().filter(|other| other.rank == taken.rank && other.agent != taken.agent) {
            if let Some(agent) = self.agents.get_mut(&equal.agent) {
                agent.health.rest = agent.health.rest.saturating_sub(1);
            }
        }
    }

    /// Takes in that an attempt failed.
    pub(super) fn note_failure(&mut self, (node, route): (NodeIndex, usize), kind: FailureKind, at: Timestamp) {
        let routes = self.graph[node].task.routes();
        let taken = &routes[route];
        let has_equal = routes.iter().any(|other| other.rank == taken.rank && other.agent != taken.agent);
        if !has_equal || !retry::counts_against_agent(kind) {
            return;
        }
        if let Some(agent) = self.agents.get_mut(&taken.agent) {
            agent.health.fail(at);
            self.queues.rests.insert((agent.health.rests_until, taken.agent.clone()));
        }
    }
}
