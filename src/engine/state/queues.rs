//! The queues of nodes to examine next, and the timers. They are hints: the state of a node decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::outages::Outages;
use super::wait_queues::WaitQueues;
use crate::model::{AgentId, ChatRequest, IdHashMap, NodeIndex, QuestionId, RequestId, SamplingOrigin, Timestamp};

/// The queues of nodes to examine next, and the timers.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Nodes whose dependencies have ended and that have to be evaluated.
    pub(crate) ready: VecDeque<NodeIndex>,
    /// Evaluated nodes that start when there is capacity.
    pub(crate) runnable: VecDeque<NodeIndex>,
    /// True for nodes whose condition was already evaluated, by node index.
    examined: Vec<bool>,
    /// Nodes that a replan prevents from starting.
    pub(crate) held_for_replan: Vec<NodeIndex>,
    /// Nodes that wait for capacity on an agent or for its connection.
    pub(crate) waiting: WaitQueues,
    /// The times at which the cooldowns of agents end.
    pub(crate) cooldowns: BTreeSet<(Timestamp, AgentId)>,
    /// Items that wait for capacity under their `foreach` task.
    pub(crate) items_by_parent: IdHashMap<NodeIndex, VecDeque<NodeIndex>>,
    /// `foreach` tasks whose items may have capacity again.
    pub(crate) parents_with_capacity: BTreeSet<NodeIndex>,
    /// Prompts that wait until reserved tokens are settled, by the node whose budget limits them. The key `None` is the
    /// run's budget.
    pub(crate) waiting_prompts: BTreeMap<Option<NodeIndex>, VecDeque<WaitingPrompt>>,
    /// Agents' sampling requests that wait until reserved tokens are settled.
    pub(crate) waiting_samplings: VecDeque<WaitingSampling>,
    /// The agents that could not be reached.
    pub(crate) outages: Outages,
    /// The times at which delays of nodes end.
    pub(crate) timers: BTreeSet<(Timestamp, NodeIndex)>,
    /// The times at which the time budgets of plans that run as tasks end. Some of these have ended already.
    pub(crate) plan_deadlines: BTreeSet<(Timestamp, NodeIndex)>,
    /// The times at which waits for signals and changes fail. Some of these have ended already.
    pub(crate) wait_deadlines: BTreeSet<(Timestamp, NodeIndex)>,
    /// The times at which default answers are due. Some of these questions are already answered.
    pub(crate) question_deadlines: BTreeSet<(Timestamp, QuestionId)>,
    /// True once the run stops and every node that had not started has ended.
    pub(crate) stop_applied: bool,
}

impl Queues {
    /// Marks the condition of a node as evaluated. Returns whether it was evaluated for the first time.
    pub(crate) fn mark_examined(&mut self, node: NodeIndex) -> bool {
        if self.examined.len() <= node.index() {
            self.examined.resize(node.index() + 1, false);
        }
        !std::mem::replace(&mut self.examined[node.index()], true)
    }

    /// Makes the next evaluation of a node evaluate its condition again.
    pub(crate) fn clear_examined(&mut self, node: NodeIndex) {
        if let Some(examined) = self.examined.get_mut(node.index()) {
            *examined = false;
        }
    }
}

/// A prompt whose next request waits for tokens.
#[derive(Debug)]
pub(crate) struct WaitingPrompt {
    pub(crate) node: NodeIndex,
    /// The maximum number of tokens that the request may use.
    pub(crate) tokens: u64,
}

/// An agent's sampling request that waits until reserved tokens are settled.
#[derive(Debug)]
pub(crate) struct WaitingSampling {
    pub(crate) request: RequestId,
    pub(crate) origin: SamplingOrigin,
    pub(crate) chat: Arc<ChatRequest>,
}
