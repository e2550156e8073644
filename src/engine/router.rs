//! Ranks the routes of a task and explains each refusal.
//! Never starts anything.

use crate::model::{AgentId, AgentPolicy, Failure, FailureKind, IdMap, NodeIndex, Route, Timestamp};

use super::{
    health::AgentHealth,
    run::{AgentState, ConnectionStatus, RouteState, State},
};

/// Where a task goes next.
#[derive(Debug, PartialEq)]
pub(super) enum RouteChoice {
    /// To this route, now.
    Start(usize),
    /// To one of these agents, when one is connected and has room; those not yet asked for are to be connected.
    Wait(Vec<AgentId>),
    /// Nowhere; the failure says why of each route.
    NoRoute(Failure),
}

impl State {
    /// Chooses among the routes of a node: the lowest rank with a route left, and in it the agent that [`least_busy`] gives.
    pub(super) fn choose_route(&self, node: NodeIndex, now: Timestamp) -> RouteChoice {
        let routes = self.graph[node].task.routes();
        let candidates = self.candidate_routes(node);
        if candidates.is_empty() {
            return RouteChoice::NoRoute(unavailable_failure(routes, &self.agents));
        }
        let states = &self.tasks[node.index()].routes;
        let equals = candidates.iter().map(|&index| {
            let tries = states.get(index).map_or(0, |route| route.tries);
            (index, tries, &self.agents[&routes[index].agent])
        });
        match least_busy(equals, now) {
            Some(route) => RouteChoice::Start(route),
            None => RouteChoice::Wait(candidates.iter().map(|&index| routes[index].agent.clone()).collect()),
        }
    }

    /// The agent that a node will go to, where there is only one.
    pub(super) fn only_candidate_agent(&self, node: NodeIndex) -> Option<AgentId> {
        let routes = self.graph[node].task.routes();
        let mut agents = self.candidate_routes(node).into_iter().map(|index| &routes[index].agent);
        let first = agents.next()?;
        agents.all(|agent| agent == first).then(|| first.clone())
    }

    /// The routes of the lowest rank that has one left.
    fn candidate_routes(&self, node: NodeIndex) -> Vec<usize> {
        let routes = self.graph[node].task.routes();
        let states = &self.tasks[node.index()].routes;
        let is_left = |index: usize, route: &Route| {
            !is_used_up(states, index)
                && !matches!(self.agents[&route.agent].connection, ConnectionStatus::Unavailable(_))
        };
        let left = || routes.iter().enumerate().filter(|(index, route)| is_left(*index, route));
        let rank = left().map(|(_, route)| route.rank).min();
        left().filter(|(_, route)| Some(route.rank) == rank).map(|(index, _)| index).collect()
    }
}

/// Picks the least busy of equal agents that has room; of those the one that the task has tried least often, and then the
/// one that has been idle longest. Each comes with the number of tries.
///
/// An agent that is deeper in debt than the best of them has room only where [`AgentState::capacity`] leaves some. The best
/// is never limited, so a node that finds no room waits for an agent that works.
pub(super) fn least_busy<'r, T>(
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

/// Whether a route may not be tried again; before the first attempt nothing is known of any.
fn is_used_up(states: &[RouteState], index: usize) -> bool {
    states.get(index).is_some_and(|route| route.is_used_up)
}

/// Why no route is left, when none was ever tried: every agent is unavailable.
fn unavailable_failure(routes: &[Route], agents: &IdMap<AgentId, AgentState>) -> Failure {
    let mut reasons: Vec<String> = Vec::new();
    let mut help = None;
    for route in routes {
        if let ConnectionStatus::Unavailable(failure) = &agents[&route.agent].connection {
            let reason = format!("agent `{}` is unavailable: {failure}", route.agent);
            if !reasons.contains(&reason) {
                reasons.push(reason);
                help = help.or_else(|| failure.help.clone());
            }
        }
    }
    Failure { help, ..Failure::new(FailureKind::AgentUnavailable, reasons.join("; ")) }
}

impl AgentState {
    /// An agent that nobody has asked for.
    pub(super) fn new(policy: &AgentPolicy) -> Self {
        Self {
            policy: policy.clone(),
            connection: ConnectionStatus::NotRequested,
            last_info: None,
            running: 0,
            last_started: 0,
            health: AgentHealth::default(),
        }
    }

    /// Whether another attempt can start on it now.
    pub(super) fn has_capacity(&self) -> bool {
        matches!(self.connection, ConnectionStatus::Connected(_)) && self.running < self.policy.max_concurrency
    }

    /// How full it is, in millionths.
    fn load(&self) -> usize {
        self.running.saturating_mul(1_000_000) / self.policy.max_concurrency.max(1)
    }
}
