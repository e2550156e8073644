//! Chooses a route for a task, or explains why there is none.

use smallvec::SmallVec;

use crate::engine::state::agent::{AgentState, ConnectionStatus, least_busy};
use crate::engine::state::run_state::State;
use crate::model::{AgentId, Failure, FailureKind, IdMap, NodeIndex, Route, Timestamp};

/// The choice of a route.
#[derive(Debug, PartialEq)]
pub(crate) enum RouteChoice {
    /// Start on this route now.
    Start(usize),
    /// Wait until one of these agents is connected and has capacity. Agents that were not requested yet have to be
    /// connected.
    Wait(Vec<AgentId>),
    /// Fail; the failure gives the reason for each route.
    NoRoute(Failure),
}

impl State {
    /// Chooses a route of a node: the lowest rank with a usable route, and in it the agent that [`least_busy`] returns.
    pub(crate) fn choose_route(&self, node: NodeIndex, now: Timestamp) -> RouteChoice {
        let routes = self.graph[node].task.routes();
        let candidates = self.candidate_routes(node);
        if candidates.is_empty() {
            return RouteChoice::NoRoute(unavailable_failure(routes, &self.agents));
        }
        let states = &self.tasks[node.index()].routes;
        let equals = candidates.iter().map(|&(index, agent)| {
            let tries = states.get(index).map_or(0, |route| route.tries);
            (index, tries, agent)
        });
        match least_busy(equals, now) {
            Some(route) => RouteChoice::Start(route),
            None => RouteChoice::Wait(candidates.iter().map(|&(index, _)| routes[index].agent.clone()).collect()),
        }
    }

    /// Returns the agent that a node will use, if there is only one candidate.
    pub(crate) fn only_candidate_agent(&self, node: NodeIndex) -> Option<AgentId> {
        let routes = self.graph[node].task.routes();
        let mut agents = self.candidate_routes(node).into_iter().map(|(index, _)| &routes[index].agent);
        let first = agents.next()?;
        agents.all(|agent| agent == first).then(|| first.clone())
    }

    /// Returns the usable routes of the lowest rank that has one, each with its agent.
    fn candidate_routes(&self, node: NodeIndex) -> SmallVec<[(usize, &AgentState); 4]> {
        let states = &self.tasks[node.index()].routes;
        let mut candidates = SmallVec::new();
        let mut lowest_rank = u32::MAX;
        for (index, route) in self.graph[node].task.routes().iter().enumerate() {
            if route.rank > lowest_rank || states.get(index).is_some_and(|state| state.is_used_up) {
                continue;
            }
            let agent = &self.agents[&route.agent];
            if matches!(agent.connection, ConnectionStatus::Unavailable(_)) {
                continue;
            }
            if route.rank < lowest_rank {
                candidates.clear();
                lowest_rank = route.rank;
            }
            candidates.push((index, agent));
        }
        candidates
    }
}

/// Returns the failure of a task without usable routes: the unavailable agents and the reasons.
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
