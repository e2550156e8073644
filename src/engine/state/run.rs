//! A run: its state, folded from its events, and the queues of nodes to examine next. Only [`Run::apply`] changes the
//! state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value;

use super::agent::AgentState;
use super::questions::Questions;
use super::queues::Queues;
use super::run_state::{ReplanState, State, UnknownName};
use super::task::{TaskEntry, TaskState};
use crate::engine::ledger::Ledger;
use crate::json_schema::{CompiledSchema, SchemaCheckError};
use crate::model::{
    Event, GoalPlanning, GraphError, JsonObject, MASKED_SECRET, NodeIndex, Outcome, Plan, Record, RunId, RunSource,
    RunStatus, TaskGraph, Timestamp, ToolOutput,
};

/// The parameters of a new run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The inputs with defaults filled in: a JSON object.
    pub inputs: Arc<Value>,
    /// The seed of all delays with jitter.
    pub seed: u64,
    /// The planning calls, if the plan was made for a goal of this run.
    pub planning: Option<GoalPlanning>,
    /// The files that the plan comes from, if there are any.
    pub source: Option<Arc<RunSource>>,
    /// The ID of the run, the value of `run.id` in expressions. A host sets it if it is absent.
    pub id: Option<RunId>,
}

impl NewRun {
    /// Returns the first event of the run.
    pub(crate) fn into_event(self) -> Event {
        let Self { plan, inputs, seed, source, id, .. } = self;
        let inputs = plan.masked_inputs(&inputs);
        Event::RunStarted { plan, inputs, seed, source, id }
    }
}

/// A compiled schema, or the reason why answers cannot be checked.
pub(crate) type CompiledAnswerSchema = Result<CompiledSchema, SchemaCheckError>;

/// One execution of a plan. Runs are compared by their state.
#[derive(Debug)]
pub struct Run {
    /// Private, so that only [`Run::apply`] can change it.
    state: State,
    /// The nodes to examine next. Some entries are stale, so equality ignores the queues. After a fold they hold every
    /// node that an event made ready: a superset of the nodes that are still ready.
    pub(crate) queues: Queues,
    /// The inputs with the secrets that this process knows. The state has masks instead.
    pub(crate) known_inputs: Arc<Value>,
    /// The compiled answer schemas by planned task. The items of a task share one schema.
    pub(crate) schemas: HashMap<NodeIndex, Arc<CompiledAnswerSchema>>,
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

/// The reason why a list of records cannot be folded into a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    #[error("event {seq} refers to `{name}`, which is unknown to the run")]
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

    /// Folds records like [`Self::fold`] and calls `before` with the run before each event.
    pub(crate) fn fold_while<'a>(
        records: impl IntoIterator<Item = &'a Record>,
        mut before: impl FnMut(&Self, &Event),
    ) -> Result<Self, FoldError> {
        let mut records = records.into_iter();
        let Some(Record { seq: 0, at, event: Event::RunStarted { plan, inputs, seed, source, id } }) = records.next()
        else {
            return Err(FoldError::NoStart);
        };
        let (plan, inputs, source) = (Arc::clone(plan), Arc::clone(inputs), source.clone());
        let new_run = NewRun { plan, inputs, seed: *seed, planning: None, source, id: id.clone() };
        let mut run = Self::new(&new_run, *at)?;
        for record in records {
            if record.seq != run.next_seq {
                return Err(FoldError::Gap { expected: run.next_seq, found: record.seq });
            }
            before(&run, &record.event);
            run.apply(&record.event, record.at)
                .map_err(|UnknownName(name)| FoldError::Unknown { seq: record.seq, name })?;
        }
        Ok(run)
    }

    /// Creates the run in its state after `RunStarted`.
    pub(crate) fn new(new_run: &NewRun, at: Timestamp) -> Result<Self, GraphError> {
        let NewRun { plan, inputs, seed, source, id, .. } = new_run;
        let graph = TaskGraph::new(&plan.tasks)?;
        let mut state = State {
            plan: Arc::clone(plan),
            inputs: plan.masked_inputs(inputs),
            seed: *seed,
            source: source.clone(),
            id: id.clone(),
            started_at: at,
            last_event_at: at,
            tasks: Vec::with_capacity(graph.len()),
            agents: plan.agents.iter().map(|(id, policy)| (id.clone(), AgentState::new(id, policy))).collect(),
            questions: Questions::default(),
            approved_tools: BTreeSet::new(),
            sampling: BTreeMap::new(),
            accepts_changes: false,
            ledger: Ledger::default(),
            replans: ReplanState::default(),
            kept_results: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            signals: BTreeMap::new(),
            plan_hooks: Vec::new(),
            released_hooks: BTreeSet::new(),
            finalizing: None,
            deadline: plan.budget.time.map(|time| at.after(time.0)),
            running: 0,
            unfinished_nodes: graph.len(),
            stop_reason: None,
            status: RunStatus::Running,
            next_seq: 1,
            graph,
        };
        plan.tasks.iter().for_each(|task| state.ledger.spending_mut().open_planned(task));
        let mut queues = Queues::default();
        for index in (0..state.graph.len()).map(NodeIndex::new) {
            let mut dependencies = state.graph.dependencies(index).count();
            if state.graph[index].task.is_plan_hook() {
                // The end of all other tasks counts as one more dependency.
                dependencies += 1;
                state.plan_hooks.push(index);
            }
            if dependencies == 0 {
                queues.ready.push_back(index);
            }
            let task = if dependencies == 0 { TaskState::Ready } else { TaskState::Blocked };
            state.tasks.push(TaskEntry { ready_at: at, ..TaskEntry::new(task, dependencies) });
        }
        Ok(Self { state, queues, known_inputs: Arc::clone(inputs), schemas: HashMap::new() })
    }

    /// Changes all results that the run has, for another run that keeps some of them.
    pub(crate) fn change_outputs(&mut self, change: &mut dyn FnMut(&mut Arc<ToolOutput>)) {
        for entry in &mut self.state.tasks {
            if let TaskState::Ended(Outcome::Succeeded(output)) = &mut entry.state {
                change(output);
            }
        }
        let kept = self.state.kept_results.values_mut().flat_map(BTreeMap::values_mut).flatten();
        kept.for_each(|kept| change(&mut kept.output));
    }

    /// Returns the secret inputs whose values the run needs and this process does not know.
    pub fn missing_secrets(&self) -> Vec<&str> {
        let is_masked = |name: &&str| self.known_inputs.get(name).is_some_and(|value| value == MASKED_SECRET);
        self.plan.secret_inputs().filter(is_masked).collect()
    }

    /// Returns the values of the secret inputs that this process knows.
    pub fn known_secrets(&self) -> Vec<String> {
        let known = self.plan.secret_inputs().filter_map(|name| self.known_inputs.get(name)?.as_str());
        known.filter(|value| *value != MASKED_SECRET).map(str::to_owned).collect()
    }

    /// Sets the values of secret inputs, which the journal does not have.
    pub fn set_secrets(&mut self, secrets: JsonObject) {
        let mut inputs = Value::clone(&self.known_inputs);
        for (name, value) in secrets {
            if self.plan.secret_inputs().any(|known| known == name) {
                inputs[name.as_str()] = value;
            }
        }
        self.known_inputs = Arc::new(inputs);
    }

    /// Returns the state for reading together with the mutable queues.
    pub(crate) fn state_and_queues(&mut self) -> (&State, &mut Queues) {
        (&self.state, &mut self.queues)
    }

    /// Applies one event that was decided at `at`. Only this method changes the state of a run.
    pub(crate) fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), UnknownName> {
        Fold { state: &mut self.state, queues: &mut self.queues }.apply(event, at)
    }

    /// Returns the next time at which [`crate::engine::Run::handle`] has work without an input.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let retry = self.queues.timers.first().map(|(at, _)| *at);
        let deadline = self.deadline.filter(|_| self.stop_reason.is_none());
        let cooldown = self.queues.cooldowns.first().map(|(at, _)| *at).filter(|_| !self.queues.waiting.is_empty());
        let question = self.queues.question_deadlines.first().map(|(at, _)| *at);
        let plan = self.queues.plan_deadlines.first().map(|(at, _)| *at);
        let wait = self.queues.wait_deadlines.first().map(|(at, _)| *at);
        [retry, deadline, cooldown, question, plan, wait].into_iter().flatten().min()
    }
}

/// Mutable access to the state of a run, for applying an event.
pub(crate) struct Fold<'r> {
    pub(crate) state: &'r mut State,
    pub(crate) queues: &'r mut Queues,
}

impl Deref for Fold<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
    }
}
