//! The state of a run, folded from its events, and the queues of nodes to examine next. Only [`Run::apply`] changes the
//! state.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Deref,
    sync::Arc,
};

use serde_json::Value;

use super::wait_queues::WaitQueues;
use crate::{
    engine::{
        apply::Fold,
        budget::{Accounts, WaitingPrompt},
        decide::NewRun,
        prompt::Schemas,
        questions::Questions,
        replan::ReplanState,
        routing::{health::AgentHealth, outages::Outages},
    },
    model::{
        AgentId, AgentInfo, AgentPolicy, AttemptId, ChatError, ChatMessage, ChatReply, ChatRequest, EndCause, Event,
        Failure, GraphError, HumanDuration, IdHashMap, IdMap, KeptResult, NodeIndex, Outcome, Plan, QuestionId, Record,
        ReplyStatus, RequestId, RunSource, RunStatus, SamplingOrigin, SkipReason, TaskGraph, TaskId, Timestamp,
    },
};

/// One execution of a plan. Runs are compared by their state.
#[derive(Debug)]
pub struct Run {
    /// Private, so that only [`Run::apply`] can change it.
    state: State,
    /// The nodes to examine next. Some entries are stale, so equality ignores the queues. After a fold they hold every
    /// node that an event made ready: a superset of the nodes that are still ready.
    pub(crate) queues: Queues,
    /// A cache of compiled answer schemas.
    pub(crate) schemas: Schemas,
}

/// The state that all decisions depend on.
#[derive(Debug, PartialEq)]
pub struct State {
    pub(crate) plan: Arc<Plan>,
    pub(crate) inputs: Arc<Value>,
    pub(crate) seed: u64,
    /// The files that the run was started from.
    pub(crate) source: Option<Arc<RunSource>>,
    pub(crate) graph: TaskGraph,
    /// The tasks and their items, by node index.
    pub(crate) tasks: Vec<TaskEntry>,
    pub(crate) agents: IdMap<AgentId, AgentState>,
    pub(crate) questions: Questions,
    /// The sampling requests that the model has not answered, each with its origin.
    pub(crate) sampling: BTreeMap<RequestId, SamplingOrigin>,
    /// True if a person accepted that the tools of agents changed during an interruption.
    pub(crate) accepts_changes: bool,
    /// The spending of the run and its tasks.
    pub(crate) accounts: Accounts,
    /// The replans of the run.
    pub(crate) replans: ReplanState,
    /// The results of an earlier run, by planned task and request.
    pub(crate) kept_results: BTreeMap<NodeIndex, BTreeMap<String, VecDeque<KeptResult>>>,
    /// The ambiguous calls of an earlier run that no node has claimed, by planned task and request. The values are the
    /// reasons for the ambiguity.
    pub(crate) unsettled: BTreeMap<NodeIndex, BTreeMap<String, VecDeque<String>>>,
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

impl Deref for Run {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

/// The reason why the run starts no more attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunStop {
    /// A cancellation by a person.
    Canceled,
    /// A request to stop the process. A later process resumes the run.
    Interrupted,
    /// A condition that makes success impossible.
    Failed(EndCause),
}

/// The state of a node.
#[derive(Debug, PartialEq)]
pub(crate) struct TaskEntry {
    pub(crate) state: TaskState,
    /// The number of dependencies that have not ended: `needs`, or the items of a `foreach` task.
    pub(crate) pending_dependencies: usize,
    /// The number of attempts on all routes.
    pub(crate) attempts: u32,
    /// The routes by index; empty before the first attempt.
    pub(crate) routes: Vec<RouteState>,
    /// True if a person approved the task.
    pub(crate) is_approved: bool,
    /// The reason why it is unknown whether the same call took effect in an earlier run. Set until the first attempt,
    /// after a person was asked.
    pub(crate) unsettled: Option<Box<str>>,
    /// True if a person approved all calls of this `foreach` task.
    pub(crate) rest_approved: bool,
    /// The agent of the last attempt.
    pub(crate) agent: Option<AgentId>,
    /// The route of the last attempt as an index, since two routes may have the same agent.
    pub(crate) last_route: Option<usize>,
    /// The conversation of a prompt, once the model was asked.
    pub(crate) conversation: Option<Box<Conversation>>,
    /// The failure of the last attempt, until another one starts.
    pub(crate) last_failure: Option<Box<Failure>>,
    /// True if an earlier process started the current attempt.
    pub(crate) is_reattached: bool,
    /// The model's replies to sampling requests of the current attempt, by request key. The agent may not have received
    /// them.
    pub(crate) replies: BTreeMap<String, Result<ChatReply, ChatError>>,
    /// The node indices of the items of a `foreach` task.
    pub(crate) items: std::ops::Range<usize>,
    /// The number of running items of a `foreach` task.
    pub(crate) running_items: usize,
}

/// The scheduling state of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TaskState {
    /// Some dependencies have not ended.
    Blocked,
    /// The node can start when there is capacity.
    Ready,
    /// A person has to answer first: an approval, or a question about the outcome of the last attempt.
    AwaitingAnswer,
    /// The node waits before it is retried. From `until` on, it can start like a ready one.
    Delayed { until: Timestamp },
    /// An attempt is in progress.
    Running { number: u32, route: usize },
    /// A model request is in progress.
    AskingModel,
    /// A `foreach` task with unfinished items, or a prompt with unfinished tool calls.
    Expanded,
    /// The node has ended.
    Ended(Outcome),
}

/// The conversation of a prompt with the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Conversation {
    /// The number of the current exchange, from 1.
    pub(crate) exchange: u32,
    /// All messages, oldest first.
    pub(crate) messages: Vec<Arc<ChatMessage>>,
    /// The tool calls that the model requested in this exchange: the model's ID of each call, and its node.
    pub(crate) calls: Vec<(String, NodeIndex)>,
    /// The number of tool calls in all exchanges.
    pub(crate) total_calls: usize,
    /// True if the model was asked to correct its answer.
    pub(crate) is_repair_requested: bool,
    /// The status of the last reply.
    pub(crate) reply_status: ReplyStatus,
    /// The output tokens of the last reply, if the endpoint reported them.
    pub(crate) counted: Option<u64>,
    /// The number of consecutive failures of the current exchange.
    pub(crate) failures: u32,
    /// The minimum delay before the failed request is retried; `None` if a retry is useless.
    pub(crate) retry_after: Option<HumanDuration>,
    /// The time by which the reply must be complete.
    pub(crate) deadline: Option<Timestamp>,
}

/// The state of one route of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RouteState {
    pub(crate) tries: u32,
    pub(crate) is_used_up: bool,
}

/// The state of an agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AgentState {
    pub(crate) policy: AgentPolicy,
    pub(crate) connection: ConnectionStatus,
    /// The last information that the agent reported, kept after it disconnects.
    pub(crate) last_info: Option<Arc<AgentInfo>>,
    /// The number of attempts in progress on the agent.
    pub(crate) running: usize,
    /// The sequence number of the event that started the agent's last attempt. Of equal agents, the one that has been
    /// idle longest is chosen.
    pub(crate) last_started: u64,
    /// The outcomes of recent attempts.
    pub(crate) health: AgentHealth,
}

/// The connection status of an agent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ConnectionStatus {
    NotRequested,
    Connecting,
    Connected(Arc<AgentInfo>),
    Unavailable(Failure),
}

/// An agent's sampling request that waits until reserved tokens are settled.
#[derive(Debug)]
pub(crate) struct WaitingSampling {
    pub(crate) request: RequestId,
    pub(crate) origin: SamplingOrigin,
    pub(crate) chat: Arc<ChatRequest>,
}

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
    /// Prompts that wait until reserved tokens are settled, by the task whose budget limits them. The key `None` is the
    /// run's budget.
    pub(crate) waiting_prompts: BTreeMap<Option<NodeIndex>, VecDeque<WaitingPrompt>>,
    /// Agents' sampling requests that wait until reserved tokens are settled.
    pub(crate) waiting_samplings: VecDeque<WaitingSampling>,
    /// The agents that could not be reached.
    pub(crate) outages: Outages,
    /// The times at which delays of nodes end.
    pub(crate) timers: BTreeSet<(Timestamp, NodeIndex)>,
    /// The times at which default answers are due. Some of these questions are already answered.
    pub(crate) question_deadlines: BTreeSet<(Timestamp, QuestionId)>,
    /// True once the run stops and every node that had not started has ended.
    pub(crate) stop_applied: bool,
}

impl Queues {
    /// Returns whether the condition of a node is evaluated for the first time.
    pub(crate) fn is_first_look(&mut self, node: NodeIndex) -> bool {
        if self.examined.len() <= node.index() {
            self.examined.resize(node.index() + 1, false);
        }
        !std::mem::replace(&mut self.examined[node.index()], true)
    }

    /// Makes the next evaluation of a node evaluate its condition again.
    pub(crate) fn look_again(&mut self, node: NodeIndex) {
        if let Some(examined) = self.examined.get_mut(node.index()) {
            *examined = false;
        }
    }
}

/// The reason why a list of records cannot be folded into a run.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The first record is not `run_started`.
    #[error("the first event of a run must be `run_started`")]
    NoStart,
    /// A record is missing or duplicated.
    #[error("expected event {expected}, found event {found}")]
    Gap {
        /// The expected sequence number.
        expected: u64,
        /// The sequence number of the record.
        found: u64,
    },
    /// The tasks of the plan in the first record do not form a valid graph.
    #[error("the plan of the run is not valid: {0}")]
    Plan(#[from] GraphError),
    /// An event refers to a name that the run does not have.
    #[error("event {seq} names `{name}`, which the run does not have")]
    Unknown {
        /// The sequence number of the event.
        seq: u64,
        /// The task, agent, or question.
        name: String,
    },
}

impl Run {
    /// Computes a run from its records.
    ///
    /// # Errors
    /// Returns an error if the records are not the complete history of one run from its start.
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self, FoldError> {
        Self::fold_while(records, |_, _| {})
    }

    /// Folds records like [`Self::fold`] and calls `see` with the run before each event.
    pub(crate) fn fold_while<'a>(
        records: impl IntoIterator<Item = &'a Record>,
        mut see: impl FnMut(&Self, &Event),
    ) -> Result<Self, FoldError> {
        let mut records = records.into_iter();
        let Some(Record { seq: 0, at, event: Event::RunStarted { plan, inputs, seed, source } }) = records.next()
        else {
            return Err(FoldError::NoStart);
        };
        let (plan, inputs, source) = (Arc::clone(plan), Arc::clone(inputs), source.clone());
        let mut run = Self::new(&NewRun { plan, inputs, seed: *seed, planning: None, source }, *at)?;
        for record in records {
            if record.seq != run.next_seq {
                return Err(FoldError::Gap { expected: run.next_seq, found: record.seq });
            }
            see(&run, &record.event);
            run.apply(&record.event, record.at)
                .map_err(|UnknownName(name)| FoldError::Unknown { seq: record.seq, name })?;
        }
        Ok(run)
    }

    /// Creates the run in its state after `RunStarted`.
    pub(crate) fn new(new_run: &NewRun, at: Timestamp) -> Result<Self, GraphError> {
        let NewRun { plan, inputs, seed, source, .. } = new_run;
        let graph = TaskGraph::new(&plan.tasks)?;
        let mut state = State {
            plan: Arc::clone(plan),
            inputs: Arc::clone(inputs),
            seed: *seed,
            source: source.clone(),
            tasks: Vec::with_capacity(graph.len()),
            agents: plan.agents.iter().map(|(id, policy)| (id.clone(), AgentState::new(policy))).collect(),
            questions: Questions::default(),
            sampling: BTreeMap::new(),
            accepts_changes: false,
            accounts: Accounts::default(),
            replans: ReplanState::default(),
            kept_results: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            deadline: plan.budget.time.map(|time| at.after(time.0)),
            running: 0,
            unfinished_nodes: graph.len(),
            stop_reason: None,
            status: RunStatus::Running,
            next_seq: 1,
            graph,
        };
        let mut queues = Queues::default();
        for index in (0..state.graph.len()).map(NodeIndex::new) {
            let waiting_for = state.graph.dependencies(index).count();
            let task = if waiting_for == 0 { TaskState::Ready } else { TaskState::Blocked };
            if waiting_for == 0 {
                queues.ready.push_back(index);
            }
            state.tasks.push(TaskEntry::new(task, waiting_for));
        }
        Ok(Self { state, queues, schemas: Schemas::default() })
    }

    /// Returns the state for reading together with the mutable queues.
    pub(crate) fn hints(&mut self) -> (&State, &mut Queues) {
        (&self.state, &mut self.queues)
    }

    /// Applies one event that was decided at `at`. Only this method changes the state of a run.
    pub(crate) fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), UnknownName> {
        Fold { state: &mut self.state, queues: &mut self.queues }.apply(event, at)
    }

    /// Returns the next time at which [`crate::engine::Run::handle`] has work without an input.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let pause = self.queues.timers.first().map(|(at, _)| *at);
        let deadline = self.deadline.filter(|_| self.stop_reason.is_none());
        let rest = self.queues.cooldowns.first().map(|(at, _)| *at).filter(|_| !self.queues.waiting.is_empty());
        pause.into_iter().chain(deadline).chain(rest).chain(self.next_question_deadline()).min()
    }
}

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

    pub(crate) fn find_node(&self, id: &TaskId) -> Result<NodeIndex, UnknownName> {
        self.graph.node_index(id.as_str()).ok_or_else(|| UnknownName(id.to_string()))
    }
}

/// A name that the run does not have.
#[derive(Debug)]
pub(crate) struct UnknownName(pub(crate) String);

impl TaskEntry {
    pub(crate) fn new(state: TaskState, waiting_for: usize) -> Self {
        Self {
            state,
            pending_dependencies: waiting_for,
            attempts: 0,
            routes: Vec::new(),
            is_approved: false,
            unsettled: None,
            rest_approved: false,
            agent: None,
            last_route: None,
            conversation: None,
            last_failure: None,
            is_reattached: false,
            replies: BTreeMap::new(),
            items: 0..0,
            running_items: 0,
        }
    }

    /// Returns the number of the attempt or model request in progress.
    pub(crate) fn in_flight(&self) -> Option<u32> {
        match (&self.state, &self.conversation) {
            (TaskState::Running { number, .. }, _) => Some(*number),
            (TaskState::AskingModel, Some(_)) => Some(self.attempts),
            _ => None,
        }
    }

    /// Returns whether the node has not ended and has no attempt, model request, or items in progress.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.state {
            TaskState::Running { .. } | TaskState::AskingModel | TaskState::Ended(_) => false,
            // A `foreach` task ends after its items.
            TaskState::Expanded => self.pending_dependencies == 0,
            TaskState::Blocked | TaskState::Ready | TaskState::AwaitingAnswer | TaskState::Delayed { .. } => true,
        }
    }

    /// Returns the reason why a dependent of this node is skipped, if it is.
    pub(crate) fn blocking_reason(&self, id: &TaskId, on_failure: crate::model::OnFailure) -> Option<SkipReason> {
        let TaskState::Ended(outcome) = &self.state else { return None };
        match outcome {
            Outcome::Succeeded(_) => None,
            Outcome::Failed(_) if on_failure == crate::model::OnFailure::Continue => None,
            Outcome::Failed(_) => Some(SkipReason::NeedFailed { task: id.clone() }),
            Outcome::Skipped(_) | Outcome::Cancelled => Some(SkipReason::NeedSkipped { task: id.clone() }),
        }
    }
}
