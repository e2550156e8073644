//! Runs hooks: tasks that run after the end of another task, of their group, or of the plan, whatever ended it. They are
//! exempt from what stops the run: a cancellation, an interruption, and an exhausted budget.

use super::state::run::{Fold, Run};
use super::state::run_state::{ReplanStage, State};
use super::state::task::TaskState;
use super::transition::Transition;
use crate::model::{AttemptId, Event, Hook, HookTrigger, NodeIndex, NodeKind, OnFailure, Outcome, RunStatus};

impl State {
    /// Returns whether a node is a hook or a part of one.
    pub(super) fn is_in_hook(&self, mut node: NodeIndex) -> bool {
        loop {
            let current = &self.graph[node];
            if current.task.hook.is_some() {
                return true;
            }
            let Some(parent) = current.parent() else { return false };
            node = parent;
        }
    }

    /// Returns whether the end of the run, or of the plan that it belongs to, keeps `node` from starting anything else.
    pub(super) fn stops(&self, node: NodeIndex) -> bool {
        (self.stop_reason.is_some() || self.is_in_expired_plan(node)) && !self.is_in_hook(node)
    }

    /// Returns whether `node` keeps its state for the process that resumes the run.
    pub(super) fn is_interrupted_at(&self, node: NodeIndex) -> bool {
        self.is_interrupted() && !self.is_in_hook(node)
    }

    /// Returns whether as many tasks are in progress as the plan allows. In an interrupted run, only hooks count: the
    /// process that resumes the run repeats the model requests of the other tasks.
    pub(super) fn has_no_free_slot(&self) -> bool {
        let others = if self.is_interrupted() { self.in_flight_outside_hooks().count() } else { 0 };
        self.running.saturating_sub(others) >= self.plan.max_parallel
    }

    /// Returns the attempts and model requests in progress that are not parts of hooks.
    pub(super) fn in_flight_outside_hooks(&self) -> impl Iterator<Item = AttemptId> {
        self.in_flight()
            .filter(|attempt| self.graph.node_index(attempt.task.as_str()).is_none_or(|node| !self.is_in_hook(node)))
    }

    /// Returns whether the end that a hook waits for has happened.
    pub(super) fn is_triggered(&self, node: NodeIndex, hook: &Hook) -> bool {
        match &hook.of {
            Some(of) => {
                let of = match self.graph.group_of(node) {
                    Some(group) => self.graph[group].id.member(of),
                    None => of.clone(),
                };
                self.graph.node_index(of.as_str()).is_some_and(|of| self.is_triggered_by(of, hook.on))
            }
            None => match self.graph.group_of(node) {
                Some(group) => self.is_triggered_by_group(group, hook.on),
                None => self.finalizing.is_some_and(|status| is_triggered_by_run(status, hook.on)),
            },
        }
    }

    /// Returns whether the end of a task triggers its hooks. A task that was cancelled before it started has none.
    fn is_triggered_by(&self, of: NodeIndex, on: HookTrigger) -> bool {
        let entry = &self.tasks[of.index()];
        let TaskState::Ended(outcome) = &entry.state else { return false };
        let is_part = |node: NodeIndex| match &self.graph[node].kind {
            NodeKind::Member(group) => *group == of,
            _ => self.graph[node].list_parent() == Some(of),
        };
        let has_started = || {
            entry.attempts > 0
                || entry.conversation.is_some()
                || entry.awaited.is_some()
                || self.graph.dependencies(of).any(is_part)
        };
        on.matches(outcome) && (*outcome != Outcome::Cancelled || has_started())
    }

    /// Returns whether the outcomes of the other tasks of a group trigger a hook of the group.
    fn is_triggered_by_group(&self, group: NodeIndex, on: HookTrigger) -> bool {
        let members = self.graph.dependencies(group).filter(|member| {
            self.graph[*member].kind == NodeKind::Member(group) && self.graph[*member].task.hook.is_none()
        });
        let (mut has_failed, mut is_cancelled) = (false, false);
        for member in members {
            match &self.tasks[member.index()].state {
                TaskState::Ended(Outcome::Failed(_)) => {
                    let policy = self.graph[member].task.on_failure;
                    has_failed |= matches!(policy, OnFailure::Fail | OnFailure::Replan);
                }
                TaskState::Ended(Outcome::Cancelled) => is_cancelled = true,
                _ => {}
            }
        }
        match on {
            HookTrigger::Always => true,
            HookTrigger::Cancel => is_cancelled,
            HookTrigger::Failure => has_failed && !is_cancelled,
            HookTrigger::Success => !has_failed && !is_cancelled,
        }
    }

    /// Returns the hooks of the plan that have not ended.
    fn unfinished_plan_hooks(&self) -> impl Iterator<Item = NodeIndex> {
        self.plan_hooks.iter().copied().filter(|hook| !self.tasks[hook.index()].has_ended())
    }

    /// Returns whether hooks of the plan run, or will run, before this process ends the run.
    pub(super) fn has_released_hooks(&self) -> bool {
        self.unfinished_plan_hooks().any(|hook| self.released_hooks.contains(&hook))
    }

    /// Returns whether a hook of the plan runs in a run that ends with `status`. An interrupted run ends once more, so its
    /// other hooks wait.
    fn is_released(&self, hook: NodeIndex, status: RunStatus) -> bool {
        let trigger = self.graph[hook].task.hook.as_ref().map(|hook| hook.on);
        status != RunStatus::Interrupted || trigger.is_some_and(|on| is_triggered_by_run(status, on))
    }
}

/// Returns whether the status of a run triggers a hook of the plan.
fn is_triggered_by_run(status: RunStatus, on: HookTrigger) -> bool {
    match on {
        HookTrigger::Always => true,
        HookTrigger::Success => status == RunStatus::Succeeded,
        HookTrigger::Failure => matches!(status, RunStatus::Failed | RunStatus::Partial),
        HookTrigger::Cancel => matches!(status, RunStatus::Cancelled | RunStatus::Interrupted),
    }
}

impl Run {
    /// Removes every node from the queues of nodes to examine, except parts of hooks.
    pub(super) fn drop_all_but_hooks(&mut self) {
        let (state, queues) = self.state_and_queues();
        queues.ready.retain(|node| state.is_in_hook(*node));
        queues.runnable.retain(|node| state.is_in_hook(*node));
    }
}

impl Fold<'_> {
    /// Lets the hooks of the plan start.
    pub(super) fn begin_finalizing(&mut self, status: RunStatus) {
        self.state.finalizing = Some(status);
        for hook in self.state.plan_hooks.clone() {
            if !self.is_released(hook, status) || !self.state.released_hooks.insert(hook) {
                continue;
            }
            let entry = &mut self.state.tasks[hook.index()];
            entry.pending_dependencies -= 1;
            if entry.pending_dependencies == 0 {
                entry.state = TaskState::Ready;
                self.queues.ready.push_back(hook);
            }
        }
    }

    /// Makes the hooks of the plan that did not start before an interrupted run ended wait for its next end.
    pub(super) fn suspend_finalizing(&mut self) {
        if self.state.finalizing.take() != Some(RunStatus::Interrupted) {
            return;
        }
        for hook in self.state.plan_hooks.clone() {
            let entry = &mut self.state.tasks[hook.index()];
            let has_started = !matches!(entry.state, TaskState::Blocked | TaskState::Ready) || entry.attempts > 0;
            if !has_started && self.state.released_hooks.remove(&hook) {
                entry.state = TaskState::Blocked;
                entry.pending_dependencies += 1;
            }
        }
    }
}

impl Transition<'_> {
    /// Lets the hooks of the plan start, once nothing else remains to be done. Returns whether it did.
    pub(super) fn finalize_if_needed(&mut self) -> bool {
        let run = &self.run;
        let unfinished = run.unfinished_plan_hooks().count();
        // A run that is cancelled while it is interrupted ends once more.
        let is_final = run.finalizing.is_some_and(|status| status != RunStatus::Interrupted || run.is_interrupted());
        if unfinished == 0 || is_final || run.has_ended() {
            return false;
        }
        let is_over = match run.is_interrupted() {
            true => run.running_calls().next().is_none(),
            false => {
                let is_planning = matches!(run.replans.stage, ReplanStage::Planning(_));
                run.running == 0 && !is_planning && run.unfinished_nodes == unfinished
            }
        };
        if !is_over {
            return false;
        }
        let (status, _) = run.status_and_cause(false);
        if !run.unfinished_plan_hooks().any(|hook| run.is_released(hook, status)) {
            return false;
        }
        self.emit(Event::RunFinalizing { status });
        true
    }
}
