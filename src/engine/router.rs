//! Ranks the routes of a task and explains each refusal.
//! Never starts anything.

use indexmap::IndexMap;

use crate::model::{AgentId, AgentPolicy, Failure, FailureKind, Route};

use super::run::{AgentState, Connection, RouteState};

/// Where a task goes next.
#[derive(Debug, PartialEq)]
pub(super) enum Choice {
    /// To this route, now.
    Start(usize),
    /// To one of these agents, when one is connected and has room; those not yet asked for are to be connected.
    Wait(Vec<AgentId>),
    /// Nowhere; the failure says why of each route.
    None(Failure),
}

/// Chooses among `routes`: the lowest rank with a route left; in it the preferred route, else the least busy agent,
/// else the first in order.
pub(super) fn choose(
    routes: &[Route],
    states: &[RouteState],
    preferred: Option<usize>,
    agents: &IndexMap<AgentId, AgentState>,
) -> Choice {
    let usable = |index: &usize| {
        !used_up(states, *index) && !matches!(agents[&routes[*index].agent].connection, Connection::Unavailable(_))
    };
    let Some(rank) = (0..routes.len()).filter(usable).map(|index| routes[index].rank).min() else {
        return Choice::None(refusal(routes, agents));
    };
    let candidates: Vec<usize> =
        (0..routes.len()).filter(|index| usable(index) && routes[*index].rank == rank).collect();
    let preferred = preferred.filter(|index| candidates.contains(index));
    let candidates = preferred.map_or(candidates, |index| vec![index]);
    let free = |index: &usize| {
        let agent = &agents[&routes[*index].agent];
        matches!(agent.connection, Connection::Connected(_)) && agent.running < agent.policy.max_concurrency
    };
    match candidates.iter().copied().filter(free).min_by_key(|index| busyness(&agents[&routes[*index].agent])) {
        Some(index) => Choice::Start(index),
        None => Choice::Wait(candidates.into_iter().map(|index| routes[index].agent.clone()).collect()),
    }
}

/// Whether a route may not be tried again; before the first attempt nothing is known of any.
fn used_up(states: &[RouteState], index: usize) -> bool {
    states.get(index).is_some_and(|route| route.used_up)
}

/// How full an agent is, in millionths.
fn busyness(agent: &AgentState) -> usize {
    agent.running.saturating_mul(1_000_000) / agent.policy.max_concurrency.max(1)
}

/// Why no route is left, when none was ever tried: every agent is unavailable.
fn refusal(routes: &[Route], agents: &IndexMap<AgentId, AgentState>) -> Failure {
    let mut reasons: Vec<String> = Vec::new();
    let mut help = None;
    for route in routes {
        if let Connection::Unavailable(failure) = &agents[&route.agent].connection {
            let reason = format!("agent `{}` is unavailable: {failure}", route.agent);
            if !reasons.contains(&reason) {
                reasons.push(reason);
                help = help.or_else(|| failure.help.clone());
            }
        }
    }
    Failure { kind: FailureKind::AgentUnavailable, message: reasons.join("; "), help }
}

impl AgentState {
    /// An agent that nobody has asked for.
    pub(super) fn new(policy: &AgentPolicy) -> Self {
        Self { policy: policy.clone(), connection: Connection::NotAsked, known: None, running: 0 }
    }
}
