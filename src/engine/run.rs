//! A run as the fold of its events, and beside it the hints of what to look at next.
//! Never changes its state but by an event: nothing else can.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Deref,
    sync::Arc,
};

use serde_json::Value;

use crate::model::{
    AgentId, AgentInfo, AgentPolicy, AttemptId, ChatError, ChatMessage, ChatReply, ChatRequest, EndCause, Event,
    Failure, GraphError, HumanDuration, IdHashMap, IdMap, KeptResult, NodeIndex, Outcome, Plan, QuestionId, Record,
    ReplyStatus, RequestId, RunSource, RunStatus, SamplingOrigin, SkipReason, TaskGraph, TaskId, Timestamp,
};

use super::{
    apply::Fold,
    budget::{Accounts, WaitingPrompt},
    decide::NewRun,
    health::AgentHealth,
    outages::Outages,
    prompt::Schemas,
    questions::Questions,
    replan::ReplanState,
    wait_queues::WaitQueues,
};

/// One execution of a plan. Two runs are equal when their states are.
#[derive(Debug)]
pub struct Run {
    /// Private, so that only [`Run::apply`] can change it.
    state: State,
    /// Nodes worth a look. Some are stale, so they are not part of equality. After a fold they hold every node that any
    /// event made ready, which is a superset of those that still are.
    pub(super) queues: Queues,
    /// The compiled schemas of answers, which save work.
    pub(super) schemas: Schemas,
}

/// All that decisions rest on.
#[derive(Debug, PartialEq)]
pub struct State {
    pub(super) plan: Arc<Plan>,
    pub(super) inputs: Arc<Value>,
    pub(super) seed: u64,
    /// The files that it came from.
    pub(super) source: Option<Arc<RunSource>>,
    pub(super) graph: TaskGraph,
    /// By node index.
    pub(super) tasks: Vec<TaskEntry>,
    pub(super) agents: IdMap<AgentId, AgentState>,
    pub(super) questions: Questions,
    /// Sampling requests that wait for the model, each with its asker.
    pub(super) sampling: BTreeMap<RequestId, SamplingOrigin>,
    /// Whether a person accepted that agents' tools are not what they were before an interruption.
    pub(super) accepts_changes: bool,
    /// What was spent.
    pub(super) accounts: Accounts,
    /// What was planned anew.
    pub(super) replans: ReplanState,
    /// Results of an earlier run, by the task of the plan and by what was asked for.
    pub(super) kept_results: BTreeMap<NodeIndex, BTreeMap<String, VecDeque<KeptResult>>>,
    /// Calls of an earlier run of unknown outcome that no node has claimed, in the same way: why it is unknown.
    pub(super) unsettled: BTreeMap<NodeIndex, BTreeMap<String, VecDeque<String>>>,
    /// When the run's time is over, if it is bounded.
    pub(super) deadline: Option<Timestamp>,
    /// Attempts in flight.
    pub(super) running: usize,
    /// Nodes that have not ended.
    pub(super) unfinished_nodes: usize,
    pub(super) stop_reason: Option<RunStop>,
    pub(super) status: RunStatus,
    pub(super) next_seq: u64,
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

/// Why nothing more is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunStop {
    /// A person asked for it.
    Canceled,
    /// The process is asked to stop, and a later one continues the run.
    Interrupted,
    /// The run cannot succeed any more.
    Failed(EndCause),
}

/// What is known of a node.
#[derive(Debug, PartialEq)]
pub(super) struct TaskEntry {
    pub(super) state: TaskState,
    /// Dependencies that have not ended: needs, and for a `foreach` task its items.
    pub(super) pending_dependencies: usize,
    /// Attempts so far, over all routes.
    pub(super) attempts: u32,
    /// By route; empty before the first attempt.
    pub(super) routes: Vec<RouteState>,
    /// Whether a person said yes.
    pub(super) is_approved: bool,
    /// Before the first attempt: why it is unknown whether the same call took effect in an earlier run. A person was asked.
    pub(super) unsettled: Option<Box<str>>,
    /// For a `foreach` task: whether a person said yes to all of its calls.
    pub(super) rest_approved: bool,
    /// The agent of the last attempt.
    pub(super) agent: Option<AgentId>,
    /// The route of the last attempt, as an index: two routes may have the same agent.
    pub(super) last_route: Option<usize>,
    /// For a prompt that was asked: what was said.
    pub(super) conversation: Option<Box<Conversation>>,
    /// Why the last attempt failed, until another starts.
    pub(super) last_failure: Option<Box<Failure>>,
    /// Whether its attempt was begun by an earlier process.
    pub(super) is_reattached: bool,
    /// What the model replied to requests of its attempt, by their keys: an agent may not have got it.
    pub(super) replies: BTreeMap<String, Result<ChatReply, ChatError>>,
    /// For a `foreach` task: its items' node indices.
    pub(super) items: std::ops::Range<usize>,
    /// For a `foreach` task: items in flight.
    pub(super) running_items: usize,
}

/// Where a node stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TaskState {
    /// Dependencies have not ended.
    Blocked,
    /// It can start when there is room.
    Ready,
    /// A person is asked first: whether it may run, or what became of its last attempt.
    AwaitingAnswer,
    /// It pauses before another try; when the moment has come, it can start like a ready one.
    Delayed { until: Timestamp },
    /// An attempt is in flight.
    Running { number: u32, route: usize },
    /// A language model is asked.
    AskingModel,
    /// A `foreach` task whose items have not all ended, or a prompt whose tool calls have not.
    Expanded,
    /// It is over.
    Ended(Outcome),
}

/// What was said in answer to a prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Conversation {
    /// The current turn, from 1.
    pub(super) exchange: u32,
    /// Everything said, oldest first.
    pub(super) messages: Vec<Arc<ChatMessage>>,
    /// The calls that the model asked for in this turn: its name for each, and the node.
    pub(super) calls: Vec<(String, NodeIndex)>,
    /// Calls of all turns.
    pub(super) total_calls: usize,
    /// Whether it was asked to mend its answer.
    pub(super) is_repair_requested: bool,
    /// How the last reply ended.
    pub(super) reply_status: ReplyStatus,
    /// The tokens of the last reply, if its endpoint counted them.
    pub(super) counted: Option<u64>,
    /// How often the current turn has failed in a row.
    pub(super) failures: u32,
    /// How long to wait at least before the failed request is repeated; none where repeating it is of no use.
    pub(super) retry_after: Option<HumanDuration>,
    /// When the reply must be complete.
    pub(super) deadline: Option<Timestamp>,
}

/// What is known of one route of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RouteState {
    pub(super) tries: u32,
    pub(super) is_used_up: bool,
}

/// What is known of an agent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AgentState {
    pub(super) policy: AgentPolicy,
    pub(super) connection: ConnectionStatus,
    /// What it last said of itself, also when it is not connected any more.
    pub(super) last_info: Option<Arc<AgentInfo>>,
    /// Attempts in flight on it.
    pub(super) running: usize,
    /// The number of the event with which its last attempt started: among equals, the longest idle one is taken.
    pub(super) last_started: u64,
    /// How its recent attempts ended.
    pub(super) health: AgentHealth,
}

/// How an agent stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ConnectionStatus {
    NotRequested,
    Connecting,
    Connected(Arc<AgentInfo>),
    Unavailable(Failure),
}

/// A request of an agent to the language model that waits until reserved tokens are settled.
#[derive(Debug)]
pub(super) struct WaitingSampling {
    pub(super) request: RequestId,
    pub(super) origin: SamplingOrigin,
    pub(super) chat: Arc<ChatRequest>,
}

/// Hints of what to look at next.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Nodes whose dependencies have ended, to be examined.
    pub(super) ready: VecDeque<NodeIndex>,
    /// Examined nodes, to be started when there is room.
    pub(super) runnable: VecDeque<NodeIndex>,
    /// By node index: whether its condition was looked at already, which saves work.
    examined: Vec<bool>,
    /// Nodes that a replan keeps from starting.
    pub(super) held_for_replan: Vec<NodeIndex>,
    /// Nodes that wait for room on an agent, or for its connection.
    pub(super) waiting: WaitQueues,
    /// When agents may be tried again that have failed.
    pub(super) cooldowns: BTreeSet<(Timestamp, AgentId)>,
    /// Items that wait for room under their `foreach` task.
    pub(super) items_by_parent: IdHashMap<NodeIndex, VecDeque<NodeIndex>>,
    /// `foreach` tasks under which items may have room again.
    pub(super) parents_with_capacity: BTreeSet<NodeIndex>,
    /// Prompts that wait until reserved tokens are settled, by the task whose budget it is; by none for the run's.
    pub(super) waiting_prompts: BTreeMap<Option<NodeIndex>, VecDeque<WaitingPrompt>>,
    /// Agents' requests to the model that wait for the same.
    pub(super) waiting_samplings: VecDeque<WaitingSampling>,
    /// What is known of agents that could not be reached.
    pub(super) outages: Outages,
    /// When pauses end.
    pub(super) timers: BTreeSet<(Timestamp, NodeIndex)>,
    /// When questions are answered by default; some are answered already.
    pub(super) question_deadlines: BTreeSet<(Timestamp, QuestionId)>,
    /// Whether the run stops and all that had not started by then has ended.
    pub(super) stop_applied: bool,
}

impl Queues {
    /// Returns whether this is the first look at a node's condition.
    pub(super) fn is_first_look(&mut self, node: NodeIndex) -> bool {
        if self.examined.len() <= node.index() {
            self.examined.resize(node.index() + 1, false);
        }
        !std::mem::replace(&mut self.examined[node.index()], true)
    }

    /// Has a node looked at once more.
    pub(super) fn look_again(&mut self, node: NodeIndex) {
        if let Some(examined) = self.examined.get_mut(node.index()) {
            *examined = false;
        }
    }
}

/// Why records are not a run.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The first record is not `run_started`.
    #[error("the first event of a run must be `run_started`")]
    NoStart,
    /// A record is missing, or there twice.
    #[error("expected event {expected}, found event {found}")]
    Gap {
        /// The number that should have followed.
        expected: u64,
        /// The number that did.
        found: u64,
    },
    /// The plan in the first record is no graph.
    #[error("the plan of the run is not valid: {0}")]
    Plan(#[from] GraphError),
    /// An event names something that the run does not have.
    #[error("event {seq} names `{name}`, which the run does not have")]
    Unknown {
        /// The event's number.
        seq: u64,
        /// The task, agent or question.
        name: String,
    },
}

impl Run {
    /// The run that `records` tell of.
    ///
    /// # Errors
    /// When they are not the whole history of one run from its start.
    pub fn fold<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self, FoldError> {
        Self::fold_while(records, |_, _| {})
    }

    /// Folds as [`Self::fold`] does, and shows `see` the run before each event.
    pub(super) fn fold_while<'a>(
        records: impl IntoIterator<Item = &'a Record>,
        mut see: impl FnMut(&Self, &Event),
    ) -> Result<Self, FoldError> {
        let mut records = records.into_iter();
        let Some(Record { seq: 0, at, event: Event::RunStarted { plan, inputs, seed, source } }) = records.next()
        else {
            return Err(FoldError::NoStart);
        };
        let source = source.as_ref();
        let mut run = Self::new(NewRun { plan, inputs, seed: *seed, planning: None, source }, *at)?;
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

    /// The run as `RunStarted` leaves it.
    pub(super) fn new(beginning: NewRun<'_>, at: Timestamp) -> Result<Self, GraphError> {
        let NewRun { plan, inputs, seed, source, .. } = beginning;
        let graph = TaskGraph::new(&plan.tasks)?;
        let mut state = State {
            plan: Arc::clone(plan),
            inputs: Arc::clone(inputs),
            seed,
            source: source.cloned(),
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

    /// Returns the state to be read while the hints change.
    pub(super) fn hints(&mut self) -> (&State, &mut Queues) {
        (&self.state, &mut self.queues)
    }

    /// Takes in one event, decided at `at`. The only way to change a run's state.
    pub(super) fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), UnknownName> {
        Fold { state: &mut self.state, queues: &mut self.queues }.apply(event, at)
    }

    /// When [`super::Run::handle`] has something to do although nothing was observed.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let pause = self.queues.timers.first().map(|(at, _)| *at);
        let deadline = self.deadline.filter(|_| self.stop_reason.is_none());
        let rest = self.queues.cooldowns.first().map(|(at, _)| *at).filter(|_| !self.queues.waiting.is_empty());
        pause.into_iter().chain(deadline).chain(rest).chain(self.next_question_deadline()).min()
    }
}

impl State {
    /// How the run stands.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// The files that it came from, where it came from files.
    pub fn source(&self) -> Option<&RunSource> {
        self.source.as_deref()
    }

    /// How many events it has, which is the number of its next one.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether the process that drives it is asked to stop.
    pub(super) fn is_interrupted(&self) -> bool {
        self.stop_reason == Some(RunStop::Interrupted)
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The attempts and turns in flight.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = AttemptId> {
        self.tasks.iter().zip(self.graph.nodes()).filter_map(|(entry, (_, node))| {
            let number = entry.in_flight()?;
            Some(AttemptId { task: node.id.clone(), number })
        })
    }

    /// The agent's request that waits for the answer to `question`; none for an approval.
    pub fn waiting_request(&self, question: &QuestionId) -> Option<&RequestId> {
        self.questions.get(question)?.request.as_ref()
    }

    /// The node of a running attempt or turn; none if the attempt is over or unknown.
    pub(super) fn running_node(&self, attempt: &AttemptId) -> Option<NodeIndex> {
        let node = self.graph.node_index(attempt.task.as_str())?;
        (self.tasks[node.index()].in_flight() == Some(attempt.number)).then_some(node)
    }

    pub(super) fn find_node(&self, id: &TaskId) -> Result<NodeIndex, UnknownName> {
        self.graph.node_index(id.as_str()).ok_or_else(|| UnknownName(id.to_string()))
    }
}

/// A name that the run does not have.
#[derive(Debug)]
pub(super) struct UnknownName(pub(super) String);

impl TaskEntry {
    pub(super) fn new(state: TaskState, waiting_for: usize) -> Self {
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

    /// The number of its attempt or turn in flight.
    pub(super) fn in_flight(&self) -> Option<u32> {
        match (&self.state, &self.conversation) {
            (TaskState::Running { number, .. }, _) => Some(*number),
            (TaskState::AskingModel, Some(_)) => Some(self.attempts),
            _ => None,
        }
    }

    /// Whether it neither has ended nor waits for an attempt, a turn or its items.
    pub(super) fn is_idle(&self) -> bool {
        match &self.state {
            TaskState::Running { .. } | TaskState::AskingModel | TaskState::Ended(_) => false,
            // A `foreach` task ends after its items.
            TaskState::Expanded => self.pending_dependencies == 0,
            TaskState::Blocked | TaskState::Ready | TaskState::AwaitingAnswer | TaskState::Delayed { .. } => true,
        }
    }

    /// The reason for which a dependent is skipped, if it is.
    pub(super) fn blocking_reason(&self, id: &TaskId, on_failure: crate::model::OnFailure) -> Option<SkipReason> {
        let TaskState::Ended(outcome) = &self.state else { return None };
        match outcome {
            Outcome::Succeeded(_) => None,
            Outcome::Failed(_) if on_failure == crate::model::OnFailure::Continue => None,
            Outcome::Failed(_) => Some(SkipReason::NeedFailed { task: id.clone() }),
            Outcome::Skipped(_) | Outcome::Cancelled => Some(SkipReason::NeedSkipped { task: id.clone() }),
        }
    }
}
