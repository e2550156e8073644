//! Decides what follows from inputs: `(run, inputs, now) → events and commands`. Has no clock and no IO. Commands may
//! be executed once the events are durable.

use std::sync::Arc;

use serde_json::Value;

use crate::model::{
    Answer, Asker, AttemptId, ChatError, Command, Elicitation, Event, Failure, FailureKind, Form, GoalPlanning, Input,
    ItemPlace, NodeIndex, Outcome, Plan, ProposedCall, Question, QuestionDeadline, QuestionId, Record, RequestId,
    RunSource, SkipReason, TaskId, Timestamp, ToolOutput,
};

use super::{
    budget::{BudgetExceeded, CostKind, TokenAvailability, WaitingPrompt},
    questions::QuestionState,
    retry::{self, RetryDecision},
    routing::router::RouteChoice,
    state::run::{ConnectionStatus, Run, State, TaskState, UnknownName, WaitingSampling},
};

/// Limits the sampling requests that wait for tokens of the budget. Further requests are refused.
const MAX_WAITING_SAMPLINGS: usize = 1_000;

/// The output of one step: events to make durable, then commands to execute.
#[derive(Debug, Default, PartialEq)]
pub struct StepOutput {
    /// The events, in order.
    pub records: Vec<Record>,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

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
}

impl NewRun {
    /// Returns the first event of the run.
    pub(super) fn into_event(self) -> Event {
        let Self { plan, inputs, seed, source, .. } = self;
        Event::RunStarted { plan, inputs, seed, source }
    }
}

/// A step in progress: the run, and the events and commands that were decided so far.
pub(super) struct Transition<'r> {
    pub(super) run: &'r mut Run,
    pub(super) now: Timestamp,
    output: StepOutput,
}

impl Run {
    /// Starts a run.
    ///
    /// # Errors
    /// Returns an error if the tasks of the plan do not form a valid graph. `config::load_plan` rejects such plans.
    pub fn start(mut new_run: NewRun, now: Timestamp) -> Result<(Self, StepOutput), crate::model::GraphError> {
        let planning = new_run.planning.take();
        let mut run = Self::new(&new_run, now)?;
        let mut decision = Transition::new(&mut run, now);
        decision.record(Record { seq: 0, at: now, event: new_run.into_event() });
        if let Some(planning) = planning {
            decision.emit(Event::GoalPlanned(planning));
        }
        decision.connect_preferred_agents();
        decision.advance();
        let step = decision.output;
        Ok((run, step))
    }

    /// Processes inputs in order and decides what follows. Late and repeated inputs change nothing.
    pub fn handle(&mut self, inputs: impl IntoIterator<Item = Input>, now: Timestamp) -> StepOutput {
        let mut decision = Transition::new(self, now);
        for input in inputs {
            if decision.run.has_ended() {
                return decision.output;
            }
            decision.on_input(input);
        }
        if !decision.run.has_ended() {
            decision.advance();
        }
        decision.output
    }
}

impl State {
    /// Returns whether the final event of the run was recorded.
    pub fn has_ended(&self) -> bool {
        self.status != crate::model::RunStatus::Running
    }
}

impl<'r> Transition<'r> {
    pub(super) fn new(run: &'r mut Run, now: Timestamp) -> Self {
        Self { run, now, output: StepOutput::default() }
    }

    /// Adds a record that was already applied to the run.
    pub(super) fn record(&mut self, record: Record) {
        self.output.records.push(record);
    }

    pub(super) fn into_output(self) -> StepOutput {
        self.output
    }
}

impl Transition<'_> {
    /// Returns whether `node` may spend. If not, stops the run or fails the task.
    pub(super) fn check_budget(&mut self, node: NodeIndex, expense: CostKind) -> bool {
        match self.run.exceeded_budget(Some(self.run.payer(node)), expense) {
            None => return true,
            Some(BudgetExceeded::Run(what)) => self.emit(Event::BudgetSpent { what }),
            Some(BudgetExceeded::Task(what)) => {
                let failure = Failure::new(FailureKind::BudgetSpent, format!("the task's budget is spent: {what}"));
                self.fail_task(self.run.graph[node].id.clone(), failure);
            }
        }
        false
    }

    /// Returns whether a request of `node` that may use `tokens` can be sent now. If not, queues the node or fails its
    /// task.
    pub(super) fn check_token_budget(&mut self, node: NodeIndex, tokens: u64) -> bool {
        match self.run.token_availability(Some(self.run.payer(node)), tokens) {
            TokenAvailability::Available => return true,
            TokenAvailability::Reserved(payer) => {
                let waiting = self.run.queues.waiting_prompts.entry(payer).or_default();
                waiting.push_back(WaitingPrompt { node, tokens });
            }
            TokenAvailability::Exceeds(why) => {
                let help = "lower `max_tokens` of the task, or raise `tokens` of the `budget`";
                let failure = Failure::new(FailureKind::BudgetSpent, why).with_help(help);
                self.fail_task(self.run.graph[node].id.clone(), failure);
            }
        }
        false
    }

    /// Sends a sampling request of an agent or the planner. Refuses the request if it exceeds the budget, and queues it
    /// while reserved tokens leave no capacity.
    fn sample_within_budget(&mut self, sampling: WaitingSampling) {
        let WaitingSampling { request, origin, chat } = sampling;
        let asker = origin.attempt().and_then(|attempt| self.run.graph.node_index(attempt.task.as_str()));
        let payer = asker.map(|node| self.run.payer(node));
        let refusal = match self.run.exceeded_budget(payer, CostKind::ModelCall) {
            Some(BudgetExceeded::Run(what) | BudgetExceeded::Task(what)) => {
                Some(format!("the budget is spent: {what}"))
            }
            None => match self.run.token_availability(payer, chat.estimate_tokens()) {
                TokenAvailability::Available => None,
                TokenAvailability::Exceeds(why) => Some(why),
                TokenAvailability::Reserved(_) if self.run.queues.waiting_samplings.len() >= MAX_WAITING_SAMPLINGS => {
                    Some(format!("{MAX_WAITING_SAMPLINGS} requests wait for tokens of the budget already"))
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

    /// Applies an event and records it. Events use only names of the run, so applying them cannot fail.
    pub(super) fn emit(&mut self, event: Event) {
        let seq = self.run.next_seq;
        if let Err(UnknownName(name)) = self.run.apply(&event, self.now) {
            unreachable!("the engine decided on `{name}`, which its run does not have");
        }
        self.output.records.push(Record { seq, at: self.now, event });
    }

    pub(super) fn push_command(&mut self, command: Command) {
        self.output.commands.push(command);
    }

    /// Connects the agents of the preferred routes and of prompt tools, all at once.
    fn connect_preferred_agents(&mut self) {
        let plan = Arc::clone(&self.run.plan);
        for task in &plan.tasks {
            if let Some(prompt) = task.prompt() {
                for tool in &prompt.tools {
                    self.connect(&tool.agent);
                }
            }
            let Some(first) = task.routes().iter().map(|route| route.rank).min() else { continue };
            for route in task.routes().iter().filter(|route| route.rank == first) {
                self.connect(&route.agent);
            }
        }
    }

    pub(super) fn connect(&mut self, agent: &crate::model::AgentId) {
        if self.run.agents[agent].connection == ConnectionStatus::NotRequested {
            self.emit(Event::AgentConnecting { agent: agent.clone() });
            self.push_command(Command::ConnectAgent { agent: agent.clone() });
        }
    }

    pub(super) fn on_input(&mut self, input: Input) {
        match input {
            Input::AgentConnected { agent, info } => {
                if matches!(self.run.agents.get(&agent), Some(state) if state.connection == ConnectionStatus::Connecting)
                {
                    self.run.queues.outages.on_connected(&agent);
                    self.on_agent_connected(agent, info);
                }
            }
            Input::AgentUnavailable { agent, failure } => {
                if matches!(self.run.agents.get(&agent), Some(state) if state.connection == ConnectionStatus::Connecting)
                {
                    let stopping = self.run.stop_reason.is_some();
                    self.run.queues.outages.on_failed(&agent, self.now);
                    self.emit(Event::AgentUnavailable { agent, failure });
                    if !stopping && self.run.stop_reason.is_some() {
                        self.cancel_running();
                    }
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
            Input::ElicitationRequested { .. } | Input::SamplingRequested { .. } if self.run.is_interrupted() => {}
            Input::ElicitationRequested { request, origin, elicitation } => {
                if self.match_repeated_question(&request, &origin) {
                    return;
                }
                let Elicitation { message, form } = elicitation;
                self.ask_person(Asker::Agent(origin), message, form, Some(request));
            }
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
                if self.run.tasks[node.index()].state != TaskState::AskingModel {
                    return;
                }
                // The model is asked again when the run is resumed.
                if result.is_err() && self.run.is_interrupted() {
                    return;
                }
                let failed = result.is_err();
                self.emit(Event::ModelReplied { attempt, result });
                match failed {
                    _ if self.run.is_interrupted() => {}
                    true => self.on_model_failed(node),
                    false if self.run.stop_reason.is_some() => self.finish_prompt(node),
                    false => {}
                }
            }
            Input::Replanned { number, result } => self.on_replanned(number, result),
            Input::QuestionAnswered { question, answer, by } => self.on_answered(question, answer, by),
            Input::RestApproved { question, by } => self.rest_approved(question, by),
            Input::QuestionDeferred { question, reason } => {
                if matches!(self.run.questions.get(&question), Some(entry) if entry.state == QuestionState::Open) {
                    self.emit(Event::QuestionLeftOpen { question, reason });
                }
            }
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
        let attempts: Vec<AttemptId> = self.run.in_flight().collect();
        for attempt in attempts {
            self.push_command(Command::CancelAttempt { attempt });
        }
    }

    pub(super) fn on_attempt_ended(&mut self, attempt: AttemptId, result: Result<Arc<ToolOutput>, Failure>) {
        let Some(node) = self.run.running_node(&attempt) else { return };
        let TaskState::Running { route, .. } = self.run.tasks[node.index()].state else { return };
        let taken_up = self.run.tasks[node.index()].is_reattached;
        if taken_up {
            self.close_unrepeated_questions(&attempt);
        }
        let failure = match result {
            Ok(output) => return self.emit(Event::AttemptSucceeded { attempt, output }),
            Err(failure) if taken_up => retry::reattach_failure(failure),
            Err(failure) => failure,
        };
        if self.run.is_interrupted() {
            // The process that resumes the run decides what follows.
            let failure = retry::interrupted_failure(failure);
            return self.emit(Event::AttemptFailed { attempt, failure });
        }
        self.emit(Event::AttemptFailed { attempt: attempt.clone(), failure: failure.clone() });
        self.on_attempt_failed(attempt, route, failure);
    }

    /// Decides what follows from the failure of an attempt on `route`.
    pub(super) fn on_attempt_failed(&mut self, attempt: AttemptId, route: usize, failure: Failure) {
        let Some(node) = self.run.graph.node_index(attempt.task.as_str()) else { return };
        let task = attempt.task.clone();
        if failure.kind == FailureKind::Cancelled {
            return self.emit(Event::TaskEnded { task, outcome: Outcome::Cancelled });
        }
        if self.run.stop_reason.is_some() {
            return self.fail_task(
                task,
                retry::explain_failure(failure, self.run.repetition_effect(node, route), &self.run.graph[node].id),
            );
        }
        match self.run.retry_decision(node, route, &failure) {
            RetryDecision::Fail => self.fail_with_last_failure(node),
            RetryDecision::AskPerson => self.ask_about_ambiguous_call(attempt, node),
            RetryDecision::Retry => {
                let planned = Arc::clone(&self.run.graph[node].task);
                let tries = self.run.tasks[node.index()].routes.iter().map(|route| route.tries).sum();
                // The agent did not cause the failure, so it needs no delay.
                let at_once = failure.kind == FailureKind::Interrupted;
                let wanted = failure.retry_after.map(|wait| wait.0).unwrap_or_default();
                let pause = retry::retry_delay(&planned.retry.backoff, tries, self.run.seed, &task).max(wanted);
                let ready_at = if at_once { self.now } else { self.now.after(pause) };
                let agent = self.run.only_candidate_agent(node);
                self.emit(Event::RetryScheduled { task, ready_at, agent, reason: failure.message });
            }
            RetryDecision::Reroute => {
                if let RouteChoice::NoRoute(refusal) = self.run.choose_route(node, self.now) {
                    if !self.wait_for_reconnect(node) {
                        self.fail_without_agents(node, refusal);
                    }
                    return;
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
        let task = self.run.graph[node].id.clone();
        let failure = match self.run.tasks[node.index()].last_route {
            Some(route) => {
                retry::explain_failure(failure, self.run.repetition_effect(node, route), &self.run.graph[node].task.id)
            }
            None => failure,
        };
        self.fail_task(task, failure);
    }

    /// Fails a task. If the task asks for a replan and none follows, the help gives the reason.
    pub(super) fn fail_task(&mut self, task: TaskId, failure: Failure) {
        let failure = match self.run.replan_refusal(&task, &failure) {
            Some(reason) => failure.with_additional_help(reason),
            None => failure,
        };
        self.emit(Event::TaskEnded { task, outcome: Outcome::Failed(failure) });
    }

    pub(super) fn skip_task(&mut self, task: TaskId, reason: SkipReason) {
        self.emit(Event::TaskEnded { task, outcome: Outcome::Skipped(reason) });
    }

    pub(super) fn ask_person(&mut self, asker: Asker, message: String, form: Form, request: Option<RequestId>) {
        let id = QuestionId::from(format!("q{}", self.run.questions.len() + 1));
        let tool = self.run.asking_tool(&asker);
        let call = self.run.proposed_call(&asker);
        let deadline = self.run.question_deadline(&asker, self.now);
        let deadline = deadline.map(|(at, default)| QuestionDeadline { at, default });
        let item = self.run.item_of(&asker);
        let question = Arc::new(Question { id, asker, item, tool, call, message, form, deadline });
        self.emit(Event::QuestionAsked { question: Arc::clone(&question), request });
        self.push_command(Command::AskPerson { question });
    }

    pub(super) fn on_answered(&mut self, question: QuestionId, answer: Answer, by: String) {
        let Some(entry) = self.run.questions.get(&question) else { return };
        if matches!(entry.state, QuestionState::Answered { .. }) {
            return;
        }
        let (asker, request) = (entry.question.asker.clone(), entry.request.clone());
        self.emit(Event::QuestionAnswered { question, answer: answer.clone(), by: by.clone() });
        self.on_answer((asker, request), answer, &by);
    }

    /// Approves a call and all other calls of its `foreach` task, including the ones without a question so far.
    fn rest_approved(&mut self, question: QuestionId, by: String) {
        let parent = match self.run.questions.get(&question) {
            Some(entry) if !matches!(entry.state, QuestionState::Answered { .. }) => {
                self.run.parent_of(&entry.question.asker)
            }
            _ => return,
        };
        let accept = Answer::Accept { content: None };
        self.on_answered(question, accept.clone(), by.clone());
        let Some(parent) = parent else { return };
        let task = self.run.graph[parent].id.clone();
        let siblings: Vec<QuestionId> = (self.run.questions.entries())
            .filter(|entry| !matches!(entry.state, QuestionState::Answered { .. }))
            .filter(|entry| self.run.parent_of(&entry.question.asker) == Some(parent))
            .map(|entry| entry.question.id.clone())
            .collect();
        for sibling in siblings {
            self.on_answered(sibling, accept.clone(), format!("{by}, for all of `{task}`"));
        }
        self.emit(Event::RestApproved { task, by });
    }

    /// Executes the consequences of an answer.
    pub(super) fn on_answer(&mut self, question: (Asker, Option<RequestId>), answer: Answer, by: &str) {
        match question {
            (Asker::Agent(_), Some(request)) => self.push_command(Command::AnswerElicitation { request, answer }),
            // The end of the run may have ended the task already.
            (Asker::Plan { task }, _)
                if !matches!(answer, Answer::Accept { .. }) && self.run.is_awaiting_answer(&task) =>
            {
                self.fail_task(task, Failure::new(FailureKind::Denied, format!("not approved (answered by {by})")));
            }
            (Asker::Host { attempt }, _) if self.run.is_awaiting_answer(&attempt.task) => {
                self.on_ambiguity_resolved(attempt, &answer)
            }
            (Asker::Replan { number }, _) => self.on_replan_answered(number, &answer, by),
            _ => {}
        }
    }
}

impl State {
    /// Returns the call that an approval in the plan is about. Arguments that cannot be rendered fail the call later.
    fn proposed_call(&self, asker: &Asker) -> Option<ProposedCall> {
        let Asker::Plan { task } = asker else { return None };
        let node = self.graph.node_index(task.as_str())?;
        let route = self.graph[node].task.routes().first()?.clone();
        let arguments = ProposedCall::truncate_arguments(self.arguments(node).unwrap_or_default());
        Some(ProposedCall { agent: route.agent, tool: route.tool, arguments, effect: self.repetition_effect(node, 0) })
    }

    /// Returns the `foreach` task whose item an approval in the plan is about.
    fn parent_of(&self, asker: &Asker) -> Option<NodeIndex> {
        let Asker::Plan { task } = asker else { return None };
        Some(self.graph[self.graph.node_index(task.as_str())?].item()?.parent)
    }

    /// Returns the item of a `foreach` task that an approval in the plan is about.
    fn item_of(&self, asker: &Asker) -> Option<ItemPlace> {
        let Asker::Plan { task } = asker else { return None };
        let node = self.graph.node_index(task.as_str())?;
        let items = self.tasks[self.graph[node].item()?.parent.index()].items.clone();
        Some(ItemPlace { number: node.index().checked_sub(items.start)? + 1, of: items.len() })
    }

    /// Returns whether a person approved all calls of the `foreach` task that an item belongs to.
    pub(super) fn is_rest_approved(&self, node: NodeIndex) -> bool {
        self.graph[node].item().is_some_and(|item| self.tasks[item.parent.index()].rest_approved)
    }

    /// Returns the tool whose call asks. For an approval, returns the tool of the first route.
    fn asking_tool(&self, asker: &Asker) -> Option<Arc<str>> {
        let (task, has_started) = match asker {
            Asker::Plan { task } => (task, false),
            Asker::Replan { .. } => return None,
            Asker::Agent(origin) => (&origin.attempt.as_ref()?.task, true),
            Asker::Host { attempt } => (&attempt.task, true),
        };
        let node = self.graph.node_index(task.as_str())?;
        let last = self.tasks[node.index()].last_route.filter(|_| has_started);
        let route = self.graph[node].task.routes().get(last.unwrap_or(0))?;
        Some(Arc::clone(&route.tool))
    }
}
