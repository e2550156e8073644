//! Decides when the pending part of a plan is replanned, and applies the resulting patch.
//!
//! From the failure until the end of the replan, no pending task starts, so that the state that the planner received
//! stays true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::limits::{BudgetExceeded, CostKind};
use super::state::agent::{AgentState, ConnectionStatus};
use super::state::fold::Fold;
use super::state::replans::ReplanStage;
use super::state::run_state::{State, UnknownName};
use super::state::task::{TaskEntry, TaskState};
use super::synthesis::answer::SourceResult;
use super::transition::Transition;
use crate::expression;
use crate::model::{
    Answer, Asker, Command, Consent, Effect, Event, Failure, FailureKind, Form, NodeIndex, NodeKind, OnFailure,
    Outcome, PlanPatch, ReplanRequest, SkipReason, Task, TaskId, TaskProgress, TaskSnapshot, Work,
};

impl Transition<'_> {
    /// Requests a patch from the planner if tasks have failed that ask for a replan.
    pub(super) fn replan_if_needed(&mut self) {
        if self.run.replans.stage != ReplanStage::Idle || self.run.replans.failed.is_empty() {
            return;
        }
        let failed = self.run.tasks_to_replan();
        if failed.is_empty() {
            return;
        }
        let number = self.run.replans.started_count + 1;
        self.emit(Event::ReplanStarted { number, failed });
        match self.run.exceeded_budget(None, CostKind::ModelCall) {
            None => self.push_command(Command::Replan(Box::new(self.run.replan_request()))),
            Some(BudgetExceeded::Run(what) | BudgetExceeded::Task(what)) => {
                let failure = Failure::new(FailureKind::BudgetSpent, format!("the run's budget is exhausted: {what}"));
                self.emit(Event::Replanned { number, result: Err(failure) });
            }
        }
    }

    /// Accepts the planner's patch, or asks a person to approve it.
    pub(super) fn on_replanned(&mut self, number: u32, result: Result<Arc<PlanPatch>, Failure>) {
        if number != self.run.replans.started_count || !matches!(self.run.replans.stage, ReplanStage::Planning(_)) {
            return;
        }
        let result = result.and_then(|patch| self.run.check_patch(&patch).map(|()| patch));
        let must_ask = self.run.plan.replan.is_some_and(|policy| policy.consent == Consent::Ask);
        match result {
            Ok(patch) if must_ask => {
                self.emit(Event::ReplanProposed { number, patch: Arc::clone(&patch) });
                self.ask_patch_approval(number, &patch);
            }
            Ok(patch) => self.accept_patch(number, patch),
            Err(failure) => self.emit(Event::Replanned { number, result: Err(failure) }),
        }
    }

    /// Accepts or drops the proposed patch, according to a person's answer.
    pub(super) fn on_replan_answered(&mut self, number: u32, answer: &Answer, by: &str) {
        if number != self.run.replans.started_count {
            return;
        }
        let ReplanStage::Proposed(_, patch) = &self.run.replans.stage else { return };
        match answer {
            Answer::Accept { .. } => self.accept_patch(number, Arc::clone(patch)),
            Answer::Decline | Answer::Cancel => {
                let failure = Failure::new(FailureKind::Denied, format!("not approved (answered by {by})"));
                self.emit(Event::Replanned { number, result: Err(failure) });
            }
        }
    }

    /// Asks a person to approve a patch.
    pub(super) fn ask_patch_approval(&mut self, number: u32, patch: &PlanPatch) {
        self.ask_person(Asker::Replan { number }, approval_question(patch), Form::Approval, None);
    }

    fn accept_patch(&mut self, number: u32, patch: Arc<PlanPatch>) {
        self.emit(Event::Replanned { number, result: Ok(Arc::clone(&patch)) });
        for task in &patch.removed {
            self.skip_task(task.clone(), SkipReason::Replanned);
        }
    }

    /// Ends a replan in progress because the run stops.
    pub(super) fn abandon_replan(&mut self) {
        if self.run.replans.stage == ReplanStage::Idle {
            return;
        }
        if matches!(self.run.replans.stage, ReplanStage::Planning(_)) {
            self.push_command(Command::CancelReplan);
        }
        let failure = Failure::new(FailureKind::Cancelled, "the run is ending");
        self.emit(Event::Replanned { number: self.run.replans.started_count, result: Err(failure) });
    }
}

/// Returns the question about a patch. It lists the changes, since the person who answers may not have seen the patch.
fn approval_question(patch: &PlanPatch) -> String {
    let removed = patch.removed.iter().map(|id| format!("without `{id}`"));
    let added = patch.added.iter().map(|task| match task.routes().first() {
        Some(route) => format!("with `{}` ({}.{})", task.id, route.agent, route.tool),
        None => format!("with `{}`", task.id),
    });
    let changes: Vec<String> = removed.chain(added).collect();
    match changes.is_empty() {
        true => "continue unchanged?".to_owned(),
        false => format!("continue {}?", changes.join(", ")),
    }
}

impl State {
    /// Returns the failed tasks that a replan has to be started for.
    fn tasks_to_replan(&self) -> Vec<TaskId> {
        let owed = self.replans.failed.iter().filter(|node| self.can_trigger_replan(**node));
        owed.map(|node| self.graph[*node].id.clone()).collect()
    }

    /// Returns whether the failure of `node`, which asks for a replan, may trigger one.
    fn can_trigger_replan(&self, node: NodeIndex) -> bool {
        match &self.tasks[node.index()].state {
            TaskState::Ended(Outcome::Failed(failure)) => self.replan_refusal_of_node(node, failure).is_none(),
            _ => false,
        }
    }

    /// Returns the reason why the failure of a task that asks for a replan does not trigger one. Returns `None` if it
    /// does, or if the task does not ask.
    pub(super) fn replan_refusal(&self, task: &TaskId, failure: &Failure) -> Option<String> {
        let node = self.graph.node_index(task.as_str())?;
        if self.stop_reason.is_some() || !self.has_replan_policy(node) {
            return None;
        }
        self.replan_refusal_of_node(node, failure)
    }

    /// Returns whether `node` is a planned task whose failure asks for a replan.
    fn has_replan_policy(&self, node: NodeIndex) -> bool {
        self.graph[node].kind == NodeKind::Planned && self.graph[node].task.on_failure == OnFailure::Replan
    }

    /// Returns the reason why the failure of `node` does not trigger a replan although its task asks for one. A reason
    /// that holds once holds until the end of the run.
    fn replan_refusal_of_node(&self, node: NodeIndex, failure: &Failure) -> Option<String> {
        let most = self.plan.replan.map_or(0, |policy| policy.max_replans);
        if failure.kind == FailureKind::Denied {
            return Some("a person declined the replan".to_owned());
        }
        let cause = self.failure_cause(node, failure);
        let same = self.replans.attempted.iter().find(|other| {
            let TaskState::Ended(Outcome::Failed(before)) = &self.tasks[other.index()].state else { return false };
            self.failure_cause(**other, before) == cause
        });
        if let Some(other) = same {
            let id = &self.graph[*other].id;
            return Some(format!("`{id}` failed in the same way and was already replanned"));
        }
        (self.replans.started_count >= most).then(|| match most {
            1 => "the replan limit of the plan (1) is reached".to_owned(),
            _ => format!("the replan limit of the plan ({most}) is reached"),
        })
    }

    /// Returns the agent, tool, and message of a failure. Failures with the same cause count as the same failure. For a
    /// `foreach` task, the first failed item is used.
    fn failure_cause<'r>(
        &'r self,
        node: NodeIndex,
        failure: &'r Failure,
    ) -> (Option<&'r str>, Option<&'r str>, &'r str) {
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

    /// Returns whether `node` must wait for the end of a replan.
    pub(super) fn is_held_for_replan(&self, node: NodeIndex) -> bool {
        self.replans.stage != ReplanStage::Idle && self.is_pending(node)
    }

    /// Returns whether `node` is a planned task that has not started.
    fn is_pending(&self, node: NodeIndex) -> bool {
        let entry = &self.tasks[node.index()];
        self.graph[node].kind == NodeKind::Planned
            && entry.attempts == 0
            && !entry.is_approved
            && matches!(entry.state, TaskState::Blocked | TaskState::Ready | TaskState::Delayed { .. })
    }

    /// Builds the request for the planner from the current state.
    pub(super) fn replan_request(&self) -> ReplanRequest {
        let lost = self.unreachable_tasks();
        let (mut tasks, mut taken) = (Vec::new(), Vec::new());
        for (node, planned) in self.graph.nodes().filter(|(_, node)| node.kind == NodeKind::Planned) {
            let is_synthesis = matches!(planned.task.work, Work::Synthesis(_));
            match self.task_progress(node, &lost).filter(|_| !is_synthesis) {
                Some(standing) => tasks.push(TaskSnapshot { task: Arc::clone(&planned.task), progress: standing }),
                None => taken.push(planned.id.clone()),
            }
        }
        let agents = self.agents.iter().filter_map(|(agent, state)| match &state.connection {
            ConnectionStatus::Connected(info) => Some((agent.clone(), Ok(Arc::clone(info)))),
            ConnectionStatus::Unavailable(failure) => Some((agent.clone(), Err(failure.message.clone()))),
            ConnectionStatus::NotRequested | ConnectionStatus::Connecting => None,
        });
        ReplanRequest {
            number: self.replans.started_count,
            plan: Arc::clone(&self.plan),
            tasks,
            used_task_ids: taken,
            agents: agents.collect(),
        }
    }

    /// Returns the progress of a task, or `None` if a patch removed it.
    fn task_progress(&self, node: NodeIndex, unreachable: &BTreeMap<NodeIndex, TaskId>) -> Option<TaskProgress> {
        Some(match &self.tasks[node.index()].state {
            TaskState::Ended(Outcome::Skipped(SkipReason::Replanned)) => return None,
            TaskState::Ended(Outcome::Cancelled) => TaskProgress::NoResult("cancelled".to_owned()),
            TaskState::Ended(_) => match self.source_result(node) {
                SourceResult::Succeeded(said) => TaskProgress::Succeeded(said.into_owned()),
                SourceResult::NoResult(reason) => TaskProgress::NoResult(reason),
            },
            _ if self.is_pending(node) => unreachable
                .get(&node)
                .map_or(TaskProgress::Pending, |because| TaskProgress::Unreachable(because.clone())),
            _ => TaskProgress::Running,
        })
    }

    /// Returns the pending tasks that could only be skipped, each with the ended task that causes this.
    fn unreachable_tasks(&self) -> BTreeMap<NodeIndex, TaskId> {
        let blocking = self.graph.nodes().filter(|(node, planned)| {
            self.tasks[node.index()].blocking_reason(&planned.id, planned.task.on_failure).is_some()
        });
        let mut reached: Vec<(NodeIndex, TaskId)> = blocking.map(|(node, ended)| (node, ended.id.clone())).collect();
        let mut lost = BTreeMap::new();
        while let Some((node, because)) = reached.pop() {
            for dependent in self.graph.dependents(node) {
                let task = &self.graph[dependent].task;
                let runs_anyway = matches!(task.work, Work::Synthesis(_))
                    || task.condition.as_ref().is_some_and(expression::has_outcome_reference);
                if self.is_pending(dependent) && !runs_anyway && !lost.contains_key(&dependent) {
                    lost.insert(dependent, because.clone());
                    reached.push((dependent, because.clone()));
                }
            }
        }
        lost
    }

    /// Checks that a patch fits the current state: it may remove only pending tasks, and the added tasks must be new
    /// and form a valid graph with known agents.
    fn check_patch(&self, patch: &PlanPatch) -> Result<(), Failure> {
        let wrong = |message: String| Failure::new(FailureKind::ModelFailed, message);
        let has_started = |id: &&TaskId| !self.graph.node_index(id.as_str()).is_some_and(|node| self.is_pending(node));
        if let Some(id) = patch.removed.iter().find(has_started) {
            return Err(wrong(format!("the new plan drops `{id}`, which is not a pending task")));
        }
        let agents = |task: &Arc<Task>| {
            let routed = task.routes().iter().map(|route| route.agent.clone());
            let prompted = task.prompt().into_iter().flat_map(|prompt| &prompt.tools).map(|tool| tool.agent.clone());
            routed.chain(prompted).collect::<Vec<_>>()
        };
        let is_unknown = |agent: &_| !self.agents.contains_key(agent) && !patch.agents.contains_key(agent);
        if let Some(agent) = patch.added.iter().flat_map(agents).find(is_unknown) {
            return Err(wrong(format!("the new plan refers to the unknown agent `{agent}`")));
        }
        let added = self.graph.clone().add_tasks(&patch.added);
        added.map_err(|error| wrong(format!("the new plan is not a valid graph: {error}"))).map(drop)
    }

    /// Returns the tasks that a patch removed and that have not ended yet.
    pub(super) fn unfinished_removed_tasks(&self) -> Vec<TaskId> {
        let open = |node: &&NodeIndex| !matches!(self.tasks[node.index()].state, TaskState::Ended(_));
        self.replans.removed.iter().filter(open).map(|node| self.graph[*node].id.clone()).collect()
    }
}

impl Fold<'_> {
    /// Applies the start of a replan.
    pub(super) fn begin_replan(&mut self, number: u32, failed: &[TaskId]) -> Result<(), UnknownName> {
        for task in failed {
            let node = self.find_node(task)?;
            self.state.replans.attempted.insert(node);
        }
        // One replan handles all failures so far.
        self.state.replans.failed.clear();
        self.state.replans.started_count = number;
        self.state.replans.stage = ReplanStage::Planning(failed.to_vec());
        Ok(())
    }

    /// Applies the proposal of a patch to a person.
    pub(super) fn propose_patch(&mut self, patch: &Arc<PlanPatch>) {
        if let ReplanStage::Planning(failed) = std::mem::take(&mut self.state.replans.stage) {
            self.state.replans.stage = ReplanStage::Proposed(failed, Arc::clone(patch));
        }
    }

    /// Applies the end of a replan, including the patch if there is one.
    pub(super) fn end_replan(&mut self, result: &Result<Arc<PlanPatch>, Failure>) -> Result<(), UnknownName> {
        let (ReplanStage::Planning(failed) | ReplanStage::Proposed(failed, _)) =
            std::mem::take(&mut self.state.replans.stage)
        else {
            return Ok(());
        };
        let frozen = std::mem::take(&mut self.queues.held_for_replan);
        self.queues.ready.extend(frozen);
        let mut waiting = std::mem::take(&mut self.state.replans.failed);
        waiting.retain(|node| self.can_trigger_replan(*node));
        self.state.replans.failed = waiting;
        let Ok(patch) = result else { return Ok(()) };
        for task in &failed {
            let node = self.find_node(task)?;
            self.state.replans.superseded.insert(node);
        }
        for task in &patch.removed {
            let node = self.find_node(task)?;
            self.state.replans.removed.insert(node);
        }
        for (agent, policy) in &patch.agents {
            self.state.agents.entry(agent.clone()).or_insert_with(|| AgentState::new(policy));
        }
        let added = self.state.graph.add_tasks(&patch.added).map_err(|error| UnknownName(error.to_string()))?;
        patch.added.iter().for_each(|task| self.state.ledger.spending_mut().open(task));
        for node in &added {
            let open = |need: &NodeIndex| {
                let entry = self.state.tasks.get(need.index());
                entry.is_none_or(|entry| !matches!(entry.state, TaskState::Ended(_)))
            };
            let waiting_for = self.state.graph.dependencies(*node).filter(open).count();
            let state = if waiting_for == 0 { TaskState::Ready } else { TaskState::Blocked };
            self.state.tasks.push(TaskEntry::new(state, waiting_for));
            self.queues.ready.push_back(*node);
        }
        self.state.unfinished_nodes += added.len();
        self.extend_synthesis_dependencies(&added);
        self.pass_on_results(&failed, &added)?;
        Ok(())
    }

    /// Gives the results and ambiguous calls of failed tasks to the added tasks, as far as they must not be repeated.
    /// Results are for items that make the same call; ambiguous calls are for every added task.
    fn pass_on_results(&mut self, failed: &[TaskId], added: &[NodeIndex]) -> Result<(), UnknownName> {
        let failed = failed.iter().map(|task| self.find_node(task)).collect::<Result<BTreeSet<_>, _>>()?;
        let (mut results, mut unsettled) = (Vec::new(), Vec::new());
        for (node, part) in self.state.graph.nodes().filter(|(node, _)| failed.contains(&self.payer(*node))) {
            let route = self.state.tasks[node.index()].last_route;
            if route.is_some_and(|route| self.repetition_effect(node, route) == Effect::AtMostOnce) {
                results.extend(part.item().and_then(|_| self.kept_result(node)));
                unsettled.extend(self.unsettled_attempt(node));
            }
        }
        for node in added {
            let has_items = self.state.graph[*node].task.foreach.is_some();
            self.keep_results(*node, if has_items { &results } else { &[] }, &unsettled);
        }
        Ok(())
    }

    /// Makes a synthesis that has not started depend on the added tasks too.
    fn extend_synthesis_dependencies(&mut self, added: &[NodeIndex]) {
        let synthesis = self.state.graph.nodes().find(|(_, node)| matches!(node.task.work, Work::Synthesis(_)));
        let Some((synthesis, _)) = synthesis.filter(|(node, _)| !added.is_empty() && self.is_pending(*node)) else {
            return;
        };
        for node in added {
            self.state.graph.add_dependency(synthesis, *node);
        }
        let entry = &mut self.state.tasks[synthesis.index()];
        entry.pending_dependencies += added.len();
        entry.state = TaskState::Blocked;
        self.queues.clear_examined(synthesis);
    }

    /// Stores a failure that asks for a replan.
    pub(super) fn record_replan_failure(&mut self, node: NodeIndex, outcome: &Outcome) {
        if let Outcome::Failed(failure) = outcome
            && self.has_replan_policy(node)
            && self.replan_refusal_of_node(node, failure).is_none()
        {
            self.state.replans.failed.push(node);
        }
    }
}
