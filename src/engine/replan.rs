//! Decides when the pending part of a plan is replanned, and applies the resulting patch.
//!
//! From the failure until the end of the replan, no pending task starts, so that the state that the planner received
//! stays true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::limits::{BudgetExceeded, CostKind};
use super::state::agent::{AgentState, ConnectionStatus};
use super::state::run::Fold;
use super::state::run_state::{ReplanStage, State, UnknownName};
use super::state::task::{TaskEntry, TaskState};
use super::synthesis::answer::SourceResult;
use super::transition::Transition;
use crate::expression;
use crate::model::{
    AgentId, Answer, Asker, Command, Consent, Effect, Event, Failure, FailureKind, Form, GoalCheck, NodeIndex,
    NodeKind, OnFailure, Outcome, PlanPatch, ReplanRequest, RunStatus, SkipReason, TaskId, TaskProgress, TaskSnapshot,
};

impl Transition<'_> {
    /// Requests a patch from the planner if tasks have failed that ask for a replan.
    pub(super) fn replan_if_needed(&mut self) {
        if self.run.replans.stage != ReplanStage::Idle {
            return;
        }
        let failed = match self.run.replans.failed.is_empty() {
            true => Vec::new(),
            false => self.run.tasks_to_replan(),
        };
        if failed.is_empty() && !self.run.should_check_goal() {
            return;
        }
        let number = self.run.replans.started_count + 1;
        self.emit(Event::ReplanStarted { number, failed });
        match self.run.exceeded_budget(None, CostKind::ModelCall) {
            None => self.push_command(Command::Replan(Box::new(self.run.replan_request()))),
            Some(BudgetExceeded::Run(what) | BudgetExceeded::Task { what, .. }) => {
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
        let is_check = matches!(&self.run.replans.stage, ReplanStage::Planning(failed) if failed.is_empty());
        match result {
            // A check that changes nothing needs no approval.
            Ok(patch) if is_check && patch.added.is_empty() => self.accept_patch(number, patch),
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
        self.emit(Event::Replanned { number, result: Ok(patch) });
        self.skip_removed_tasks();
    }

    /// Skips the tasks that a patch removed and that have not ended.
    pub(super) fn skip_removed_tasks(&mut self) {
        for node in self.run.replans.removed.clone() {
            if !self.run.tasks[node.index()].has_ended() {
                self.end_task(node, Outcome::Skipped(SkipReason::Replanned));
            }
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
    /// Returns whether the planner has to be asked whether the goal is reached: all tasks but the synthesis have ended,
    /// and none failed for good.
    fn should_check_goal(&self) -> bool {
        self.plan.check_goal
            && self.unfinished_nodes == 1
            && self.replans.checked_nodes < self.tasks.len()
            && self.replans.failed.is_empty()
            && self.graph.nodes().any(|(node, planned)| planned.task.is_synthesis() && self.is_pending(node))
            && self.tasks.iter().any(|entry| entry.output().is_some())
            && self.tasks_outcome().0 != RunStatus::Failed
    }

    /// Returns whether the replan in progress is a check of the goal, and what it may do.
    fn goal_check(&self) -> Option<GoalCheck> {
        let ReplanStage::Planning(failed) = &self.replans.stage else { return None };
        let max_replans = self.plan.replan.map_or(0, |policy| policy.max_replans);
        failed.is_empty().then_some(match self.replans.started_count <= max_replans {
            true => GoalCheck::MayPlan,
            false => GoalCheck::ReportOnly,
        })
    }

    /// Returns the failed tasks that a replan has to be started for.
    fn tasks_to_replan(&self) -> Vec<TaskId> {
        let nodes = self.replans.failed.iter().filter(|node| self.can_trigger_replan(**node));
        nodes.map(|node| self.graph[*node].id.clone()).collect()
    }

    /// Returns whether the failure of `node`, which asks for a replan, may trigger one.
    fn can_trigger_replan(&self, node: NodeIndex) -> bool {
        let failure = self.tasks[node.index()].failure();
        failure.is_some_and(|failure| self.replan_refusal_of_node(node, failure).is_none())
    }

    /// Returns the reason why the failure of a task that asks for a replan does not trigger one. Returns `None` if it
    /// does, or if the task does not ask.
    pub(super) fn replan_refusal(&self, node: NodeIndex, failure: &Failure) -> Option<String> {
        if self.stops(node) || !self.has_replan_policy(node) {
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
        let max_replans = self.plan.replan.map_or(0, |policy| policy.max_replans);
        if failure.kind == FailureKind::Denied {
            return Some("a person declined the replan".to_owned());
        }
        let cause = self.failure_cause(node, failure);
        let same = self.replans.attempted.iter().find(|other| {
            let earlier = self.tasks[other.index()].failure();
            earlier.is_some_and(|earlier| self.failure_cause(**other, earlier) == cause)
        });
        if let Some(other) = same {
            let id = &self.graph[*other].id;
            return Some(format!("`{id}` failed in the same way and was already replanned"));
        }
        let is_reached = self.replans.started_count >= max_replans;
        is_reached.then(|| format!("the replan limit of the plan ({max_replans}) is reached"))
    }

    /// Returns the agent, tool, and message of a failure. Failures with the same cause count as the same failure. For a
    /// `foreach` task, the first failed item is used.
    fn failure_cause<'r>(
        &'r self,
        node: NodeIndex,
        failure: &'r Failure,
    ) -> (Option<&'r str>, Option<&'r str>, &'r str) {
        let items = &self.tasks[self.tasks[node.index()].items.clone()];
        let failed = items.iter().find_map(|item| Some((item, item.failure()?)));
        let (entry, failure) = failed.unwrap_or((&self.tasks[node.index()], failure));
        let routes = self.graph[node].task.routes();
        let route = routes.get(entry.last_route.unwrap_or(0));
        (route.map(|route| route.agent.as_str()), route.map(|route| &*route.tool), &failure.message)
    }

    /// Returns the part of the goal that the run does not reach, if a plan or a patch names one.
    pub(super) fn missing_part(&self) -> Option<&str> {
        self.replans.missing.as_deref().or(self.plan.missing.as_deref())
    }

    /// Returns whether `node` must wait for the end of a replan.
    pub(super) fn is_held_for_replan(&self, node: NodeIndex) -> bool {
        self.replans.stage != ReplanStage::Idle && self.is_pending(node)
    }

    /// Returns whether `node` is a planned task that has not started. A hook follows from what has happened, and no replan
    /// changes that.
    fn is_pending(&self, node: NodeIndex) -> bool {
        let entry = &self.tasks[node.index()];
        self.graph[node].kind == NodeKind::Planned
            && self.graph[node].task.hook.is_none()
            && entry.attempts == 0
            // A prompt of an agent may have been requested.
            && entry.conversation.is_none()
            && entry.awaited.is_none()
            && !entry.is_approved
            && matches!(entry.state, TaskState::Blocked | TaskState::Ready | TaskState::Delayed { .. })
    }

    /// Builds the request for the planner from the current state.
    pub(super) fn replan_request(&self) -> ReplanRequest {
        let unreachable = self.unreachable_tasks();
        let (mut tasks, mut used_task_ids) = (Vec::new(), Vec::new());
        for (node, planned) in self.graph.nodes().filter(|(_, node)| node.kind == NodeKind::Planned) {
            // Neither a synthesis nor a hook can be removed, and no new task can depend on one.
            let is_fixed = planned.task.is_synthesis() || planned.task.hook.is_some();
            match self.task_progress(node, &unreachable).filter(|_| !is_fixed) {
                Some(progress) => tasks.push(TaskSnapshot { task: Arc::clone(&planned.task), progress }),
                None => used_task_ids.push(planned.id.clone()),
            }
        }
        let agents = self.agents.iter().filter_map(|(agent, state)| match &state.connection {
            ConnectionStatus::Connected(info) => Some((agent.clone(), Ok(Arc::clone(info)))),
            ConnectionStatus::Unavailable(failure) => Some((agent.clone(), Err(failure.message.clone()))),
            ConnectionStatus::NotRequested | ConnectionStatus::Connecting => None,
        });
        ReplanRequest {
            number: self.replans.started_count,
            check: self.goal_check(),
            plan: Arc::clone(&self.plan),
            tasks,
            used_task_ids,
            agents: agents.collect(),
        }
    }

    /// Returns the progress of a task, or `None` if a patch removed it.
    fn task_progress(&self, node: NodeIndex, unreachable: &BTreeMap<NodeIndex, TaskId>) -> Option<TaskProgress> {
        Some(match &self.tasks[node.index()].state {
            TaskState::Ended(Outcome::Skipped(SkipReason::Replanned)) => return None,
            TaskState::Ended(Outcome::Cancelled) => TaskProgress::NoResult("cancelled".to_owned()),
            TaskState::Ended(_) => match self.source_result(node) {
                SourceResult::Succeeded(result) => TaskProgress::Succeeded(result.into_owned()),
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
        let mut unreachable = BTreeMap::new();
        while let Some((node, because)) = reached.pop() {
            for dependent in self.graph.dependents(node) {
                let task = &self.graph[dependent].task;
                let runs_anyway =
                    task.is_synthesis() || task.condition.as_ref().is_some_and(expression::has_outcome_reference);
                if self.is_pending(dependent) && !runs_anyway && !unreachable.contains_key(&dependent) {
                    unreachable.insert(dependent, because.clone());
                    reached.push((dependent, because.clone()));
                }
            }
        }
        unreachable
    }

    /// Checks that a patch fits the current state: it may remove only pending tasks, and the added tasks must be new
    /// and form a valid graph with known agents.
    fn check_patch(&self, patch: &PlanPatch) -> Result<(), Failure> {
        let invalid = |message: String| Err(Failure::new(FailureKind::ModelFailed, message));
        let has_started = |id: &&TaskId| !self.graph.node_index(id.as_str()).is_some_and(|node| self.is_pending(node));
        if let Some(id) = patch.removed.iter().find(has_started) {
            return invalid(format!("the new plan drops `{id}`, which is not a pending task"));
        }
        let is_unknown = |agent: &&AgentId| !self.agents.contains_key(*agent) && !patch.agents.contains_key(*agent);
        if let Some(agent) = patch.added.iter().flat_map(|task| task.agents()).find(is_unknown) {
            return invalid(format!("the new plan refers to the unknown agent `{agent}`"));
        }
        match self.graph.clone().add_tasks(&patch.added) {
            Ok(_) => Ok(()),
            Err(error) => invalid(format!("the new plan is not a valid graph: {error}")),
        }
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
        if failed.is_empty() {
            self.state.replans.checked_nodes = self.state.tasks.len();
        }
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
        self.queues.ready.extend(self.queues.held_for_replan.drain(..));
        let mut failures = std::mem::take(&mut self.state.replans.failed);
        failures.retain(|node| self.can_trigger_replan(*node));
        self.state.replans.failed = failures;
        let Ok(patch) = result else { return Ok(()) };
        if patch.missing.is_some() {
            self.state.replans.missing.clone_from(&patch.missing);
        }
        for task in &failed {
            let node = self.find_node(task)?;
            self.state.replans.superseded.insert(node);
        }
        for task in &patch.removed {
            let node = self.find_node(task)?;
            self.state.replans.removed.insert(node);
        }
        for (agent, policy) in &patch.agents {
            self.state.agents.entry(agent.clone()).or_insert_with(|| AgentState::new(agent, policy));
        }
        let added = self.state.graph.add_tasks(&patch.added).map_err(|error| UnknownName(error.to_string()))?;
        patch.added.iter().for_each(|task| self.state.ledger.spending_mut().open_planned(task));
        let ready_at = self.state.last_event_at;
        for node in &added {
            let is_pending = |dependency: &NodeIndex| {
                self.state.tasks.get(dependency.index()).is_none_or(|entry| !entry.has_ended())
            };
            let pending = self.state.graph.dependencies(*node).filter(is_pending).count();
            let state = if pending == 0 { TaskState::Ready } else { TaskState::Blocked };
            self.state.tasks.push(TaskEntry { ready_at, ..TaskEntry::new(state, pending) });
            self.queues.ready.push_back(*node);
        }
        self.state.unfinished_nodes += added.len();
        self.extend_synthesis_dependencies(&added);
        self.pass_on_results(&failed, &added)
    }

    /// Gives the results and ambiguous calls of failed tasks to the added tasks, as far as they must not be repeated.
    /// Results are for items that make the same call; ambiguous calls are for every added task.
    fn pass_on_results(&mut self, failed: &[TaskId], added: &[NodeIndex]) -> Result<(), UnknownName> {
        let failed = failed.iter().map(|task| self.find_node(task)).collect::<Result<BTreeSet<_>, _>>()?;
        let (mut results, mut unsettled) = (Vec::new(), Vec::new());
        for (node, planned) in self.state.graph.nodes().filter(|(node, _)| failed.contains(&self.payer(*node))) {
            let route = self.state.tasks[node.index()].last_route;
            if route.is_some_and(|route| self.repetition_effect(node, route) == Effect::AtMostOnce) {
                results.extend(planned.item().and_then(|_| self.kept_result(node)));
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
        let synthesis = self.state.graph.nodes().find(|(_, node)| node.task.is_synthesis());
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
