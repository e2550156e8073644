//! The state that all decisions depend on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::agent::AgentState;
use super::questions::Questions;
use super::task::{TaskEntry, TaskState};
use crate::engine::ledger::{BudgetAccounts, Ledger};
use crate::model::{
    AgentId, AttemptId, EndCause, IdMap, KeptResult, NodeIndex, Plan, PlanPatch, QuestionId, RequestId, RunId,
    RunSource, RunStatus, SamplingOrigin, StopStatus, TaskGraph, TaskId, Timestamp,
};

/// The state that all decisions depend on.
#[derive(Debug, PartialEq)]
pub struct State {
    pub(crate) plan: Arc<Plan>,
    pub(crate) inputs: Arc<Value>,
    pub(crate) seed: u64,
    /// The files that the run was started from.
    pub(crate) source: Option<Arc<RunSource>>,
    /// The ID of the run; absent in journals of earlier versions.
    pub(crate) id: Option<RunId>,
    pub(crate) started_at: Timestamp,
    pub(crate) last_event_at: Timestamp,
    pub(crate) graph: TaskGraph,
    /// The tasks and their items, by node index.
    pub(crate) tasks: Vec<TaskEntry>,
    pub(crate) agents: IdMap<AgentId, AgentState>,
    pub(crate) questions: Questions,
    /// The tools of agents whose calls a person approved for the rest of the run.
    pub(crate) approved_tools: BTreeSet<(AgentId, Arc<str>)>,
    /// The sampling requests that the model has not answered, each with its origin.
    pub(crate) sampling: BTreeMap<RequestId, SamplingOrigin>,
    /// True if a person accepted that the tools of agents changed during an interruption.
    pub(crate) accepts_changes: bool,
    /// The spending of the run and its tasks.
    pub(crate) ledger: Ledger<BudgetAccounts>,
    /// The replans of the run.
    pub(crate) replans: ReplanState,
    /// The results of an earlier run, by planned task and request.
    pub(crate) kept_results: BTreeMap<NodeIndex, BTreeMap<String, VecDeque<KeptResult>>>,
    /// The ambiguous calls of an earlier run that no node has claimed, by planned task and request. The values are the
    /// reasons for the ambiguity.
    pub(crate) unsettled: BTreeMap<NodeIndex, BTreeMap<String, VecDeque<String>>>,
    /// The signals that no task has consumed, by name.
    pub(crate) signals: BTreeMap<String, VecDeque<Value>>,
    /// The hooks of the plan.
    pub(crate) plan_hooks: Vec<NodeIndex>,
    /// The hooks of the plan that may start.
    pub(crate) released_hooks: BTreeSet<NodeIndex>,
    /// The status that the run has without the hooks of the plan, once these run.
    pub(crate) finalizing: Option<RunStatus>,
    /// The time at which the run's time budget ends, if it has one.
    pub(crate) deadline: Option<Timestamp>,
    /// The number of attempts and model requests in progress.
    pub(crate) running: usize,
    /// The number of nodes that have not ended.
    pub(crate) unfinished_nodes: usize,
    pub(crate) stop_reason: Option<RunStop>,
    pub(crate) status: RunStatus,
    pub(crate) next_seq: u64,
}

/// The state of the replans of a run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ReplanState {
    /// The number of replans started.
    pub(crate) started_count: u32,
    /// The stage of the last replan.
    pub(crate) stage: ReplanStage,
    /// Tasks with a final failure that asks for a replan, until a replan is started for them or refused.
    pub(crate) failed: Vec<NodeIndex>,
    /// Tasks whose failure started a replan.
    pub(crate) attempted: BTreeSet<NodeIndex>,
    /// Tasks whose failure led to a patch. The run tolerates these failures if it has any result.
    pub(crate) superseded: BTreeSet<NodeIndex>,
    /// Tasks removed by a patch.
    pub(crate) removed: BTreeSet<NodeIndex>,
    /// The part of the goal that the latest patch does not reach.
    pub(crate) missing: Option<String>,
    /// The number of nodes when the goal was last checked. It is checked again once more were added and have ended.
    pub(crate) checked_nodes: usize,
}

/// The stage of the last replan.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum ReplanStage {
    /// No replan is in progress.
    #[default]
    Idle,
    /// The planner works on a patch because these tasks failed.
    Planning(Vec<TaskId>),
    /// A person has to approve the patch that was made because these tasks failed.
    Proposed(Vec<TaskId>, Arc<PlanPatch>),
}

/// The reason why the run starts no more attempts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RunStop {
    /// A cancellation by a person.
    Cancelled,
    /// A request to stop the process. A later process resumes the run.
    Interrupted,
    /// A condition that makes success impossible.
    Failed(EndCause),
    /// A task of the plan that ends the run.
    Stopped { status: StopStatus, cause: EndCause, outputs: Option<IndexMap<String, Value>> },
}

/// A name that the run does not have.
#[derive(Debug)]
pub(crate) struct UnknownName(pub(crate) String);

impl State {
    /// Returns the status of the run.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// Returns the files that the run was started from, if there are any.
    pub fn source(&self) -> Option<&RunSource> {
        self.source.as_deref()
    }

    /// Returns the sequence number of the next event, which equals the number of events so far.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Returns whether the run stops because its process was asked to.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.stop_reason == Some(RunStop::Interrupted)
    }

    /// Returns the plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Returns the attempts and model requests in progress.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = AttemptId> {
        self.tasks.iter().zip(self.graph.nodes()).filter_map(|(entry, (_, node))| {
            let number = entry.in_flight()?;
            Some(AttemptId { task: node.id.clone(), number })
        })
    }

    /// Returns the agent's request that waits for the answer to `question`. Approvals have none.
    pub fn waiting_request(&self, question: &QuestionId) -> Option<&RequestId> {
        self.questions.get(question)?.request.as_ref()
    }

    /// Returns the node of an attempt or model request in progress. Returns `None` if it has ended or is unknown.
    pub(crate) fn running_node(&self, attempt: &AttemptId) -> Option<NodeIndex> {
        let node = self.graph.node_index(attempt.task.as_str())?;
        (self.tasks[node.index()].in_flight() == Some(attempt.number)).then_some(node)
    }

    /// Returns the ID of the next attempt of `node`.
    pub(crate) fn next_attempt(&self, node: NodeIndex) -> AttemptId {
        AttemptId { task: self.graph[node].id.clone(), number: self.tasks[node.index()].attempts + 1 }
    }

    /// Returns the node of a task if it waits for a person.
    pub(crate) fn awaiting_node(&self, task: &TaskId) -> Option<NodeIndex> {
        let node = self.graph.node_index(task.as_str())?;
        (self.tasks[node.index()].state == TaskState::AwaitingAnswer).then_some(node)
    }

    pub(crate) fn find_node(&self, id: &TaskId) -> Result<NodeIndex, UnknownName> {
        self.graph.node_index(id.as_str()).ok_or_else(|| UnknownName(id.to_string()))
    }
}
