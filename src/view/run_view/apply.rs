//! Folds events into the view. The exhaustive match is the list of what each event means for a reader.

use std::sync::Arc;

use super::activity::{EndedCall, RunningCall, ScheduledRetry, WaitingOn};
use super::questions::AskedQuestion;
use super::state::{AgentConnection, RunView};
use crate::model::{AgentId, AttemptId, Event, Outcome, QuestionId, Record, TaskId, Timestamp};
use crate::view::run_result::TaskStatus;

impl RunView {
    /// Applies the next event.
    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        self.last_event_at = at;
        self.ledger.apply(&record.event);
        self.results.result.spent = *self.ledger.spending();
        if self.records_history {
            self.history.apply(record);
        }
        match &record.event {
            Event::RunStarted { plan, inputs, .. } => {
                self.results.run_started(plan);
                self.progress.add_tasks(plan.tasks.iter().map(AsRef::as_ref));
                self.plan = Some(Arc::clone(plan));
                self.inputs = Some(Arc::clone(inputs));
                self.started_at = Some(at);
            }
            Event::RunRerun { of, .. } => self.earlier_run = Some(of.clone()),
            Event::RunResumed { reattached, downtime, .. } => {
                self.results.run_resumed();
                self.ended_at = None;
                self.mark_interrupted(reattached);
                self.progress.resumed(downtime.0, at, self.running.iter());
            }
            Event::TaskReused { task, agent, output } => {
                self.results.reused(task, agent.as_ref(), output);
                self.foreach_tasks.remove(task);
                self.task_ended(task, &Outcome::Succeeded(Arc::clone(output)), None);
            }
            Event::AgentConnecting { agent } => {
                self.connecting.push(agent.clone());
                self.agents.insert(agent.clone(), AgentConnection::Connecting);
            }
            Event::AgentConnected { agent, info } => {
                self.connecting.retain(|other| other != agent);
                self.agents.insert(agent.clone(), AgentConnection::Connected(Arc::clone(info)));
            }
            Event::AgentUnavailable { agent, failure } => {
                self.connecting.retain(|other| other != agent);
                self.agents.insert(agent.clone(), AgentConnection::Unavailable(failure.clone()));
            }
            Event::TasksAdded { parent, items } => {
                self.results.items_added(parent, items.len());
                self.foreach_tasks.insert(parent.clone(), (items.len(), at));
                self.progress.items_added(parent, items.len(), (self.started_calls, at));
            }
            Event::ToolCallsAdded { parent, calls } if self.records_history => {
                self.results.calls_added(parent, calls.len());
            }
            Event::GroupStarted { task, .. } => {
                if let Some(definition) = self.task_definition(task.as_str()).cloned() {
                    self.results.group_started(task, definition.members());
                }
            }
            Event::IterationAdded { parent, ready_at } => {
                let iteration = self.results.iteration_added(parent);
                if let (Some(at), Some(iteration)) = (ready_at, iteration) {
                    self.timers.insert(iteration, *at);
                }
            }
            Event::TimerStarted { task, until } => {
                self.results.started(task);
                self.timers.insert(task.clone(), *until);
            }
            Event::SignalAwaited { task, .. } | Event::WatchStarted { task, .. } => self.results.started(task),
            Event::AttemptStarted { attempt, agent, tool } => {
                self.attempt_started(attempt, Some((agent, tool)), at);
            }
            Event::ModelRequested { attempt, .. } => self.attempt_started(attempt, None, at),
            Event::AttemptProgressed { attempt, progress } => {
                // Notifications may arrive out of order.
                if let Some(running) = self.running.get_mut(&attempt.task)
                    && !running.is_outdated(attempt, progress)
                {
                    running.progress = Some(progress.clone());
                    if progress.message.is_some() {
                        running.latest_log = None;
                    }
                }
            }
            Event::ModelReplied { attempt, .. } => self.call_ended(&attempt.task, None, at),
            Event::AttemptSucceeded { attempt, output } => {
                self.results.attempt_succeeded(&attempt.task, output);
                let call = self.remove_call(&attempt.task, at);
                self.task_ended(&attempt.task, &Outcome::Succeeded(Arc::clone(output)), call.as_ref());
            }
            Event::AttemptFailed { attempt, failure } => {
                if let Some(task) = self.results.task_mut(&attempt.task) {
                    task.status = TaskStatus::Waiting;
                }
                self.call_ended(&attempt.task, Some(&failure.message), at);
            }
            Event::RetryScheduled { task, ready_at, agent, .. } => {
                self.failed_calls.remove(task);
                self.retrying.insert(task.clone(), ScheduledRetry { at: *ready_at, agent: agent.clone() });
            }
            Event::TaskEnded { task, outcome } => {
                self.results.ended(task, outcome);
                self.retrying.remove(task);
                self.timers.remove(task);
                let call = self.remove_call(task, at);
                let call = call.or_else(|| self.failed_calls.remove(task).map(|ended| ended.call));
                self.foreach_tasks.remove(task);
                self.task_ended(task, outcome, call.as_ref());
            }
            Event::ReplanStarted { number, failed } => {
                self.results.replan_causes.clone_from(failed);
                self.replanning = Some(*number);
            }
            Event::ReplanProposed { .. } => self.replanning = None,
            Event::Replanned { number, result } => {
                self.replanning = None;
                if let Ok(patch) = result {
                    self.results.replanned(*number, &patch.added);
                    if patch.missing.is_some() {
                        self.results.result.missing.clone_from(&patch.missing);
                    }
                    self.progress.add_tasks(patch.added.iter().map(AsRef::as_ref));
                    self.added_tasks.extend(patch.added.iter().cloned());
                }
            }
            Event::QuestionAsked { question, .. } => {
                let asked = AskedQuestion {
                    question: Arc::clone(question),
                    at,
                    answer: None,
                    deferred_because: None,
                    is_pending_again: false,
                };
                self.questions.insert(question.id.clone(), asked);
                self.set_waiting_for(question.asker.task(), WaitingOn::Person);
            }
            Event::QuestionAskedAgain { question, .. } => {
                self.update_question(question, WaitingOn::Person, |asked| asked.is_pending_again = true);
            }
            Event::QuestionAnswered { question, answer, by } => {
                let answer = Some((answer.clone(), by.clone()));
                self.update_question(question, WaitingOn::Agent, |asked| asked.answer = answer);
            }
            Event::QuestionDeferred { question, reason } => {
                if let Some(asked) = self.questions.get_mut(question) {
                    asked.deferred_because = Some(reason.clone());
                    asked.is_pending_again = false;
                }
            }
            Event::SamplingStarted { request, origin, .. } => {
                self.set_waiting_for(origin.attempt().map(|attempt| &attempt.task), WaitingOn::Model);
                self.samplings.insert(request.clone(), origin.clone());
            }
            Event::AgentLogged { origin, message } => {
                let task = origin.attempt.as_ref().map(|attempt| &attempt.task);
                if let Some(running) = task.and_then(|task| self.running.get_mut(task)) {
                    running.latest_log = Some(message.data.clone());
                }
            }
            Event::SamplingFinished { request, .. } => {
                if let Some(origin) = self.samplings.remove(request) {
                    self.set_waiting_for(origin.attempt().map(|attempt| &attempt.task), WaitingOn::Agent);
                }
            }
            Event::RunEnded { status, cause, outputs, output_errors } => {
                let not_done = self.results.unfinished_tasks();
                self.results.run_ended();
                let result = &mut self.results.result;
                result.status = *status;
                result.cause.clone_from(cause);
                result.outputs = outputs.clone().unwrap_or_default();
                result.output_errors.clone_from(output_errors);
                result.not_done = not_done;
                self.ended_at = Some(at);
                self.progress.run_ended(at);
                self.running.clear();
                self.retrying.clear();
                self.timers.clear();
                self.connecting.clear();
            }
            // They change nothing that is shown beyond the line about them.
            Event::GoalPlanned(_)
            | Event::AnswerAccepted { .. }
            | Event::ResultsKept { .. }
            | Event::InputRequired { .. }
            | Event::ToolCallsAdded { .. }
            | Event::ToolApproved { .. }
            | Event::RestApproved { .. }
            | Event::SignalReceived { .. }
            | Event::RunStopped { .. }
            | Event::RunFinalizing { .. }
            | Event::BudgetSpent { .. }
            | Event::PlanTimeSpent { .. }
            | Event::WatchBaselineRecorded { .. }
            | Event::RequestRefused { .. }
            | Event::CancelRequested { .. }
            | Event::InterruptRequested => {}
        }
    }

    fn attempt_started(&mut self, attempt: &AttemptId, route: Option<(&AgentId, &Arc<str>)>, at: Timestamp) {
        self.results.attempt_started(&attempt.task, attempt.number, route);
        self.timers.remove(&attempt.task);
        if attempt.number > 1 {
            self.failed_calls.remove(&attempt.task);
            self.retrying.remove(&attempt.task);
        }
        let running = RunningCall {
            attempt: attempt.number,
            route: route.map(|(agent, tool)| (agent.clone(), Arc::clone(tool))),
            started_at: at,
            order: self.started_calls,
            progress: None,
            latest_log: None,
            waiting_for: WaitingOn::Agent,
            asked_person: false,
        };
        self.started_calls += 1;
        drop(self.remove_call(&attempt.task, at));
        self.progress.call_started(&attempt.task, at);
        self.running.insert(attempt.task.clone(), running);
    }

    /// Removes a call in progress.
    fn remove_call(&mut self, task: &TaskId, at: Timestamp) -> Option<RunningCall> {
        let call = self.running.remove(task)?;
        if call.waiting_for != WaitingOn::Person {
            self.progress.call_ended(task, at);
        }
        Some(call)
    }

    /// Counts the outcome of a task or an item.
    fn task_ended(&mut self, task: &TaskId, outcome: &Outcome, call: Option<&RunningCall>) {
        if self.results.result.synthesis.as_ref() != Some(task) {
            self.progress.task_ended(task, outcome, call, self.last_event_at);
        }
        self.count(task, outcome);
    }

    /// Keeps a call that ended until the next event of its task states the consequence.
    fn call_ended(&mut self, task: &TaskId, failure: Option<&str>, ended_at: Timestamp) {
        if let Some(call) = self.remove_call(task, ended_at) {
            self.failed_calls.insert(task.clone(), EndedCall { call, ended_at, failure: failure.map(str::to_owned) });
        }
    }

    /// Clears what the previous process was waiting for. Calls that are not reattached fail next.
    fn mark_interrupted(&mut self, resumed: &[AttemptId]) {
        self.connecting.clear();
        self.samplings.clear();
        for (task, running) in &mut self.running {
            let mut open = self.questions.values().filter(|asked| asked.is_open());
            let has_question = open.any(|asked| asked.question.asker.task() == Some(task));
            let continues = resumed.iter().any(|attempt| attempt.task == *task);
            running.waiting_for = if has_question && continues { WaitingOn::Person } else { WaitingOn::Agent };
        }
    }

    fn update_question(&mut self, id: &QuestionId, waiting_for: WaitingOn, change: impl FnOnce(&mut AskedQuestion)) {
        let Some(asked) = self.questions.get_mut(id) else { return };
        change(asked);
        let question = Arc::clone(&asked.question);
        self.set_waiting_for(question.asker.task(), waiting_for);
    }

    fn set_waiting_for(&mut self, task: Option<&TaskId>, waiting_for: WaitingOn) {
        let Some(task) = task else { return };
        let Some(running) = self.running.get_mut(task) else { return };
        let before = std::mem::replace(&mut running.waiting_for, waiting_for);
        running.asked_person |= waiting_for == WaitingOn::Person;
        match (before == WaitingOn::Person, waiting_for == WaitingOn::Person) {
            (false, true) => self.progress.call_ended(task, self.last_event_at),
            (true, false) => self.progress.call_started(task, self.last_event_at),
            _ => {}
        }
    }
}
