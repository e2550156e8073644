//! Applies one event to a run. Makes no decisions: it computes the consequences of an event only.

use std::sync::Arc;

use serde_json::Value;

use crate::model::{
    AgentId, AmbiguityResolution, Answer, Asker, AttemptId, Call, ChatError, ChatMessage, ChatRole, EndCause, Event,
    Failure, FailureKind, NodeIndex, OnFailure, Origin, Outcome, PromptCall, QuestionId, Route, SamplingOrigin, Task,
    TaskId, Template, Timestamp, Work,
};

use super::retry::RetryDecision;
use super::state::agent::{AgentState, ConnectionStatus};
use super::state::questions::{QuestionEntry, QuestionState};
use super::state::run::Fold;
use super::state::run_state::{RunStop, UnknownName};
use super::state::task::{Awaited, RouteState, TaskEntry, TaskState};

impl Fold<'_> {
    /// Applies one event that was decided at `at`.
    pub(crate) fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), UnknownName> {
        self.state.next_seq += 1;
        self.state.last_event_at = at;
        self.state.ledger.apply(event);
        match event {
            Event::RunStarted { .. } => return Err(UnknownName("run_started".into())),
            Event::RunRerun { .. } => {}
            Event::TaskReused { task, agent, output } => {
                let node = self.find_node(task)?;
                self.consume_kept_result(node);
                self.state.tasks[node.index()].agent.clone_from(agent);
                self.end_node(node, Outcome::Succeeded(Arc::clone(output)));
            }
            Event::ResultsKept { task, results, unsettled } => {
                let node = self.find_node(task)?;
                self.keep_results(node, results, unsettled);
            }
            Event::RunResumed { downtime, reattached, accepts_changes } => {
                self.state.accepts_changes = *accepts_changes;
                self.apply_resumed(*downtime, reattached)?;
            }
            Event::AgentConnecting { agent } => self.agent_mut(agent)?.connection = ConnectionStatus::Connecting,
            Event::AgentConnected { agent, info } => {
                let agent = self.agent_mut(agent)?;
                agent.connection = ConnectionStatus::Connected(Arc::clone(info));
                agent.last_info = Some(Arc::clone(info));
            }
            Event::AgentUnavailable { agent, failure } => {
                let state = self.agent_mut(agent)?;
                state.connection = ConnectionStatus::Unavailable(failure.clone());
                if state.policy.required && self.state.stop_reason.is_none() {
                    self.state.stop_reason =
                        Some(RunStop::Failed(EndCause::RequiredAgentUnavailable { agent: agent.clone() }));
                }
            }
            Event::TasksAdded { parent, items } => {
                let parent = self.find_node(parent)?;
                let first = self.state.tasks.len();
                for node in self.state.graph.add_items(parent, items) {
                    self.state.tasks.push(TaskEntry { ready_at: at, ..TaskEntry::new(TaskState::Ready, 0) });
                    self.queues.ready.push_back(node);
                }
                self.state.unfinished_nodes += items.len();
                let entry = &mut self.state.tasks[parent.index()];
                entry.state = TaskState::Expanded;
                entry.items = first..first + items.len();
                entry.pending_dependencies = items.len();
                if items.is_empty() {
                    self.queues.ready.push_back(parent);
                }
            }
            Event::GroupStarted { task, inputs } => self.start_group(task, inputs.as_ref())?,
            Event::IterationAdded { parent, ready_at } => self.add_iteration(parent, *ready_at)?,
            Event::TimerStarted { task, until } => {
                let node = self.find_node(task)?;
                let entry = &mut self.state.tasks[node.index()];
                entry.awaited = Some(Awaited::Time(*until));
                entry.state = TaskState::Delayed { until: *until };
                self.queues.timers.insert((*until, node));
            }
            Event::SignalAwaited { task, name, deadline } => {
                let node = self.find_node(task)?;
                let entry = &mut self.state.tasks[node.index()];
                entry.awaited = Some(Awaited::Signal(name.clone()));
                entry.state = TaskState::AwaitingSignal;
                self.queues.wait_deadlines.extend(deadline.map(|deadline| (deadline, node)));
            }
            Event::WatchStarted { task, watched, deadline } => {
                let node = self.find_node(task)?;
                let entry = &mut self.state.tasks[node.index()];
                entry.awaited = Some(Awaited::Change { watched: watched.clone(), baseline: None });
                entry.state = TaskState::AwaitingChange;
                self.queues.wait_deadlines.extend(deadline.map(|deadline| (deadline, node)));
            }
            Event::WatchBaselineRecorded { task, fingerprint } => {
                let node = self.find_node(task)?;
                if let Some(Awaited::Change { baseline, .. }) = &mut self.state.tasks[node.index()].awaited {
                    *baseline = Some(fingerprint.clone());
                }
            }
            Event::SignalReceived { name, data, .. } => {
                self.state.signals.entry(name.clone()).or_default().push_back(data.clone());
            }
            Event::AttemptStarted { attempt, agent, tool } => {
                let node = self.find_node(&attempt.task)?;
                let routes = self.state.graph[node].task.routes();
                let route = routes
                    .iter()
                    .position(|route| route.agent == *agent && route.tool == *tool)
                    .ok_or_else(|| UnknownName(format!("{agent}.{tool}")))?;
                let entry = &mut self.state.tasks[node.index()];
                entry.routes.resize(routes.len(), RouteState::default());
                entry.routes[route].tries += 1;
                entry.attempts = attempt.number;
                entry.agent = Some(agent.clone());
                entry.last_route = Some(route);
                entry.last_failure = None;
                entry.unsettled = None;
                entry.is_reattached = false;
                entry.replies.clear();
                entry.state = TaskState::Running { number: attempt.number, route };
                self.state.running += 1;
                let seq = self.state.next_seq;
                let agent = self.agent_mut(agent)?;
                agent.running += 1;
                agent.last_started = seq;
                self.count_running_item(node, 1);
            }
            Event::ModelRequested { attempt, messages, repair, retry, deadline, .. } => {
                let node = self.find_node(&attempt.task)?;
                let entry = &mut self.state.tasks[node.index()];
                let conversation = entry.conversation.get_or_insert_default();
                if !retry {
                    conversation.exchange += 1;
                    conversation.failures = 0;
                    conversation.deadline = *deadline;
                }
                conversation.messages.extend_from_slice(messages);
                conversation.is_repair_requested |= repair;
                conversation.calls.clear();
                entry.attempts = attempt.number;
                entry.state = TaskState::AskingModel;
                self.state.running += 1;
                self.count_running_item(node, 1);
            }
            Event::ModelReplied { attempt, result } => {
                let node = self.find_node(&attempt.task)?;
                self.release_slot(node);
                let entry = &mut self.state.tasks[node.index()];
                match (result, &mut entry.conversation) {
                    (Ok(reply), Some(conversation)) => {
                        let parts = reply.parts.clone();
                        conversation.failures = 0;
                        conversation.reply_status = reply.reply_status();
                        conversation.output_tokens = reply.usage.map(|usage| usage.output_tokens);
                        conversation.messages.push(Arc::new(ChatMessage { role: ChatRole::Assistant, parts }));
                    }
                    (Err(error), Some(conversation)) => {
                        conversation.failures += 1;
                        conversation.retry_after = match error {
                            ChatError::Unavailable { retry_after, .. } => Some(retry_after.unwrap_or_default()),
                            ChatError::Unsupported { .. } | ChatError::Endpoint { .. } => None,
                        };
                    }
                    (_, None) => {}
                }
                let failure = |error: &ChatError| Failure::new(FailureKind::ModelFailed, error.to_string());
                entry.last_failure = result.as_ref().err().map(|error| Box::new(failure(error)));
                entry.state = TaskState::Ready;
                self.queues.ready.push_back(node);
            }
            Event::ToolCallsAdded { parent, calls } => self.add_tool_calls(parent, calls)?,
            Event::AttemptSucceeded { attempt, output } => {
                let node = self.find_node(&attempt.task)?;
                if let Some(route) = self.release_slot(node) {
                    self.record_attempt_success(node, route);
                }
                self.end_node(node, Outcome::Succeeded(Arc::clone(output)));
            }
            Event::AttemptFailed { attempt, failure } => {
                let node = self.find_node(&attempt.task)?;
                let route = self.release_slot(node);
                if let Some(route) = route {
                    self.record_attempt_failure((node, route), failure.kind, at);
                }
                if let Some(route) = route {
                    let decision = self.retry_decision(node, route, failure);
                    let route = &mut self.state.tasks[node.index()].routes[route];
                    route.is_used_up |= matches!(decision, RetryDecision::Reroute | RetryDecision::Fail);
                    route.tries -= u32::from(failure.kind == FailureKind::Interrupted);
                }
                let entry = &mut self.state.tasks[node.index()];
                entry.last_failure = Some(Box::new(failure.clone()));
                entry.state = TaskState::Ready;
                self.queues.ready.push_back(node);
            }
            Event::RetryScheduled { task, ready_at, .. } => {
                let node = self.find_node(task)?;
                self.state.tasks[node.index()].state = TaskState::Delayed { until: *ready_at };
                self.queues.timers.insert((*ready_at, node));
            }
            Event::AnswerAccepted { task, output } => {
                let node = self.find_node(task)?;
                self.state.tasks[node.index()].state = TaskState::Saving(Arc::clone(output));
            }
            Event::TaskEnded { task, outcome } => {
                let node = self.find_node(task)?;
                self.record_replan_failure(node, outcome);
                self.end_node(node, outcome.clone());
            }
            Event::ReplanStarted { number, failed } => self.begin_replan(*number, failed)?,
            Event::ReplanProposed { patch, .. } => self.propose_patch(patch),
            Event::Replanned { result, .. } => self.end_replan(result)?,
            Event::QuestionAsked { question, request } => {
                self.record_question_deadline(event);
                if let Asker::Plan { task } | Asker::Host { attempt: AttemptId { task, .. } } = &question.asker {
                    let node = self.find_node(task)?;
                    if matches!(question.asker, Asker::Host { .. }) {
                        self.claim_unsettled_call(node);
                    }
                    self.state.tasks[node.index()].state = TaskState::AwaitingAnswer;
                }
                self.state.questions.insert(question, request.clone());
            }
            Event::QuestionAnswered { question, answer, by } => {
                let answered = QuestionState::Answered { answer: answer.clone(), by: by.as_str().into() };
                let entry = self.update_question(question, |entry| entry.state = answered)?;
                let asker = entry.question.asker.clone();
                let (task, is_approval) = match &asker {
                    // The answer is the output of the task, and ends it.
                    Asker::Plan { task } if self.is_ask(task) => return Ok(()),
                    Asker::Plan { task } if matches!(answer, Answer::Accept { .. }) => (task.clone(), true),
                    Asker::Host { attempt }
                        if AmbiguityResolution::from_answer(answer) == AmbiguityResolution::Repeat =>
                    {
                        (attempt.task.clone(), false)
                    }
                    _ => return Ok(()),
                };
                // The end of the run may have ended the task already.
                if let Some(node) = self.awaiting_node(&task) {
                    let entry = &mut self.state.tasks[node.index()];
                    entry.is_approved |= is_approval;
                    if let (true, Answer::Accept { content: Some(Value::Object(arguments)) }) = (is_approval, answer) {
                        entry.approved_arguments = Some(Box::new(arguments.clone()));
                    }
                    entry.last_failure = None;
                    entry.state = TaskState::Ready;
                    self.queues.runnable.push_back(node);
                }
            }
            Event::ToolApproved { agent, tool, .. } => {
                self.state.approved_tools.insert((agent.clone(), Arc::clone(tool)));
            }
            Event::RestApproved { task, .. } => {
                let node = self.find_node(task)?;
                self.state.tasks[node.index()].rest_approved = true;
            }
            Event::QuestionAskedAgain { question, request } => {
                self.update_question(question, |entry| {
                    entry.request = Some(request.clone());
                    entry.state = QuestionState::Open;
                })?;
            }
            Event::QuestionDeferred { question, .. } => {
                self.update_question(question, |entry| entry.state = QuestionState::Deferred)?;
            }
            Event::SamplingStarted { request, origin, .. } => {
                self.state.sampling.insert(request.clone(), origin.clone());
            }
            Event::SamplingFinished { request, result } => {
                let origin = self.state.sampling.remove(request);
                if let Some(SamplingOrigin::Agent(Origin { attempt: Some(attempt), key: Some(key), .. })) = origin
                    && let Some(node) = self.running_node(&attempt)
                {
                    self.state.tasks[node.index()].replies.insert(key, result.clone());
                }
            }
            Event::BudgetSpent { what } => {
                self.state.stop_reason.get_or_insert(RunStop::Failed(EndCause::BudgetSpent { what: what.clone() }));
            }
            Event::PlanTimeSpent { task, .. } => {
                let node = self.find_node(task)?;
                self.state.tasks[node.index()].is_expired = true;
            }
            Event::RunStopped { task, status, message, outputs } => {
                let cause = EndCause::Stopped { task: task.clone(), message: message.clone() };
                let stop = RunStop::Stopped { status: *status, cause, outputs: outputs.clone() };
                self.state.stop_reason.get_or_insert(stop);
            }
            Event::RunFinalizing { status } => self.begin_finalizing(*status),
            Event::CancelRequested { .. } => self.state.stop_reason = Some(RunStop::Cancelled),
            Event::InterruptRequested => self.state.stop_reason = Some(RunStop::Interrupted),
            Event::RunEnded { status, .. } => self.state.status = *status,
            Event::AttemptProgressed { .. }
            | Event::InputRequired { .. }
            | Event::AgentLogged { .. }
            | Event::GoalPlanned(_)
            | Event::RequestRefused { .. } => {}
        }
        Ok(())
    }

    /// Adds a node for each call of a prompt.
    fn add_tool_calls(&mut self, parent: &TaskId, calls: &[PromptCall]) -> Result<(), UnknownName> {
        let node = self.find_node(parent)?;
        let prompt = Arc::clone(&self.state.graph[node].task);
        let earlier =
            self.state.tasks[node.index()].conversation.as_ref().map_or(0, |conversation| conversation.total_calls);
        for (index, call) in calls.iter().enumerate() {
            let route = Route { agent: call.agent.clone(), tool: Arc::clone(&call.tool), rank: 0 };
            let work = Work::Call(Call {
                operation: call.operation,
                routes: vec![route],
                arguments: Template(Value::Null),
                awaits: None,
            });
            let task = Task {
                questions: prompt.questions,
                retry: prompt.retry.clone(),
                effect: prompt.effect,
                timeout: prompt.timeout,
                deadline: prompt.deadline,
                budget: prompt.budget,
                on_failure: OnFailure::Continue,
                ..Task::new(parent.tool_call(earlier + index + 1), work)
            };
            let added = self.state.graph.add_tool_call(node, task, call.arguments.clone());
            self.state.tasks.push(TaskEntry::new(TaskState::Ready, 0));
            self.queues.ready.push_back(added);
            // A prompt of an agent is requested before the conversation begins.
            let conversation = self.state.tasks[node.index()].conversation.get_or_insert_default();
            conversation.calls.push((call.id.clone(), added));
            conversation.total_calls += 1;
        }
        self.state.unfinished_nodes += calls.len();
        let entry = &mut self.state.tasks[node.index()];
        entry.state = TaskState::Expanded;
        entry.pending_dependencies = calls.len();
        Ok(())
    }

    /// Adds `change` to the running items of the `foreach` task that the node belongs to, if any.
    pub(super) fn count_running_item(&mut self, node: NodeIndex, change: isize) {
        if let Some(item) = self.state.graph[node].item() {
            let running = &mut self.state.tasks[item.parent.index()].running_items;
            *running = running.saturating_add_signed(change);
            if self.queues.items_by_parent.contains_key(&item.parent) {
                self.queues.parents_with_capacity.insert(item.parent);
            }
        }
    }

    /// Releases the capacity of an attempt or model request in progress. Returns the route of an attempt.
    fn release_slot(&mut self, node: NodeIndex) -> Option<usize> {
        let route = match self.state.tasks[node.index()].state {
            TaskState::Running { route, .. } => Some(route),
            TaskState::AskingModel => None,
            _ => return None,
        };
        self.state.running -= 1;
        self.count_running_item(node, -1);
        let route = route?;
        if let Some(agent) = self.state.agents.get_mut(&self.state.graph[node].task.routes()[route].agent) {
            agent.running -= 1;
        }
        Some(route)
    }

    /// Ends a node and makes the dependents ready that have no other unfinished dependency.
    fn end_node(&mut self, node: NodeIndex, outcome: Outcome) {
        let entry = &mut self.state.tasks[node.index()];
        if entry.has_ended() {
            return;
        }
        let was_expanded = entry.state == TaskState::Expanded;
        if let (Some(Awaited::Signal(name)), Outcome::Succeeded(_)) = (&entry.awaited, &outcome)
            && let Some(signals) = self.state.signals.get_mut(name)
        {
            signals.pop_front();
        }
        entry.state = TaskState::Ended(outcome);
        if was_expanded && self.state.graph[node].task.group().is_some() {
            self.count_running_item(node, -1);
        }
        self.state.unfinished_nodes -= 1;
        let at = self.state.last_event_at;
        for dependent in self.state.graph.dependents(node) {
            let entry = &mut self.state.tasks[dependent.index()];
            entry.pending_dependencies -= 1;
            if entry.pending_dependencies == 0 {
                // A prompt continues after its tool calls; all other tasks end after what they consist of.
                let continues = entry.state == TaskState::Expanded && entry.conversation.is_some();
                if entry.state == TaskState::Blocked {
                    entry.ready_at = at;
                }
                if entry.state == TaskState::Blocked || continues {
                    entry.state = TaskState::Ready;
                }
                self.queues.ready.push_back(dependent);
            }
        }
    }

    /// Adds the next iteration of a `repeat` task.
    fn add_iteration(&mut self, parent: &TaskId, ready_at: Option<Timestamp>) -> Result<(), UnknownName> {
        let node = self.find_node(parent)?;
        let last = self.state.tasks[node.index()].last_iteration;
        let output = last.and_then(|last| self.state.tasks[last.index()].output());
        let previous = Arc::new(output.map_or(Value::Null, |output| output.value().into_owned()));
        let index = last.and_then(|last| self.state.graph[last].iteration()).map_or(0, |last| last.index + 1);
        let added = self.state.graph.add_iteration(node, index, previous);
        let state = match ready_at {
            Some(until) => {
                self.queues.timers.insert((until, added));
                TaskState::Delayed { until }
            }
            None => {
                self.queues.ready.push_back(added);
                TaskState::Ready
            }
        };
        let ready_at = ready_at.unwrap_or(self.state.last_event_at);
        self.state.tasks.push(TaskEntry { ready_at, ..TaskEntry::new(state, 0) });
        self.state.unfinished_nodes += 1;
        let entry = &mut self.state.tasks[node.index()];
        entry.state = TaskState::Expanded;
        entry.last_iteration = Some(added);
        entry.pending_dependencies = 1;
        Ok(())
    }

    fn agent_mut(&mut self, agent: &AgentId) -> Result<&mut AgentState, UnknownName> {
        self.state.agents.get_mut(agent).ok_or_else(|| UnknownName(agent.to_string()))
    }

    fn update_question(
        &mut self,
        question: &QuestionId,
        change: impl FnOnce(&mut QuestionEntry),
    ) -> Result<&QuestionEntry, UnknownName> {
        self.state.questions.update(question, change).ok_or_else(|| UnknownName(question.to_string()))
    }
}
