//! Decides what follows from inputs: `(run, inputs, now) → events and commands`. Has no clock and no IO. Commands may
//! be executed once the events are durable.

use std::sync::Arc;

use crate::model::{
    Asker, AttemptId, ChatError, Command, Elicitation, Event, Failure, FailureKind, Input, NodeIndex, Outcome, Prompt,
    Record, Timestamp, ToolOutput,
};

use super::budget::limits::{BudgetExceeded, CostKind, TokenAvailability};
use super::retry::{self, RetryDecision};
use super::routing::router::RouteChoice;
use super::state::agent::ConnectionStatus;
use super::state::questions::QuestionState;
use super::state::queues::{WaitingPrompt, WaitingSampling};
use super::state::run::{NewRun, Run};
use super::state::run_state::State;
use super::state::task::TaskState;
use super::transition::{StepOutput, Transition};

/// Limits the sampling requests that wait for tokens of the budget. Further requests are refused.
const MAX_WAITING_SAMPLINGS: usize = 1_000;

impl Run {
    /// Starts a run.
    ///
    /// # Errors
    /// Returns an error if the tasks of the plan do not form a valid graph. `config::load_plan` rejects such plans.
    pub fn start(mut new_run: NewRun, now: Timestamp) -> Result<(Self, StepOutput), crate::model::GraphError> {
        let planning = new_run.planning.take();
        let mut run = Self::new(&new_run, now)?;
        let mut transition = Transition::new(&mut run, now);
        transition.record(Record { seq: 0, at: now, event: new_run.into_event() });
        if let Some(planning) = planning {
            transition.emit(Event::GoalPlanned(planning));
        }
        transition.connect_preferred_agents();
        transition.advance();
        let step = transition.into_output();
        Ok((run, step))
    }

    /// Processes inputs in order and decides what follows. Late and repeated inputs change nothing.
    pub fn handle(&mut self, inputs: impl IntoIterator<Item = Input>, now: Timestamp) -> StepOutput {
        let mut transition = Transition::new(self, now);
        for input in inputs {
            if transition.run.has_ended() {
                return transition.into_output();
            }
            transition.on_input(input);
        }
        if !transition.run.has_ended() {
            transition.advance();
        }
        transition.into_output()
    }
}

impl State {
    /// Returns `failure` with the reason why `retry.when` prevented another attempt, if one was possible otherwise.
    fn explain_refusal(&self, node: NodeIndex, failure: Failure, now: Timestamp) -> Failure {
        let Some(route) = self.tasks[node.index()].last_route else { return failure };
        let is_possible = match self.unconditional_decision(node, route, &failure) {
            RetryDecision::Retry => true,
            RetryDecision::Reroute => !matches!(self.choose_route(node, now), RouteChoice::NoRoute(_)),
            RetryDecision::AskPerson | RetryDecision::Fail => false,
        };
        match self.retry_refusal(node, &failure).filter(|_| is_possible) {
            Some(refusal) => refusal.explain(failure),
            None => failure,
        }
    }

    /// Returns whether the final event of the run was recorded.
    pub fn has_ended(&self) -> bool {
        self.status != crate::model::RunStatus::Running
    }
}

impl Transition<'_> {
    /// Returns whether `node` may spend. If not, stops the run or fails the task.
    pub(super) fn check_budget(&mut self, node: NodeIndex, expense: CostKind) -> bool {
        if self.run.is_in_hook(node) {
            return true;
        }
        match self.run.exceeded_budget(Some(node), expense) {
            None => return true,
            Some(BudgetExceeded::Run(what)) => self.emit(Event::BudgetSpent { what }),
            Some(BudgetExceeded::Task { owner, what }) => {
                let owner = match self.run.graph[owner].parent() {
                    None => "the task's budget".to_owned(),
                    Some(_) => format!("the budget of `{}`", self.run.graph[owner].id),
                };
                self.fail_task(node, Failure::new(FailureKind::BudgetSpent, format!("{owner} is exhausted: {what}")));
            }
        }
        false
    }

    /// Returns whether a request of `node` that may use `tokens` can be sent now. If not, queues the node or fails its
    /// task.
    pub(super) fn check_token_budget(&mut self, node: NodeIndex, tokens: u64) -> bool {
        if self.run.is_in_hook(node) {
            return true;
        }
        match self.run.token_availability(Some(node), tokens) {
            TokenAvailability::Available => return true,
            TokenAvailability::Reserved(payer) => {
                let waiting = self.run.queues.waiting_prompts.entry(payer).or_default();
                waiting.push_back(WaitingPrompt { node, tokens });
            }
            TokenAvailability::Exceeds(reason) => {
                let help = "lower `max_tokens` of the task, or raise `tokens` of the `budget`";
                let failure = Failure::new(FailureKind::BudgetSpent, reason).with_help(help);
                self.fail_task(node, failure);
            }
        }
        false
    }

    /// Sends a sampling request of an agent or the planner. Refuses the request if it exceeds the budget, and queues it
    /// while reserved tokens leave no capacity.
    fn sample_within_budget(&mut self, sampling: WaitingSampling) {
        let WaitingSampling { request, origin, chat } = sampling;
        let asker = origin.attempt().and_then(|attempt| self.run.graph.node_index(attempt.task.as_str()));
        let refusal = match self.run.exceeded_budget(asker, CostKind::ModelCall) {
            Some(BudgetExceeded::Run(what) | BudgetExceeded::Task { what, .. }) => {
                Some(format!("the budget is exhausted: {what}"))
            }
            None => match self.run.token_availability(asker, chat.estimate_tokens()) {
                TokenAvailability::Available => None,
                TokenAvailability::Exceeds(reason) => Some(reason),
                TokenAvailability::Reserved(_) if self.run.queues.waiting_samplings.len() >= MAX_WAITING_SAMPLINGS => {
                    Some(format!("{MAX_WAITING_SAMPLINGS} sampling requests already wait for tokens of the budget"))
                }
                TokenAvailability::Reserved(_) => {
                    return self.run.queues.waiting_samplings.push_back(WaitingSampling { request, origin, chat });
                }
            },
        };
        self.emit(Event::SamplingStarted { request: request.clone(), origin, chat: Arc::clone(&chat) });
        match refusal {
            None => self.push_command(Command::RequestSampling { request, chat }),
            Some(message) => {
                let result = Err(ChatError::Unsupported { message });
                self.emit(Event::SamplingFinished { request: request.clone(), result: result.clone() });
                self.push_command(Command::AnswerSampling { request, result });
            }
        }
    }

    /// Sends the queued sampling requests that the token budget now allows.
    pub(super) fn retry_waiting_samplings(&mut self) {
        for sampling in std::mem::take(&mut self.run.queues.waiting_samplings) {
            self.sample_within_budget(sampling);
        }
    }

    /// Connects the agents of the preferred routes and of prompt tools, all at once.
    fn connect_preferred_agents(&mut self) {
        let plan = Arc::clone(&self.run.plan);
        for task in plan.all_tasks() {
            for agent in task.prompt().into_iter().flat_map(Prompt::agents).chain(task.watched_agent()) {
                self.connect(agent);
            }
            let first = task.routes().iter().map(|route| route.rank).min();
            for route in task.routes().iter().filter(|route| Some(route.rank) == first) {
                self.connect(&route.agent);
            }
        }
    }

    pub(super) fn connect(&mut self, agent: &crate::model::AgentId) {
        if self.run.agents[agent].connection == ConnectionStatus::NotRequested {
            self.request_connection(agent);
        }
    }

    pub(super) fn request_connection(&mut self, agent: &crate::model::AgentId) {
        self.emit(Event::AgentConnecting { agent: agent.clone() });
        self.push_command(Command::ConnectAgent { agent: agent.clone() });
    }

    pub(super) fn on_input(&mut self, input: Input) {
        match input {
            Input::AgentConnected { ref agent, .. } | Input::AgentUnavailable { ref agent, .. }
                if self.run.agents.get(agent).is_none_or(|state| state.connection != ConnectionStatus::Connecting) => {}
            Input::AgentConnected { agent, info } => {
                self.run.queues.outages.on_connected(&agent);
                self.on_agent_connected(agent, info);
            }
            Input::AgentUnavailable { agent, failure } => {
                let stopping = self.run.stop_reason.is_some();
                self.run.queues.outages.on_failed(&agent, self.now);
                self.emit(Event::AgentUnavailable { agent, failure });
                if !stopping && self.run.stop_reason.is_some() {
                    self.cancel_running();
                }
            }
            Input::AttemptEnded { attempt, result } => self.on_attempt_ended(attempt, result),
            Input::AttemptProgressed { attempt, progress } => {
                if self.run.running_node(&attempt).is_some() {
                    self.emit(Event::AttemptProgressed { attempt, progress });
                }
            }
            Input::InputRequired { attempt, round, request_state, requests } => {
                if self.run.running_node(&attempt).is_some() {
                    self.emit(Event::InputRequired { attempt, round, request_state, requests });
                }
            }
            // Calls are being cancelled, and their requests end with them.
            Input::ElicitationRequested { .. } | Input::SamplingRequested { .. }
                if self.run.is_interrupted() && self.run.finalizing.is_none() => {}
            Input::ElicitationRequested { request, origin, elicitation } => {
                if self.match_repeated_question(&request, &origin) {
                    return;
                }
                let Elicitation { message, form } = elicitation;
                self.ask_person(Asker::Agent(origin), message, form, Some(request));
            }
            Input::PageCompleted { agent, id } => self.on_page_completed(&agent, &id),
            Input::SamplingRequested { request, origin, chat } => {
                if let Some(result) = self.run.earlier_reply(&origin) {
                    return self.push_command(Command::AnswerSampling { request, result });
                }
                self.sample_within_budget(WaitingSampling { request, origin, chat });
            }
            Input::SamplingFinished { request, result } => {
                if self.run.sampling.contains_key(&request) {
                    self.emit(Event::SamplingFinished { request: request.clone(), result: result.clone() });
                    self.push_command(Command::AnswerSampling { request, result });
                    self.retry_waiting_samplings();
                }
            }
            Input::ModelReplied { attempt, result } => {
                let Some(node) = self.run.running_node(&attempt) else { return };
                let failed = result.is_err();
                // The model is asked again when the run is resumed.
                if self.run.tasks[node.index()].state != TaskState::AskingModel
                    || failed && self.run.is_interrupted_at(node)
                {
                    return;
                }
                self.emit(Event::ModelReplied { attempt, result });
                match failed {
                    _ if self.run.is_interrupted_at(node) => {}
                    true => self.on_model_failed(node),
                    false if self.run.stops(node) => self.finish_prompt(node),
                    false => {}
                }
            }
            Input::AnswerSaved { task, result } => self.on_answer_saved(&task, result),
            Input::Replanned { number, result } => self.on_replanned(number, result),
            Input::QuestionAnswered { question, answer, by } => self.on_question_answered(question, answer, by),
            Input::RestApproved { question, by } => self.approve_rest(question, by),
            Input::QuestionDeferred { question, reason } => {
                if matches!(self.run.questions.get(&question), Some(entry) if entry.state == QuestionState::Open) {
                    self.emit(Event::QuestionDeferred { question, reason });
                }
            }
            Input::SignalReceived { name, data, by } => self.on_signal(name, data, by),
            Input::WatchBaselineObserved { task, fingerprint } => self.on_watch_baseline(task, fingerprint),
            Input::WatchEnded { task, result } => self.on_watch_ended(&task, result),
            Input::AgentLogged { origin, message } => self.emit(Event::AgentLogged { origin, message }),
            Input::RequestRefused { question, by, reason } => {
                self.emit(Event::RequestRefused { question, by, reason });
            }
            Input::CancelRequested { by } => {
                let was_interrupted = self.run.is_interrupted();
                if self.run.stop_reason.is_none() || was_interrupted {
                    self.emit(Event::CancelRequested { by: Some(by) });
                    self.cancel_running();
                    if was_interrupted {
                        // Their replies may have arrived already; they were ignored for the process that would resume
                        // the run.
                        self.end_model_requests();
                    }
                }
            }
            Input::InterruptRequested => {
                if self.run.stop_reason.is_none() {
                    self.emit(Event::InterruptRequested);
                    self.cancel_running();
                }
            }
            Input::TimeReached => {}
        }
    }

    pub(super) fn cancel_running(&mut self) {
        // Hooks run to their end, whatever ends the run.
        let attempts: Vec<AttemptId> = self.run.in_flight_outside_hooks().collect();
        for attempt in attempts {
            self.push_command(Command::CancelAttempt { attempt });
        }
    }

    pub(super) fn on_attempt_ended(&mut self, attempt: AttemptId, result: Result<Arc<ToolOutput>, Failure>) {
        let Some(node) = self.run.running_node(&attempt) else { return };
        let entry = &self.run.tasks[node.index()];
        let is_reattached = entry.is_reattached;
        if !matches!(entry.state, TaskState::Running { .. }) {
            return;
        }
        if is_reattached {
            self.close_unrepeated_questions(&attempt);
        }
        let failure = match result {
            Ok(output) => return self.emit(Event::AttemptSucceeded { attempt, output }),
            Err(failure) if is_reattached => retry::reattach_failure(failure),
            Err(failure) => failure,
        };
        if self.run.is_interrupted_at(node) {
            // The process that resumes the run decides what follows.
            let failure = retry::interrupted_failure(failure);
            return self.emit(Event::AttemptFailed { attempt, failure });
        }
        self.emit(Event::AttemptFailed { attempt, failure: failure.clone() });
        self.on_attempt_failed(node, failure);
    }

    /// Decides what follows from the failure of the last attempt of `node`.
    pub(super) fn on_attempt_failed(&mut self, node: NodeIndex, failure: Failure) {
        if failure.kind == FailureKind::Cancelled {
            return self.end_task(node, Outcome::Cancelled);
        }
        let Some(route) = self.run.tasks[node.index()].last_route.filter(|_| !self.run.stops(node)) else {
            return self.fail_with_explanation(node, failure);
        };
        let task = self.run.graph[node].id.clone();
        match self.run.retry_decision(node, route, &failure) {
            RetryDecision::Fail => {
                let failure = self.run.explain_refusal(node, failure, self.now);
                self.fail_with_explanation(node, failure);
            }
            // A hook of a run that stops does not keep it from its end.
            RetryDecision::AskPerson if self.run.stop_reason.is_some() => self.fail_with_last_failure(node),
            RetryDecision::AskPerson => {
                let attempt = AttemptId { task, number: self.run.tasks[node.index()].attempts };
                self.ask_whether_to_repeat(attempt, &failure.message);
            }
            RetryDecision::Retry => {
                let tries = self.run.tasks[node.index()].routes.iter().map(|route| route.tries).sum();
                // The agent did not cause the failure, so it needs no delay.
                let is_immediate = failure.kind == FailureKind::Interrupted;
                let requested = failure.retry_after.map(|delay| delay.0).unwrap_or_default();
                let delay = self.run.next_delay(node, tries, requested);
                let ready_at = if is_immediate { self.now } else { self.now.after(delay) };
                let agent = self.run.only_candidate_agent(node);
                self.emit(Event::RetryScheduled { task, ready_at, agent, reason: failure.message });
            }
            RetryDecision::Reroute => {
                if let RouteChoice::NoRoute(refusal) = self.run.choose_route(node, self.now) {
                    return self.reconnect_or_fail(node, refusal);
                }
                let (ready_at, agent) = (self.now, self.run.only_candidate_agent(node));
                self.emit(Event::RetryScheduled { task, ready_at, agent, reason: failure.message });
            }
        }
    }

    /// Fails a task with its last failure.
    pub(super) fn fail_with_last_failure(&mut self, node: NodeIndex) {
        let Some(failure) = self.run.tasks[node.index()].last_failure.as_deref().cloned() else { return };
        self.fail_with_explanation(node, failure);
    }

    /// Fails a task with a failure whose help explains why the call was not repeated.
    pub(super) fn fail_with_explanation(&mut self, node: NodeIndex, failure: Failure) {
        let failure = match self.run.tasks[node.index()].last_route {
            Some(route) => {
                retry::explain_failure(failure, self.run.repetition_effect(node, route), &self.run.graph[node].task.id)
            }
            None => failure,
        };
        self.fail_task(node, failure);
    }

    /// Fails a task. If the task asks for a replan and none follows, the help gives the reason.
    pub(super) fn fail_task(&mut self, node: NodeIndex, failure: Failure) {
        let failure = match self.run.replan_refusal(node, &failure) {
            Some(reason) => failure.with_additional_help(reason),
            None => failure,
        };
        self.end_task(node, Outcome::Failed(failure));
    }

    pub(super) fn end_task(&mut self, node: NodeIndex, outcome: Outcome) {
        let task = self.run.graph[node].id.clone();
        self.emit(Event::TaskEnded { task, outcome });
    }
}
