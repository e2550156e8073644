//! Queues the nodes that wait for an agent: one line for each set of agents that would do.
//! Nodes of one line are alike to the router, so looking at the first of each line is enough.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use crate::model::{AgentId, IdHashMap, IdMap, NodeIndex, Timestamp};

use super::{
    router,
    run::{AgentState, Connection},
};

/// The lines. Part of a run's hints, not of its state.
#[derive(Debug, Default)]
pub(super) struct WaitingLines {
    lines: Vec<Line>,
    /// By the agents, in the order of their names.
    by_agents: HashMap<Arc<[AgentId]>, usize>,
    /// The lines with nodes in which an agent occurs.
    by_agent: IdHashMap<AgentId, BTreeSet<usize>>,
    /// How many nodes have ever waited, so that lines are served in the order of arrival.
    arrivals: u64,
}

#[derive(Debug)]
struct Line {
    agents: Arc<[AgentId]>,
    /// With the number of each arrival.
    nodes: VecDeque<(u64, NodeIndex)>,
}

impl WaitingLines {
    /// Adds a node that any of `agents` would do for.
    pub(super) fn push(&mut self, mut agents: Vec<AgentId>, node: NodeIndex) {
        agents.sort_unstable();
        agents.dedup();
        let line = match self.by_agents.get(agents.as_slice()) {
            Some(line) => *line,
            None => {
                let agents: Arc<[AgentId]> = agents.into();
                self.lines.push(Line { agents: Arc::clone(&agents), nodes: VecDeque::new() });
                self.by_agents.insert(agents, self.lines.len() - 1);
                self.lines.len() - 1
            }
        };
        let Line { agents, nodes } = &mut self.lines[line];
        if nodes.is_empty() {
            for agent in agents.iter() {
                self.by_agent.entry(agent.clone()).or_default().insert(line);
            }
        }
        nodes.push_back((self.arrivals, node));
        self.arrivals += 1;
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.by_agent.values().all(BTreeSet::is_empty)
    }

    /// Moves to `startable` the node that has waited longest of those that can start, or all that wait for an agent
    /// that has become unavailable.
    pub(super) fn take_next(
        &mut self,
        agents: &IdMap<AgentId, AgentState>,
        now: Timestamp,
        startable: &mut VecDeque<NodeIndex>,
    ) {
        let mut next: Option<(u64, usize)> = None;
        for (agent, lines) in &self.by_agent {
            let is_gone = match agents[agent].connection {
                Connection::Connected(_) if agents[agent].has_room() => false,
                Connection::Unavailable(_) => true,
                Connection::Connected(_) | Connection::NotAsked | Connection::Connecting => continue,
            };
            for &line in lines {
                let Line { agents: equals, nodes } = &self.lines[line];
                let Some(&(arrival, _)) = nodes.front() else { continue };
                if is_gone {
                    let nodes = std::mem::take(&mut self.lines[line].nodes);
                    startable.extend(nodes.into_iter().map(|(_, node)| node));
                    return self.forget_if_empty(line);
                }
                let comes_first = next.is_none_or(|(first, _)| arrival < first);
                if comes_first && router::pick(equals.iter().map(|id| (id, 0, &agents[id])), now).is_some() {
                    next = Some((arrival, line));
                }
            }
        }
        if let Some((_, line)) = next
            && let Some((_, node)) = self.lines[line].nodes.pop_front()
        {
            startable.push_back(node);
            self.forget_if_empty(line);
        }
    }

    fn forget_if_empty(&mut self, line: usize) {
        if self.lines[line].nodes.is_empty() {
            for agent in self.lines[line].agents.iter() {
                if let Some(lines) = self.by_agent.get_mut(agent) {
                    lines.remove(&line);
                }
            }
        }
    }
}
