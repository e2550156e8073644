//! Ranks the routes of a task and explains each refusal.
//! Never starts anything.

use crate::model::{AgentId, AgentPolicy, Failure, FailureKind, IdMap, Route};

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
    agents: &IdMap<AgentId, AgentState>,
) -> Choice {
    let mut candidates: Vec<Candidate<'_>> = (routes.iter().enumerate())
        .filter(|(index, _)| !used_up(states, *index))
        .map(|(index, route)| Candidate { index, route, agent: &agents[&route.agent] })
        .filter(|candidate| !matches!(candidate.agent.connection, Connection::Unavailable(_)))
        .collect();
    let Some(rank) = candidates.iter().map(|candidate| candidate.route.rank).min() else {
        return Choice::None(refusal(routes, agents));
    };
    candidates.retain(|candidate| candidate.route.rank == rank);
    if candidates.iter().any(|candidate| Some(candidate.index) == preferred) {
        candidates.retain(|candidate| Some(candidate.index) == preferred);
    }
    match candidates.iter().filter(|candidate| candidate.agent.has_room()).min_by_key(|candidate| candidate.busyness())
    {
        Some(candidate) => Choice::Start(candidate.index),
        None => Choice::Wait(candidates.iter().map(|candidate| candidate.route.agent.clone()).collect()),
    }
}

/// A route that may be taken.
struct Candidate<'r> {
    index: usize,
    route: &'r Route,
    agent: &'r AgentState,
}

impl Candidate<'_> {
    /// How full its agent is, in millionths.
    fn busyness(&self) -> usize {
        self.agent.running.saturating_mul(1_000_000) / self.agent.policy.max_concurrency.max(1)
    }
}

/// Whether a route may not be tried again; before the first attempt nothing is known of any.
fn used_up(states: &[RouteState], index: usize) -> bool {
    states.get(index).is_some_and(|route| route.used_up)
}

/// Why no route is left, when none was ever tried: every agent is unavailable.
fn refusal(routes: &[Route], agents: &IdMap<AgentId, AgentState>) -> Failure {
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
    Failure { help, ..Failure::new(FailureKind::AgentUnavailable, reasons.join("; ")) }
}

impl AgentState {
    /// An agent that nobody has asked for.
    pub(super) fn new(policy: &AgentPolicy) -> Self {
        Self { policy: policy.clone(), connection: Connection::NotAsked, known: None, running: 0 }
    }

    /// Whether another attempt can start on it now.
    fn has_room(&self) -> bool {
        matches!(self.connection, Connection::Connected(_)) && self.running < self.policy.max_concurrency
    }
}
