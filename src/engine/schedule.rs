//! Performs all work that is possible now: skips, expands, asks, starts, and ends. Observes nothing; `decide` processes
//! inputs and then calls [`Transition::advance`].

use std::sync::Arc;

use super::budget::limits::{CostKind, TokenAvailability};
use super::routing::router::RouteChoice;
use super::scope::expression_failure;
use super::state::agent::ConnectionStatus;
use super::state::queues::{Queues, WaitingPrompt};
use super::state::run::Run;
use super::state::run_state::{ReplanStage, State};
use super::state::task::{Conversation, TaskState};
use super::transition::Transition;
use crate::expression::{self, LOOP_NAME, Reference};
use crate::model::{
    Asker, AttemptId, Command, Event, Expression, Failure, FailureKind, Form, Node, NodeIndex, NodeKind, Outcome,
    Route, SkipReason, Task, TaskId, Timestamp, ToolCall, Work, value_as_text,
};

impl Transition<'_> {
    /// Performs all work that is possible now.
    pub(super) fn advance(&mut self) {
        if !self.run.is_interrupted() {
            self.retry_waiting_samplings();
        }
        loop {
            self.advance_nodes();
            if !self.finalize_if_needed() {
                break;
            }
        }
        self.end_run_if_finished();
    }

    /// Performs all work on nodes that is possible now.
    fn advance_nodes(&mut self) {
        // Nodes that are not in progress keep their state for the process that resumes the run. Only hooks of the plan run
        // in an interrupted run.
        while !self.run.is_interrupted() || self.run.finalizing.is_some() {
            self.answer_overdue_questions();
            while self.run.queues.cooldowns.first().is_some_and(|(at, _)| *at <= self.now) {
                self.run.queues.cooldowns.pop_first();
            }
            while let Some(&(at, node)) = self.run.queues.timers.first() {
                if at > self.now {
                    break;
                }
                self.run.queues.timers.pop_first();
                self.run.queues.ready.push_back(node);
            }
            let is_limited = self.run.stop_reason.is_none() && self.run.finalizing.is_none();
            if is_limited && self.run.deadline.is_some_and(|deadline| deadline <= self.now) {
                let time = self.run.plan.budget.time.map(|time| time.to_string()).unwrap_or_default();
                self.emit(Event::BudgetSpent { what: format!("time ({time})") });
                self.cancel_running();
            }
            self.end_overdue_plans();
            self.fail_overdue_waits();
            if self.run.is_interrupted() {
                self.run.drop_all_but_hooks();
            } else if self.run.stop_reason.is_some() {
                self.abandon_replan();
                self.end_unstarted_nodes();
            } else {
                self.replan_if_needed();
            }
            if let Some(node) = self.run.queues.ready.pop_front() {
                self.evaluate_node(node);
            } else if self.run.has_no_free_slot() {
                break;
            } else if let Some(node) = self.run.queues.runnable.pop_front() {
                self.start_node(node);
            } else if !self.run.queue_startable_nodes(self.now) {
                break;
            }
        }
    }

    /// Ends every node without an attempt in progress, once the run stops.
    fn end_unstarted_nodes(&mut self) {
        // The first pass examines all nodes; later passes only the nodes that became ready.
        let first = !std::mem::replace(&mut self.run.queues.stop_applied, true);
        let mut nodes: Vec<NodeIndex> = match first {
            true => (0..self.run.tasks.len()).map(NodeIndex::new).collect(),
            false => self.run.queues.ready.iter().copied().collect(),
        };
        self.run.drop_all_but_hooks();
        while !nodes.is_empty() {
            nodes.sort_unstable();
            nodes.dedup();
            nodes.retain(|node| self.run.tasks[node.index()].is_idle() && !self.run.is_in_hook(*node));
            for node in nodes {
                self.end_task(node, Outcome::Cancelled);
            }
            // Ending items or calls can make their parent ready.
            nodes = self.run.queues.ready.iter().copied().collect();
            nodes.retain(|node| !self.run.is_in_hook(*node));
            self.run.drop_all_but_hooks();
        }
    }

    /// Evaluates a node whose dependencies have ended: skips it, expands it, asks a person, or makes it runnable.
    fn evaluate_node(&mut self, node: NodeIndex) {
        if self.run.is_interrupted_at(node) {
            return;
        }
        if self.run.tasks[node.index()].is_idle() && self.run.is_in_expired_plan(node) && !self.run.is_in_hook(node) {
            return self.end_task(node, Outcome::Cancelled);
        }
        if self.run.is_held_for_replan(node) {
            return self.run.queues.held_for_replan.push(node);
        }
        let entry = &self.run.tasks[node.index()];
        match entry.state {
            TaskState::Expanded if entry.pending_dependencies == 0 => return self.end_expanded(node),
            TaskState::Ready if entry.attempts == 0 && !entry.is_approved => {
                if !self.run.queues.mark_examined(node) {
                    return self.run.queues.runnable.push_back(node);
                }
            }
            // The delay before a reconnect may have ended during a replan.
            TaskState::Ready | TaskState::Delayed { .. } => return self.make_runnable(node),
            _ => return,
        }
        let task = Arc::clone(&self.run.graph[node].task);
        let is_item = match self.run.graph[node].kind {
            NodeKind::ToolCall(_) => return self.run.queues.runnable.push_back(node),
            NodeKind::Item(_) => true,
            NodeKind::Planned | NodeKind::Member(_) | NodeKind::Iteration(_) => false,
        };
        let is_part = self.run.graph[node].list_parent().is_some();
        if !is_part && let Some(reason) = self.skip_reason(node) {
            return self.end_task(node, Outcome::Skipped(reason));
        }
        let can_reuse = matches!(self.run.graph[node].kind, NodeKind::Member(_) | NodeKind::Iteration(_));
        if can_reuse && self.reuse_result(node) {
            return;
        }
        let is_iteration = is_part && !is_item;
        if let Some(condition) = &task.condition
            && !is_iteration
            && is_condition_per_item(&task, condition) == is_item
        {
            match expression::evaluate_condition(condition, &self.run.scope(node)) {
                Ok(true) => {}
                Ok(false) => {
                    let reason = SkipReason::ConditionFalse { condition: condition.0.clone() };
                    return self.end_task(node, Outcome::Skipped(reason));
                }
                Err(error) => return self.fail_task(node, expression_failure("if", &error)),
            }
        }
        if let (Some(foreach), false) = (&task.foreach, is_item) {
            return match self.run.foreach_items(node, foreach) {
                Ok(items) => {
                    let parent = self.run.graph[node].id.clone();
                    self.emit(Event::TasksAdded { parent, items: Arc::new(items) });
                    self.reuse_results(self.run.tasks[node.index()].items.clone().map(NodeIndex::new).collect());
                }
                Err(failure) => self.fail_task(node, failure),
            };
        }
        if task.repeat.is_some() && !is_part {
            return self.emit(Event::IterationAdded { parent: self.run.graph[node].id.clone(), ready_at: None });
        }
        if let Some(approve) = task.approve.as_ref().filter(|_| !self.run.is_approved_in_advance(node)) {
            return match expression::render(approve, &self.run.scope(node)) {
                Ok(message) => {
                    let message = value_as_text(&message);
                    let task = self.run.graph[node].id.clone();
                    self.ask_person(Asker::Plan { task }, message, Form::Approval, None);
                }
                Err(error) => self.fail_task(node, expression_failure("approve", &error)),
            };
        }
        self.make_runnable(node);
    }

    /// Starts a node that needs no capacity, and queues any other.
    fn make_runnable(&mut self, node: NodeIndex) {
        match self.run.graph[node].task.work {
            Work::Call(_) | Work::Prompt(_) | Work::Synthesis(_) => self.run.queues.runnable.push_back(node),
            Work::Group(_) | Work::Ask(_) | Work::Wait(_) | Work::Stop(_) => self.start_node(node),
        }
    }

    /// Returns the reason why the outcomes of its dependencies skip a node.
    fn skip_reason(&self, node: NodeIndex) -> Option<SkipReason> {
        if self.run.graph[node].task.is_synthesis() {
            return self.run.synthesis_skip_reason(node);
        }
        if let Some(hook) = &self.run.graph[node].task.hook {
            return (!self.run.is_triggered(node, hook)).then_some(SkipReason::NotTriggered);
        }
        let condition = self.run.graph[node].task.condition.as_ref();
        if condition.is_some_and(expression::has_outcome_reference) {
            return None;
        }
        self.run.graph.dependencies(node).find_map(|need| {
            let dependency = &self.run.graph[need];
            self.run.tasks[need.index()].blocking_reason(&dependency.id, dependency.task.on_failure)
        })
    }

    /// Ends a task whose parts have all ended, or adds the next iteration of a `repeat` task.
    fn end_expanded(&mut self, node: NodeIndex) {
        let node_data: &Node = &self.run.graph[node];
        match (node_data.is_list(), node_data.task.foreach.is_some()) {
            (true, true) => self.end_foreach(node),
            (true, false) => self.end_iteration(node),
            (false, _) => self.end_group(node),
        }
    }

    /// Ends a `foreach` task whose items have all ended.
    fn end_foreach(&mut self, node: NodeIndex) {
        let items = self.run.tasks[node.index()].items.clone();
        let failed: Vec<(&TaskId, &Failure)> = (items.clone())
            .filter_map(|index| Some((&self.run.graph[NodeIndex::new(index)].id, self.run.tasks[index].failure()?)))
            .collect();
        let failure = failed.first().map(|(first, failure)| {
            let denied = failed.iter().all(|(_, failure)| failure.kind == FailureKind::Denied);
            Failure {
                kind: if denied { FailureKind::Denied } else { FailureKind::ItemsFailed },
                message: format!("{} of {} items failed; `{first}`: {failure}", failed.len(), items.len()),
                help: failure.help.clone(),
                retry_after: None,
            }
        });
        match failure {
            None => self.end_task(node, Outcome::Succeeded(Arc::default())),
            Some(failure) => self.fail_task(node, failure),
        }
    }

    /// Starts a node if there is capacity for it, or queues it until there is.
    fn start_node(&mut self, node: NodeIndex) {
        if self.run.is_interrupted_at(node) {
            return;
        }
        if self.run.is_held_for_replan(node) {
            return self.run.queues.held_for_replan.push(node);
        }
        let entry = &self.run.tasks[node.index()];
        if !entry.can_start(self.now) {
            return;
        }
        let task = Arc::clone(&self.run.graph[node].task);
        if let (Some(item), Some(foreach)) = (self.run.graph[node].item(), &task.foreach)
            && foreach.max_parallel.is_some_and(|max| self.run.tasks[item.parent.index()].running_items >= max)
        {
            self.run.queues.items_by_parent.entry(item.parent).or_default().push_back(node);
            return;
        }
        match &task.work {
            Work::Group(group) => return self.start_group(node, group),
            Work::Ask(ask) => return self.ask(node, ask),
            Work::Wait(wait) => return self.wait(node, wait),
            Work::Stop(stop) => return self.stop_run(node, stop),
            Work::Call(_) | Work::Prompt(_) | Work::Synthesis(_) => {}
        }
        if let Some(prompt) = task.prompt() {
            return match entry.conversation.as_deref().is_some_and(Conversation::has_started) {
                true => self.continue_prompt(node, prompt),
                false => self.start_prompt(node, prompt),
            };
        }
        match self.run.choose_route(node, self.now) {
            RouteChoice::Start(route) => self.start_on(node, route),
            RouteChoice::Wait(agents) => {
                for agent in &agents {
                    self.connect(agent);
                    if self.run.agents[agent].connection == ConnectionStatus::Connecting {
                        self.run.queues.outages.add_waiting(node, agent);
                    }
                }
                self.run.queues.waiting.push(agents, node);
            }
            RouteChoice::NoRoute(refusal) => self.reconnect_or_fail(node, refusal),
        }
    }

    fn start_on(&mut self, node: NodeIndex, route: usize) {
        if !self.check_budget(node, CostKind::ToolCall) {
            return;
        }
        let attempt = self.run.next_attempt(node);
        if let Some(reason) = self.run.unsettled_call(node, route) {
            return self.ask_whether_to_repeat(attempt, &reason);
        }
        let call = match self.run.start_command(node, route, attempt) {
            Ok(call) => call,
            Err(failure) => return self.fail_task(node, failure),
        };
        let (agent, tool) = (call.agent.clone(), Arc::clone(&call.tool));
        self.emit(Event::AttemptStarted { attempt: call.attempt.clone(), agent, tool });
        self.push_command(Command::StartAttempt(call));
    }

    /// Ends the run when every node has ended, or when it waits only for deferred questions.
    fn end_run_if_finished(&mut self) {
        if self.run.has_ended() {
            return;
        }
        let (can_end, paused) = match self.run.is_interrupted() {
            // Model requests are repeated on resume, so only tool calls have to end.
            true => (self.run.running_calls().next().is_none() && !self.run.has_active_hooks(), false),
            false => {
                let is_idle = self.run.running == 0 && !matches!(self.run.replans.stage, ReplanStage::Planning(_));
                let paused = self.run.unfinished_nodes > 0;
                (is_idle && (!paused || self.run.is_waiting_only_for_deferred_questions()), paused)
            }
        };
        if can_end {
            self.emit(self.run.end_event(paused));
            self.push_command(Command::EndRun);
        }
    }
}

/// Returns whether the condition of a `foreach` task refers to its items and not to the task as a whole.
fn is_condition_per_item(task: &Task, condition: &Expression) -> bool {
    task.foreach.as_ref().is_some_and(|foreach| {
        expression::references(condition).is_ok_and(|references| {
            references.iter().any(
                |reference| matches!(reference, Reference::Name(name) if **name == foreach.binding || *name == LOOP_NAME),
            )
        })
    })
}

impl Run {
    /// Builds the call of an attempt of `node` on `route`.
    pub(super) fn start_command(&self, node: NodeIndex, route: usize, attempt: AttemptId) -> Result<ToolCall, Failure> {
        let task = &self.graph[node].task;
        let arguments = self.sent_arguments(node)?;
        let Route { agent, tool, .. } = &task.routes()[route];
        let timeout = task.timeout.unwrap_or_else(|| self.agents[agent].policy.tool_timeout).0;
        let deadline = task.deadline.map(|deadline| deadline.0);
        let awaits = task.call().and_then(|call| call.awaits.as_deref().cloned());
        let (agent, tool, operation) = (agent.clone(), Arc::clone(tool), task.operation());
        let cache = self.cache_request(node, &arguments)?;
        let save = self.save_name(node)?;
        Ok(ToolCall { attempt, agent, operation, tool, arguments, timeout, deadline, awaits, cache, save })
    }

    /// Removes the prompts that waited longest for tokens and now have capacity, at most one per budget.
    fn dequeue_startable_prompts(&mut self, now: Timestamp) -> Vec<NodeIndex> {
        let mut prompts_to_start = Vec::new();
        let mut prompts = std::mem::take(&mut self.queues.waiting_prompts);
        for waiting in prompts.values_mut() {
            while waiting.front().is_some_and(|prompt| !self.tasks[prompt.node.index()].can_start(now)) {
                waiting.pop_front();
            }
            let has_capacity = |prompt: &WaitingPrompt| {
                !matches!(self.token_availability(Some(prompt.node), prompt.tokens), TokenAvailability::Reserved(_))
            };
            if waiting.front().is_some_and(has_capacity) {
                prompts_to_start.extend(waiting.pop_front().map(|prompt| prompt.node));
            }
        }
        prompts.retain(|_, waiting| !waiting.is_empty());
        self.queues.waiting_prompts = prompts;
        prompts_to_start
    }

    /// Returns whether every unfinished node waits, directly or through others, for a deferred question.
    fn is_waiting_only_for_deferred_questions(&self) -> bool {
        self.questions.is_waiting_for_deferred()
            && self.queues.timers.is_empty()
            && self.graph.nodes().all(|(node, _)| self.is_waiting_node(node))
    }

    /// Returns whether hooks of the plan have something to do before an interrupted run ends. Those that wait only for
    /// deferred questions have not.
    fn has_active_hooks(&self) -> bool {
        let is_in_hook = |task: &TaskId| self.graph.node_index(task.as_str()).is_some_and(|node| self.is_in_hook(node));
        self.has_released_hooks()
            && (self.graph.nodes().any(|(node, _)| self.is_in_hook(node) && !self.is_waiting_node(node))
                || self.queues.timers.iter().any(|(_, node)| self.is_in_hook(*node))
                || (self.questions.entries())
                    .any(|asked| asked.can_be_answered() && asked.question.asker.task().is_some_and(is_in_hook)))
    }

    /// Returns whether a node has ended, or waits for an answer or for another node.
    fn is_waiting_node(&self, node: NodeIndex) -> bool {
        let is_waiting = matches!(
            self.tasks[node.index()].state,
            TaskState::AwaitingAnswer | TaskState::Blocked | TaskState::Expanded | TaskState::Ended(_)
        );
        is_waiting || self.is_held_for_replan(node) || self.waits_for_sibling(node)
    }

    /// Returns whether a node is an item that waits until another item of its `foreach` task has ended.
    fn waits_for_sibling(&self, node: NodeIndex) -> bool {
        let Some(item) = self.graph[node].item() else { return false };
        let max_parallel = self.graph[node].task.foreach.as_ref().and_then(|foreach| foreach.max_parallel);
        max_parallel.is_some_and(|max| self.tasks[item.parent.index()].running_items >= max)
    }

    /// Moves queued nodes that now have capacity to `runnable`. Returns whether it moved any.
    fn queue_startable_nodes(&mut self, now: Timestamp) -> bool {
        let (State { tasks, agents, graph, .. }, queues) = self.state_and_queues();
        let Queues { runnable, waiting, items_by_parent, parents_with_capacity, .. } = queues;
        let before = runnable.len();
        parents_with_capacity.retain(|parent| {
            let Some(waiting) = items_by_parent.get_mut(parent) else { return false };
            let max_parallel = graph[*parent].task.foreach.as_ref().and_then(|foreach| foreach.max_parallel);
            let capacity = max_parallel.unwrap_or(usize::MAX).saturating_sub(tasks[parent.index()].running_items);
            let first = runnable.len();
            while runnable.len() - first < capacity
                && let Some(node) = waiting.pop_front()
            {
                if matches!(tasks[node.index()].state, TaskState::Ready | TaskState::Delayed { .. }) {
                    runnable.push_back(node);
                }
            }
            capacity > 0 && !waiting.is_empty()
        });
        waiting.dequeue_startable(agents, now, runnable);
        let prompts = self.dequeue_startable_prompts(now);
        self.queues.runnable.extend(prompts);
        self.queues.runnable.len() > before
    }
}
