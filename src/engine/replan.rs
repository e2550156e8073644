//! Decides when what is left of a plan is planned anew, and what becomes of the answer.
//! Never plans; a replan is an order like any other.
//!
//! From the failure until the answer, nothing starts that has not started, so that what the planner was told stays
//! true of all that it may change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    expression,
    model::{
        Answer, Asker, Command, Consent, Effect, Event, Failure, FailureKind, Form, NodeIndex, OnFailure, Outcome,
        Part, Remainder, ReplanRequest, SkipReason, Standing, Task, TaskId, TaskSoFar, Work,
    },
    synthesizer::answer::Finding,
};

use super::{
    apply::Fold,
    budget::{Expense, Shortage},
    decide::Decision,
    run::{AgentState, Connection, State, TaskEntry, TaskState, Unknown},
};

/// What is known of the replans of a run.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Replans {
    /// How many were started.
    pub(super) number: u32,
    /// Whether the last of them is over.
    pub(super) stage: Stage,
    /// Tasks that failed for good and whose failure asks for a replan, as long as none was started for them and nothing
    /// speaks against one.
    pub(super) failed: Vec<NodeIndex>,
    /// Tasks for whose failure a replan was started.
    pub(super) asked: BTreeSet<NodeIndex>,
    /// Those for which it gave another remainder: their failures are not the run's.
    pub(super) excused: BTreeSet<NodeIndex>,
    /// Tasks that a new remainder is without.
    pub(super) removed: BTreeSet<NodeIndex>,
}

/// How the last replan stands.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Stage {
    /// There is none, or it is over.
    #[default]
    Over,
    /// The planner is asked, because of these tasks.
    Asking(Vec<TaskId>),
    /// A person is asked whether this may be taken, because of these tasks.
    Proposed(Vec<TaskId>, Arc<Remainder>),
}

impl Decision<'_> {
    /// Asks for another remainder if tasks have failed since the last time whose failures ask for it.
    pub(super) fn replan_if_owed(&mut self) {
        if self.run.replans.stage != Stage::Over || self.run.replans.failed.is_empty() {
            return;
        }
        let failed = self.run.to_be_replanned();
        if failed.is_empty() {
            return;
        }
        let number = self.run.replans.number + 1;
        self.emit(Event::ReplanStarted { number, failed });
        match self.run.shortage(None, Expense::ModelCall) {
            None => self.order(Command::Replan(Box::new(self.run.replan_request()))),
            Some(Shortage::Run(what) | Shortage::Task(what)) => {
                let failure = Failure::new(FailureKind::BudgetSpent, format!("the run's budget is spent: {what}"));
                self.emit(Event::Replanned { number, result: Err(failure) });
            }
        }
    }

    /// Takes the planner's answer, or asks a person whether it may be taken.
    pub(super) fn replanned(&mut self, number: u32, result: Result<Arc<Remainder>, Failure>) {
        if number != self.run.replans.number || !matches!(self.run.replans.stage, Stage::Asking(_)) {
            return;
        }
        let result = result.and_then(|remainder| self.run.check(&remainder).map(|()| remainder));
        let must_ask = self.run.plan.replan.is_some_and(|policy| policy.consent == Consent::Ask);
        match result {
            Ok(remainder) if must_ask => {
                self.emit(Event::ReplanProposed { number, remainder: Arc::clone(&remainder) });
                self.ask_whether_to_take(number, &remainder);
            }
            Ok(remainder) => self.take_remainder(number, remainder),
            Err(failure) => self.emit(Event::Replanned { number, result: Err(failure) }),
        }
    }

    /// Takes or drops what was proposed, as a person said.
    pub(super) fn replan_answered(&mut self, number: u32, answer: &Answer, by: &str) {
        if number != self.run.replans.number {
            return;
        }
        let Stage::Proposed(_, remainder) = &self.run.replans.stage else { return };
        match answer {
            Answer::Accept { .. } => self.take_remainder(number, Arc::clone(remainder)),
            Answer::Decline | Answer::Cancel => {
                let failure = Failure::new(FailureKind::Denied, format!("not approved (answered by {by})"));
                self.emit(Event::Replanned { number, result: Err(failure) });
            }
        }
    }

    /// Asks a person about a new remainder.
    pub(super) fn ask_whether_to_take(&mut self, number: u32, remainder: &Remainder) {
        self.ask(Asker::Replan { number }, question(remainder), Form::Approval, None);
    }

    fn take_remainder(&mut self, number: u32, remainder: Arc<Remainder>) {
        self.emit(Event::Replanned { number, result: Ok(Arc::clone(&remainder)) });
        for task in &remainder.removed {
            self.skip(task.clone(), SkipReason::Replanned);
        }
    }

    /// Ends a replan that the end of the run has overtaken.
    pub(super) fn abandon_replan(&mut self) {
        if self.run.replans.stage == Stage::Over {
            return;
        }
        if matches!(self.run.replans.stage, Stage::Asking(_)) {
            self.order(Command::CancelReplan);
        }
        let failure = Failure::new(FailureKind::Cancelled, "the run is ending");
        self.emit(Event::Replanned { number: self.run.replans.number, result: Err(failure) });
    }
}

/// What a person is asked about a new remainder. Who answers later may not have seen the change itself.
fn question(remainder: &Remainder) -> String {
    let removed = remainder.removed.iter().map(|id| format!("without `{id}`"));
    let added = remainder.added.iter().map(|task| match task.routes().first() {
        Some(route) => format!("with `{}` ({}.{})", task.id, route.agent, route.tool),
        None => format!("with `{}`", task.id),
    });
    let changes: Vec<String> = removed.chain(added).collect();
    match changes.is_empty() {
        true => "go on as it is?".to_owned(),
        false => format!("go on {}?", changes.join(", ")),
    }
}

impl State {
    /// The tasks whose failures a replan is owed for.
    fn to_be_replanned(&self) -> Vec<TaskId> {
        let owed = self.replans.failed.iter().filter(|node| self.is_owed_a_replan(**node));
        owed.map(|node| self.graph[*node].id.clone()).collect()
    }

    /// Whether nothing speaks against planning anew because of `node`, which asks for that.
    fn is_owed_a_replan(&self, node: NodeIndex) -> bool {
        match &self.tasks[node.index()].state {
            TaskState::Ended(Outcome::Failed(failure)) => self.no_replan_because(node, failure).is_none(),
            _ => false,
        }
    }

    /// Why the failure of a task that asks for a replan leads to none; nothing where it does, or does not ask.
    pub(super) fn why_no_replan(&self, task: &TaskId, failure: &Failure) -> Option<String> {
        let node = self.graph.find(task.as_str())?;
        if self.stop.is_some() || !self.asks_for_replan(node) {
            return None;
        }
        self.no_replan_because(node, failure)
    }

    /// Whether it is a task of the plan whose failure asks for a replan.
    fn asks_for_replan(&self, node: NodeIndex) -> bool {
        self.graph[node].part == Part::Planned && self.graph[node].task.on_failure == OnFailure::Replan
    }

    /// Why the failure of `node` is final although its task asks for a replan; none where it is not. Once there is a
    /// reason, it stays.
    fn no_replan_because(&self, node: NodeIndex, failure: &Failure) -> Option<String> {
        let most = self.plan.replan.map_or(0, |policy| policy.most);
        if failure.kind == FailureKind::Denied {
            return Some("a person said no, so the rest was not planned anew".to_owned());
        }
        let cause = self.cause(node, failure);
        let same = self.replans.asked.iter().find(|other| {
            let TaskState::Ended(Outcome::Failed(before)) = &self.tasks[other.index()].state else { return false };
            self.cause(**other, before) == cause
        });
        if let Some(other) = same {
            let id = &self.graph[*other].id;
            return Some(format!("`{id}` failed in the same way and was replanned, so it is not tried once more"));
        }
        (self.replans.number >= most).then(|| match most {
            1 => "the rest was planned anew once already, which is the most that `replan` allows".to_owned(),
            _ => format!("the rest was planned anew {most} times already, which is the most that `replan` allows"),
        })
    }

    /// What failed, and how: two failures with the same cause are the same failure. That of a `foreach` task is its
    /// first failed item's.
    fn cause<'r>(&'r self, node: NodeIndex, failure: &'r Failure) -> (Option<&'r str>, Option<&'r str>, &'r str) {
        let items = self.tasks[node.index()].items.clone();
        let failed = items.into_iter().find_map(|index| match &self.tasks[index].state {
            TaskState::Ended(Outcome::Failed(failure)) => Some((&self.tasks[index], failure)),
            _ => None,
        });
        let (entry, failure) = failed.unwrap_or((&self.tasks[node.index()], failure));
        let routes = self.graph[node].task.routes();
        let route = routes.get(entry.last_route.unwrap_or(0));
        (route.map(|route| route.agent.as_str()), route.map(|route| &*route.tool), &failure.message)
    }

    /// Whether `node` must wait for the end of a replan.
    pub(super) fn is_frozen(&self, node: NodeIndex) -> bool {
        self.replans.stage != Stage::Over && self.is_untouched(node)
    }

    /// Whether `node` is a task of the plan that has not started.
    fn is_untouched(&self, node: NodeIndex) -> bool {
        let entry = &self.tasks[node.index()];
        self.graph[node].part == Part::Planned
            && entry.attempts == 0
            && !entry.approved
            && matches!(entry.state, TaskState::Blocked | TaskState::Ready | TaskState::Waiting { .. })
    }

    /// What the planner is told now.
    pub(super) fn replan_request(&self) -> ReplanRequest {
        let lost = self.lost();
        let (mut tasks, mut taken) = (Vec::new(), Vec::new());
        for (node, planned) in self.graph.nodes().filter(|(_, node)| node.part == Part::Planned) {
            let is_synthesis = matches!(planned.task.work, Work::Synthesis(_));
            match self.standing(node, &lost).filter(|_| !is_synthesis) {
                Some(standing) => tasks.push(TaskSoFar { task: Arc::clone(&planned.task), standing }),
                None => taken.push(planned.id.clone()),
            }
        }
        let agents = self.agents.iter().filter_map(|(agent, state)| match &state.connection {
            Connection::Connected(info) => Some((agent.clone(), Ok(Arc::clone(info)))),
            Connection::Unavailable(failure) => Some((agent.clone(), Err(failure.message.clone()))),
            Connection::NotAsked | Connection::Connecting => None,
        });
        ReplanRequest {
            number: self.replans.number,
            plan: Arc::clone(&self.plan),
            tasks,
            taken,
            agents: agents.collect(),
        }
    }

    /// How a task stands; nothing for one that was removed.
    fn standing(&self, node: NodeIndex, lost: &BTreeMap<NodeIndex, TaskId>) -> Option<Standing> {
        Some(match &self.tasks[node.index()].state {
            TaskState::Ended(Outcome::Skipped(SkipReason::Replanned)) => return None,
            TaskState::Ended(Outcome::Cancelled) => Standing::Missing("cancelled".to_owned()),
            TaskState::Ended(_) => match self.finding(node) {
                Finding::Said(said) => Standing::Succeeded(said.into_owned()),
                Finding::Missing(reason) => Standing::Missing(reason),
            },
            _ if self.is_untouched(node) => {
                lost.get(&node).map_or(Standing::Open, |because| Standing::Lost(because.clone()))
            }
            _ => Standing::Started,
        })
    }

    /// The untouched tasks that could only be skipped, each with the ended task that is in their way.
    fn lost(&self) -> BTreeMap<NodeIndex, TaskId> {
        let blocking = self
            .graph
            .nodes()
            .filter(|(node, planned)| self.tasks[node.index()].blocks(&planned.id, planned.task.on_failure).is_some());
        let mut reached: Vec<(NodeIndex, TaskId)> = blocking.map(|(node, ended)| (node, ended.id.clone())).collect();
        let mut lost = BTreeMap::new();
        while let Some((node, because)) = reached.pop() {
            for dependent in self.graph.dependents(node) {
                let task = &self.graph[dependent].task;
                let runs_anyway = matches!(task.work, Work::Synthesis(_))
                    || task.condition.as_ref().is_some_and(expression::looks_at_how_tasks_ended);
                if self.is_untouched(dependent) && !runs_anyway && !lost.contains_key(&dependent) {
                    lost.insert(dependent, because.clone());
                    reached.push((dependent, because.clone()));
                }
            }
        }
        lost
    }

    /// Whether a remainder fits the run as it stands: what it removes has not started, and what it adds is new and
    /// makes a graph.
    fn check(&self, remainder: &Remainder) -> Result<(), Failure> {
        let wrong = |message: String| Failure::new(FailureKind::ModelFailed, message);
        let has_started = |id: &&TaskId| !self.graph.find(id.as_str()).is_some_and(|node| self.is_untouched(node));
        if let Some(id) = remainder.removed.iter().find(has_started) {
            return Err(wrong(format!("the new remainder is without `{id}`, which is no task that has not started")));
        }
        let agents = |task: &Arc<Task>| {
            let routed = task.routes().iter().map(|route| route.agent.clone());
            let prompted = task.prompt().into_iter().flat_map(|prompt| &prompt.tools).map(|tool| tool.agent.clone());
            routed.chain(prompted).collect::<Vec<_>>()
        };
        let is_unknown = |agent: &_| !self.agents.contains_key(agent) && !remainder.agents.contains_key(agent);
        if let Some(agent) = remainder.added.iter().flat_map(agents).find(is_unknown) {
            return Err(wrong(format!("the new remainder names the agent `{agent}`, of which nothing is known")));
        }
        let added = self.graph.clone().add_tasks(&remainder.added);
        added.map_err(|error| wrong(format!("the new remainder is no graph: {error}"))).map(drop)
    }

    /// Tasks that a new remainder is without and that have not ended yet.
    pub(super) fn removed_and_not_ended(&self) -> Vec<TaskId> {
        let open = |node: &&NodeIndex| !matches!(self.tasks[node.index()].state, TaskState::Ended(_));
        self.replans.removed.iter().filter(open).map(|node| self.graph[*node].id.clone()).collect()
    }
}

impl Fold<'_> {
    /// Takes in that a replan began.
    pub(super) fn begin_replan(&mut self, number: u32, failed: &[TaskId]) -> Result<(), Unknown> {
        for task in failed {
            let node = self.find(task)?;
            self.state.replans.asked.insert(node);
        }
        // It is for all of them that are owed one.
        self.state.replans.failed.clear();
        self.state.replans.number = number;
        self.state.replans.stage = Stage::Asking(failed.to_vec());
        Ok(())
    }

    /// Takes in that a person is asked about a new remainder.
    pub(super) fn propose_remainder(&mut self, remainder: &Arc<Remainder>) {
        if let Stage::Asking(failed) = std::mem::take(&mut self.state.replans.stage) {
            self.state.replans.stage = Stage::Proposed(failed, Arc::clone(remainder));
        }
    }

    /// Takes in that a replan is over.
    pub(super) fn end_replan(&mut self, result: &Result<Arc<Remainder>, Failure>) -> Result<(), Unknown> {
        let (Stage::Asking(failed) | Stage::Proposed(failed, _)) = std::mem::take(&mut self.state.replans.stage) else {
            return Ok(());
        };
        let frozen = std::mem::take(&mut self.queues.frozen);
        self.queues.due.extend(frozen);
        let mut waiting = std::mem::take(&mut self.state.replans.failed);
        waiting.retain(|node| self.is_owed_a_replan(*node));
        self.state.replans.failed = waiting;
        let Ok(remainder) = result else { return Ok(()) };
        for task in &failed {
            let node = self.find(task)?;
            self.state.replans.excused.insert(node);
        }
        for task in &remainder.removed {
            let node = self.find(task)?;
            self.state.replans.removed.insert(node);
        }
        for (agent, policy) in &remainder.agents {
            self.state.agents.entry(agent.clone()).or_insert_with(|| AgentState::new(policy));
        }
        let added = self.state.graph.add_tasks(&remainder.added).map_err(|error| Unknown(error.to_string()))?;
        for node in &added {
            let open = |need: &NodeIndex| {
                let entry = self.state.tasks.get(need.index());
                entry.is_none_or(|entry| !matches!(entry.state, TaskState::Ended(_)))
            };
            let waiting_for = self.state.graph.dependencies(*node).filter(open).count();
            let state = if waiting_for == 0 { TaskState::Ready } else { TaskState::Blocked };
            self.state.tasks.push(TaskEntry::new(state, waiting_for));
            self.queues.due.push_back(*node);
        }
        self.state.open += added.len();
        self.synthesize_after(&added);
        self.hand_over(&failed, &added)?;
        Ok(())
    }

    /// Hands over to new tasks what failed ones have done that must not be done twice: results to items that make the same
    /// call, and to every task the calls of unknown outcome.
    fn hand_over(&mut self, failed: &[TaskId], added: &[NodeIndex]) -> Result<(), Unknown> {
        let failed = failed.iter().map(|task| self.find(task)).collect::<Result<BTreeSet<_>, _>>()?;
        let (mut results, mut unsettled) = (Vec::new(), Vec::new());
        for (node, part) in self.state.graph.nodes().filter(|(node, _)| failed.contains(&self.payer(*node))) {
            let route = self.state.tasks[node.index()].last_route;
            if route.is_some_and(|route| self.effect(node, route) == Effect::AtMostOnce) {
                results.extend(part.item().and_then(|_| self.kept_result(node)));
                unsettled.extend(self.unsettled_attempt(node));
            }
        }
        for node in added {
            let has_items = self.state.graph[*node].task.foreach.is_some();
            self.keep(*node, if has_items { &results } else { &[] }, &unsettled);
        }
        Ok(())
    }

    /// Makes a synthesis that has not started wait for these tasks too.
    fn synthesize_after(&mut self, added: &[NodeIndex]) {
        let synthesis = self.state.graph.nodes().find(|(_, node)| matches!(node.task.work, Work::Synthesis(_)));
        let Some((synthesis, _)) = synthesis.filter(|(node, _)| !added.is_empty() && self.is_untouched(*node)) else {
            return;
        };
        for node in added {
            self.state.graph.add_need(synthesis, *node);
        }
        let entry = &mut self.state.tasks[synthesis.index()];
        entry.waiting_for += added.len();
        entry.state = TaskState::Blocked;
        self.queues.look_again(synthesis);
    }

    /// Remembers a failure that asks for a replan.
    pub(super) fn remember_failure(&mut self, node: NodeIndex, outcome: &Outcome) {
        if let Outcome::Failed(failure) = outcome
            && self.asks_for_replan(node)
            && self.no_replan_because(node, failure).is_none()
        {
            self.state.replans.failed.push(node);
        }
    }
}
