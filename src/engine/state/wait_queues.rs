//! Queues the nodes that wait for an agent, with one queue for each set of suitable agents. All nodes of a queue are
//! equivalent to the router, so only the first of each queue is examined.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::agent::{AgentState, ConnectionStatus, least_busy};
use crate::model::{AgentId, IdHashMap, IdMap, NodeIndex, Timestamp};

/// The queues. They are not part of the state of a run.
#[derive(Debug, Default)]
pub(crate) struct WaitQueues {
    queues: Vec<WaitQueue>,
    /// The queue of each set of agents, sorted by agent ID.
    queue_by_agents: HashMap<Arc<[AgentId]>, usize>,
    /// The non-empty queues by agent.
    queues_by_agent: IdHashMap<AgentId, BTreeSet<usize>>,
    /// The number of the next arrival, so that queues are served in the order of arrival.
    next_arrival: u64,
}

#[derive(Debug)]
struct WaitQueue {
    agents: Arc<[AgentId]>,
    /// The nodes, each with the number of its arrival.
    nodes: VecDeque<(u64, NodeIndex)>,
}

impl WaitQueues {
    /// Adds a node that can run on any of `agents`.
    pub(crate) fn push(&mut self, mut agents: Vec<AgentId>, node: NodeIndex) {
        agents.sort_unstable();
        agents.dedup();
        let index = match self.queue_by_agents.get(agents.as_slice()) {
            Some(index) => *index,
            None => {
                let agents: Arc<[AgentId]> = agents.into();
                self.queues.push(WaitQueue { agents: Arc::clone(&agents), nodes: VecDeque::new() });
                self.queue_by_agents.insert(agents, self.queues.len() - 1);
                self.queues.len() - 1
            }
        };
        let WaitQueue { agents, nodes } = &mut self.queues[index];
        if nodes.is_empty() {
            for agent in agents.iter() {
                self.queues_by_agent.entry(agent.clone()).or_default().insert(index);
            }
        }
        nodes.push_back((self.next_arrival, node));
        self.next_arrival += 1;
    }

    /// Returns whether no node waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues_by_agent.values().all(BTreeSet::is_empty)
    }

    /// Moves the longest waiting node that can start to `runnable`. If an agent is unavailable, moves all nodes of one
    /// of its queues instead.
    pub(crate) fn dequeue_startable(
        &mut self,
        agents: &IdMap<AgentId, AgentState>,
        now: Timestamp,
        runnable: &mut VecDeque<NodeIndex>,
    ) {
        let mut next: Option<(u64, usize)> = None;
        for (agent, queues) in &self.queues_by_agent {
            let is_unavailable = match agents[agent].connection {
                ConnectionStatus::Connected(_) if agents[agent].has_capacity() => false,
                ConnectionStatus::Unavailable(_) => true,
                ConnectionStatus::Connected(_) | ConnectionStatus::NotRequested | ConnectionStatus::Connecting => {
                    continue;
                }
            };
            for &index in queues {
                let WaitQueue { agents: equals, nodes } = &self.queues[index];
                let Some(&(arrival, _)) = nodes.front() else { continue };
                if is_unavailable {
                    let nodes = std::mem::take(&mut self.queues[index].nodes);
                    runnable.extend(nodes.into_iter().map(|(_, node)| node));
                    return self.remove_if_empty(index);
                }
                let is_earlier = next.is_none_or(|(first, _)| arrival < first);
                if is_earlier && least_busy(equals.iter().map(|id| (id, 0, &agents[id])), now).is_some() {
                    next = Some((arrival, index));
                }
            }
        }
        if let Some((_, index)) = next
            && let Some((_, node)) = self.queues[index].nodes.pop_front()
        {
            runnable.push_back(node);
            self.remove_if_empty(index);
        }
    }

    fn remove_if_empty(&mut self, queue: usize) {
        if self.queues[queue].nodes.is_empty() {
            for agent in self.queues[queue].agents.iter() {
                if let Some(queues) = self.queues_by_agent.get_mut(agent) {
                    queues.remove(&queue);
                }
            }
        }
    }
}
