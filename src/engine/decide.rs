//! Decides what follows from what was observed: `(run, inputs, now) → events and commands`.
//! Never reads a clock, a file or a socket. Commands may be carried out once the events are durable.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;

use crate::{
    expression::{self, Reference},
    model::{
        Answer, Asker, AttemptId, Command, Elicitation, Event, Expression, Failure, FailureKind, Form, Input,
        JsonObject, NodeIndex, Outcome, Plan, Question, QuestionId, Record, RequestId, SkipReason, StartAttempt, Task,
        TaskId, Template, Timestamp, ToolOutput,
    },
};

use super::{
    retry::{self, Verdict},
    router::{self, Choice},
    run::{Connection, QuestionState, Queues, Run, TaskState, Unknown},
};

/// What a decision gave: facts to make durable, then orders to carry out.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    /// The facts, in order.
    pub records: Vec<Record>,
    /// The orders that follow from them, in order.
    pub commands: Vec<Command>,
}

/// A decision in the making.
struct Decision<'r> {
    run: &'r mut Run,
    now: Timestamp,
    step: Step,
}

impl Run {
    /// Begins a run of `plan`.
    ///
    /// # Errors
    /// When the plan's tasks are no graph, which `config::lower` has ruled out.
    pub fn start(
        plan: &Arc<Plan>,
        inputs: &Arc<Value>,
        seed: u64,
        now: Timestamp,
    ) -> Result<(Self, Step), crate::model::GraphError> {
        let mut run = Self::new(plan, inputs, seed)?;
        let event = Event::RunStarted { plan: Arc::clone(plan), inputs: Arc::clone(inputs), seed };
        let mut decision = Decision { run: &mut run, now, step: Step::default() };
        decision.step.records.push(Record { seq: 0, at: now, event });
        decision.connect_first_choices();
        decision.advance();
        let step = decision.step;
        Ok((run, step))
    }

    /// Takes in what was observed, in order, and decides what follows. Late and repeated inputs change nothing.
    pub fn handle(&mut self, inputs: impl IntoIterator<Item = Input>, now: Timestamp) -> Step {
        let mut decision = Decision { run: self, now, step: Step::default() };
        if decision.run.is_over() {
            return decision.step;
        }
        for input in inputs {
            decision.observe(input);
        }
        decision.advance();
        decision.step
    }

    /// Whether the last event has been decided.
    pub fn is_over(&self) -> bool {
        self.status != crate::model::RunStatus::Running
    }
}

impl Decision<'_> {
    /// Adds a fact. Facts are made from the run's own names, so the run always knows them.
    fn emit(&mut self, event: Event) {
        let seq = self.run.next_seq;
        if let Err(Unknown(name)) = self.run.apply(&event) {
            unreachable!("the engine decided on `{name}`, which its run does not have");
        }
        self.step.records.push(Record { seq, at: self.now, event });
    }

    fn order(&mut self, command: Command) {
        self.step.commands.push(command);
    }

    /// Connects, all at once, the agents that tasks would go to first.
    fn connect_first_choices(&mut self) {
        let plan = Arc::clone(&self.run.plan);
        for task in &plan.tasks {
            let Some(first) = task.routes.iter().map(|route| route.rank).min() else { continue };
            for route in task.routes.iter().filter(|route| route.rank == first) {
                self.connect(&route.agent);
            }
        }
    }

    fn connect(&mut self, agent: &crate::model::AgentId) {
        if self.run.agents[agent].connection == Connection::NotAsked {
            self.emit(Event::AgentConnecting { agent: agent.clone() });
            self.order(Command::ConnectAgent { agent: agent.clone() });
        }
    }

    fn observe(&mut self, input: Input) {
        match input {
            Input::AgentConnected { agent, info } => {
                if matches!(self.run.agents.get(&agent), Some(state) if state.connection == Connection::Connecting) {
                    self.emit(Event::AgentConnected { agent, info });
                }
            }
            Input::AgentUnavailable { agent, failure } => {
                if matches!(self.run.agents.get(&agent), Some(state) if state.connection == Connection::Connecting) {
                    let stopping = self.run.stop.is_some();
                    self.emit(Event::AgentUnavailable { agent, failure });
                    if !stopping && self.run.stop.is_some() {
                        self.cancel_running();
                    }
                }
            }
            Input::AttemptEnded { attempt, result } => self.attempt_ended(attempt, result),
            Input::AttemptProgressed { attempt, progress } => {
                if self.run.current(&attempt).is_some() {
                    self.emit(Event::AttemptProgressed { attempt, progress });
                }
            }
            Input::InputRequired { attempt, round, request_state, requests } => {
                if self.run.current(&attempt).is_some() {
                    self.emit(Event::InputRequired { attempt: attempt.clone(), round, request_state, requests });
                    self.order(Command::ContinueRound { attempt, round });
                }
            }
            Input::ElicitationRequested { request, origin, elicitation } => {
                let Elicitation { message, form } = elicitation;
                self.ask(Asker::Agent(origin), message, form, Some(request));
            }
            Input::SamplingRequested { request, origin, chat } => {
                self.emit(Event::SamplingStarted { request: request.clone(), origin, chat: Arc::clone(&chat) });
                self.order(Command::Sample { request, chat });
            }
            Input::SamplingEnded { request, result } => {
                if self.run.sampling.contains(&request) {
                    self.emit(Event::SamplingFinished { request: request.clone(), result: result.clone() });
                    self.order(Command::AnswerSampling { request, result });
                }
            }
            Input::QuestionAnswered { question, answer, by } => self.answered(question, answer, by),
            Input::QuestionLeftOpen { question, reason } => {
                if matches!(self.run.questions.get(&question), Some(entry) if entry.state == QuestionState::Open) {
                    self.emit(Event::QuestionLeftOpen { question, reason });
                }
            }
            Input::AgentLogged { origin, message } => self.emit(Event::AgentLogged { origin, message }),
            Input::CancelRequested => {
                if self.run.stop.is_none() {
                    self.emit(Event::CancelRequested);
                    self.cancel_running();
                }
            }
            Input::TimeReached => {}
        }
    }

    fn cancel_running(&mut self) {
        let attempts: Vec<AttemptId> = self.run.running_attempts().map(|(attempt, _)| attempt).collect();
        for attempt in attempts {
            self.order(Command::CancelAttempt { attempt });
        }
    }

    fn attempt_ended(&mut self, attempt: AttemptId, result: Result<Arc<ToolOutput>, Failure>) {
        let Some(node) = self.run.current(&attempt) else { return };
        let TaskState::Running { route, .. } = self.run.tasks[node.index()].state else { return };
        let failure = match result {
            Ok(output) => return self.emit(Event::AttemptSucceeded { attempt, output }),
            Err(failure) => failure,
        };
        let task = attempt.task.clone();
        self.emit(Event::AttemptFailed { attempt, failure: failure.clone() });
        if failure.kind == FailureKind::Cancelled {
            return self.emit(Event::TaskEnded { task, outcome: Outcome::Cancelled });
        }
        if self.run.stop.is_some() {
            return self.fail(task, retry::explain(failure, self.run.effect(node, route), &self.run.graph[node].id));
        }
        match self.run.verdict(node, route, &failure) {
            Verdict::Final => self.give_up(node),
            Verdict::Retry => {
                let planned = Arc::clone(&self.run.graph[node].task);
                let tries = self.run.tasks[node.index()].routes[route].tries;
                let ready_at = self.now.after(retry::pause(&planned.retry.backoff, tries, self.run.seed, &task));
                let agent = planned.routes[route].agent.clone();
                self.emit(Event::RetryScheduled { task, ready_at, agent, reason: failure.message });
            }
            Verdict::Reroute => {
                let entry = &self.run.tasks[node.index()];
                let routes = &self.run.graph[node].task.routes;
                let next = match router::choose(routes, &entry.routes, None, &self.run.agents) {
                    Choice::Start(index) => routes[index].agent.clone(),
                    Choice::Wait(agents) => agents[0].clone(),
                    Choice::None(_) => return self.give_up(node),
                };
                let ready_at = self.now;
                self.emit(Event::RetryScheduled { task, ready_at, agent: next, reason: failure.message });
            }
        }
    }

    /// Fails a task with its last failure.
    fn give_up(&mut self, node: NodeIndex) {
        let entry = &self.run.tasks[node.index()];
        let Some(failure) = entry.last_failure.clone() else { return };
        let task = self.run.graph[node].id.clone();
        let last = entry
            .agent
            .as_ref()
            .and_then(|agent| self.run.graph[node].task.routes.iter().position(|route| route.agent == *agent));
        let failure = match last {
            Some(route) => retry::explain(failure, self.run.effect(node, route), &self.run.graph[node].task.id),
            None => failure,
        };
        self.fail(task, failure);
    }

    fn fail(&mut self, task: TaskId, failure: Failure) {
        self.emit(Event::TaskEnded { task, outcome: Outcome::Failed(failure) });
    }

    fn skip(&mut self, task: TaskId, reason: SkipReason) {
        self.emit(Event::TaskEnded { task, outcome: Outcome::Skipped(reason) });
    }

    fn ask(&mut self, asker: Asker, message: String, form: Form, request: Option<RequestId>) {
        let id = QuestionId::from(format!("q{}", self.run.questions.len() + 1));
        let tool = self.run.tool_of(&asker);
        let question = Arc::new(Question { id, asker, tool, message, form });
        self.emit(Event::QuestionAsked { question: Arc::clone(&question), request });
        self.order(Command::Ask { question });
    }

    fn answered(&mut self, question: QuestionId, answer: Answer, by: String) {
        let Some(entry) = self.run.questions.get(&question) else { return };
        if matches!(entry.state, QuestionState::Answered(_)) {
            return;
        }
        let (asker, request) = (entry.question.asker.clone(), entry.request.clone());
        self.emit(Event::QuestionAnswered { question, answer: answer.clone(), by: by.clone() });
        match (asker, request) {
            (Asker::Agent(_), Some(request)) => self.order(Command::AnswerElicitation { request, answer }),
            (Asker::Plan { task }, _) if !matches!(answer, Answer::Accept { .. }) => {
                self.fail(task, Failure::new(FailureKind::Denied, format!("not approved (answered by {by})")));
            }
            _ => {}
        }
    }

    /// Does all that can be done now.
    fn advance(&mut self) {
        loop {
            while let Some(&(at, node)) = self.run.queues.timers.first() {
                if at > self.now {
                    break;
                }
                self.run.queues.timers.pop_first();
                self.run.queues.startable.push_back(node);
            }
            if self.run.stop.is_some() {
                self.end_what_has_not_started();
            }
            if let Some(node) = self.run.queues.due.pop_front() {
                self.examine(node);
            } else if self.run.running == self.run.plan.max_parallel {
                break;
            } else if let Some(node) = self.run.queues.startable.pop_front() {
                self.start(node);
            } else if !self.run.queue_what_has_room() {
                break;
            }
        }
        self.end_run_if_nothing_is_left();
    }

    /// Once the run stops, ends every node that has no attempt in flight.
    fn end_what_has_not_started(&mut self) {
        self.run.queues.due.clear();
        self.run.queues.startable.clear();
        let idle: Vec<TaskId> = (self.run.tasks.iter().zip(self.run.graph.nodes()))
            .filter(|(entry, _)| match &entry.state {
                TaskState::Running { .. } | TaskState::Ended(_) => false,
                // A `foreach` task ends after its items.
                TaskState::Expanded => entry.waiting_for == 0,
                _ => true,
            })
            .map(|(_, (_, node))| node.id.clone())
            .collect();
        for task in idle {
            self.emit(Event::TaskEnded { task, outcome: Outcome::Cancelled });
        }
        // Ending items can leave a `foreach` task with nothing to wait for.
        if self.run.queues.due.iter().any(|node| self.run.tasks[node.index()].state == TaskState::Expanded) {
            self.end_what_has_not_started();
        }
        self.run.queues.due.clear();
    }

    /// Looks at a node whose dependencies have ended: skips it, expands it, asks first, or lets it start.
    fn examine(&mut self, node: NodeIndex) {
        let entry = &self.run.tasks[node.index()];
        match entry.state {
            TaskState::Expanded if entry.waiting_for == 0 => return self.close(node),
            TaskState::Ready { .. } if entry.attempts == 0 && !entry.examined && !entry.approved => {}
            TaskState::Ready { .. } => return self.run.queues.startable.push_back(node),
            _ => return,
        }
        self.run.tasks[node.index()].examined = true;
        let task = Arc::clone(&self.run.graph[node].task);
        let id = self.run.graph[node].id.clone();
        let is_item = self.run.graph[node].item.is_some();
        if !is_item && let Some(reason) = self.unmet_need(node) {
            return self.skip(id, reason);
        }
        if let Some(condition) = &task.condition
            && asks_for_each_item(&task, condition) == is_item
        {
            match expression::condition(condition, &self.run.scope(node)) {
                Ok(true) => {}
                Ok(false) => return self.skip(id, SkipReason::ConditionFalse { condition: condition.0.clone() }),
                Err(error) => return self.fail(id, expression_failure("if", &error)),
            }
        }
        if let (Some(foreach), false) = (&task.foreach, is_item) {
            return match expression::render(&foreach.items, &self.run.scope(node)) {
                Ok(Value::Array(items)) => self.emit(Event::TasksAdded { parent: id, items: Arc::new(items) }),
                Ok(other) => {
                    let message =
                        format!("`foreach` needs a list, but `{}` gave {}", show(&foreach.items), kind(&other));
                    self.fail(id, Failure::new(FailureKind::Expression, message));
                }
                Err(error) => self.fail(id, expression_failure("foreach", &error)),
            };
        }
        if let Some(approve) = &task.approve {
            return match expression::render(approve, &self.run.scope(node)) {
                Ok(message) => {
                    let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
                    self.ask(Asker::Plan { task: id }, message, Form::Approval, None);
                }
                Err(error) => self.fail(id, expression_failure("approve", &error)),
            };
        }
        self.run.queues.startable.push_back(node);
    }

    /// Why a node must be skipped because of how its dependencies ended.
    fn unmet_need(&self, node: NodeIndex) -> Option<SkipReason> {
        let condition = self.run.graph[node].task.condition.as_ref();
        if condition.is_some_and(expression::looks_at_how_tasks_ended) {
            return None;
        }
        self.run.graph.dependencies(node).find_map(|need| {
            let dependency = &self.run.graph[need];
            self.run.tasks[need.index()].blocks(&dependency.id, dependency.task.on_failure)
        })
    }

    /// Ends a `foreach` task whose items have all ended.
    fn close(&mut self, node: NodeIndex) {
        let items = self.run.tasks[node.index()].items.clone();
        let failed: Vec<(&TaskId, &Failure)> = items
            .clone()
            .filter_map(|index| match &self.run.tasks[index].state {
                TaskState::Ended(Outcome::Failed(failure)) => {
                    Some((&self.run.graph[NodeIndex::new(index)].id, failure))
                }
                _ => None,
            })
            .collect();
        let outcome = match failed.first() {
            None => Outcome::Succeeded(Arc::new(ToolOutput::default())),
            Some((first, failure)) => {
                let denied = failed.iter().all(|(_, failure)| failure.kind == FailureKind::Denied);
                Outcome::Failed(Failure {
                    kind: if denied { FailureKind::Denied } else { FailureKind::ItemsFailed },
                    message: format!("{} of {} items failed; `{first}`: {failure}", failed.len(), items.len()),
                    help: failure.help.clone(),
                })
            }
        };
        let task = self.run.graph[node].id.clone();
        self.emit(Event::TaskEnded { task, outcome });
    }

    /// Starts a node if there is room for it, else queues it where room will come.
    fn start(&mut self, node: NodeIndex) {
        let entry = &self.run.tasks[node.index()];
        let preferred = match entry.state {
            TaskState::Ready { preferred } => preferred,
            TaskState::Waiting { until, preferred } if until <= self.now => preferred,
            _ => return,
        };
        let task = Arc::clone(&self.run.graph[node].task);
        if let (Some(item), Some(foreach)) = (&self.run.graph[node].item, &task.foreach)
            && foreach.max_parallel.is_some_and(|most| self.run.tasks[item.parent.index()].running_items >= most)
        {
            self.run.queues.by_parent.entry(item.parent).or_default().push_back(node);
            return;
        }
        match router::choose(&task.routes, &entry.routes, preferred, &self.run.agents) {
            Choice::Start(route) => self.start_on(node, route),
            Choice::Wait(agents) => {
                for agent in agents {
                    self.connect(&agent);
                    self.run.queues.by_agent.entry(agent).or_default().push_back(node);
                }
            }
            Choice::None(refusal) if entry.last_failure.is_none() => {
                self.fail(self.run.graph[node].id.clone(), refusal);
            }
            Choice::None(_) => self.give_up(node),
        }
    }

    fn start_on(&mut self, node: NodeIndex, route: usize) {
        let graph_node = &self.run.graph[node];
        let (task, id) = (Arc::clone(&graph_node.task), graph_node.id.clone());
        let arguments = match expression::render(&task.arguments, &self.run.scope(node)) {
            Ok(Value::Object(arguments)) => arguments,
            Ok(Value::Null) => JsonObject::new(),
            Ok(other) => {
                let message = format!("`with` needs a map of arguments, but gave {}", kind(&other));
                return self.fail(id, Failure::new(FailureKind::Expression, message));
            }
            Err(error) => return self.fail(id, expression_failure("with", &error)),
        };
        let number = self.run.tasks[node.index()].attempts + 1;
        let attempt = AttemptId { task: id, number };
        let (agent, tool) = (task.routes[route].agent.clone(), Arc::clone(&task.routes[route].tool));
        let timeout = task.timeout.unwrap_or(self.run.agents[&agent].policy.tool_timeout).0;
        self.emit(Event::AttemptStarted { attempt: attempt.clone(), agent: agent.clone(), tool: Arc::clone(&tool) });
        let deadline = task.deadline.map(|span| span.0);
        self.order(Command::StartAttempt(StartAttempt { attempt, agent, tool, arguments, timeout, deadline }));
    }

    /// Ends the run when every node has ended, or when only questions that nobody here can answer are left.
    fn end_run_if_nothing_is_left(&mut self) {
        if self.run.is_over() || self.run.running > 0 {
            return;
        }
        let paused = self.run.open > 0;
        if paused && !self.run.waits_only_for_absent_people() {
            return;
        }
        let end = self.run.verdict_of_run(paused);
        self.emit(Event::RunEnded {
            status: end.status,
            cause: end.cause,
            outputs: end.outputs,
            output_errors: end.output_errors,
        });
        self.order(Command::EndRun);
    }
}

/// Whether the condition of a `foreach` task is about its items rather than about the task as a whole.
fn asks_for_each_item(task: &Task, condition: &Expression) -> bool {
    task.foreach.as_ref().is_some_and(|foreach| {
        expression::references(condition).is_ok_and(|references| {
            references.iter().any(|reference| matches!(reference, Reference::Name(name) if *name == foreach.binding))
        })
    })
}

fn expression_failure(key: &str, error: &expression::ExpressionError) -> Failure {
    let failure = Failure::new(FailureKind::Expression, format!("`{key}`: {error}"));
    match &error.help {
        Some(help) => failure.with_help(help.clone()),
        None => failure,
    }
}

fn show(template: &Template) -> String {
    template.0.as_str().map_or_else(|| template.0.to_string(), str::to_owned)
}

/// A JSON value's type, with its article.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing (null)",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

impl Run {
    /// The tool whose call asks, or the first one that an approval is about.
    fn tool_of(&self, asker: &Asker) -> Option<Arc<str>> {
        let (task, agent) = match asker {
            Asker::Plan { task } => (task, None),
            Asker::Agent(origin) => (&origin.attempt.as_ref()?.task, Some(&origin.agent)),
        };
        let routes = &self.graph[self.graph.find(task.as_str())?].task.routes;
        let route = routes.iter().find(|route| agent.is_none_or(|agent| route.agent == *agent))?;
        Some(Arc::clone(&route.tool))
    }

    /// Whether every open node waits, directly or through others, for a question that was left open.
    fn waits_only_for_absent_people(&self) -> bool {
        let open_question = self.questions.values().any(|entry| entry.state == QuestionState::Open);
        let left_open = self.questions.values().any(|entry| entry.state == QuestionState::LeftOpen);
        left_open
            && !open_question
            && self.queues.timers.is_empty()
            && self.tasks.iter().all(|entry| {
                matches!(
                    entry.state,
                    TaskState::AwaitingApproval | TaskState::Blocked | TaskState::Expanded | TaskState::Ended(_)
                )
            })
    }

    /// Moves nodes that waited for room to where they are started, as many as there is room for; says whether any
    /// moved.
    fn queue_what_has_room(&mut self) -> bool {
        let Self { tasks, agents, graph, queues, .. } = self;
        let Queues { startable, by_agent, by_parent, .. } = queues;
        let before = startable.len();
        let mut take = |waiting: &mut VecDeque<NodeIndex>, room: usize| {
            let mut taken = 0;
            while taken < room
                && let Some(node) = waiting.pop_front()
            {
                if matches!(tasks[node.index()].state, TaskState::Ready { .. } | TaskState::Waiting { .. }) {
                    startable.push_back(node);
                    taken += 1;
                }
            }
        };
        for (agent, waiting) in by_agent {
            let agent = &agents[agent];
            match agent.connection {
                Connection::Connected(_) => take(waiting, agent.policy.max_concurrency.saturating_sub(agent.running)),
                Connection::Unavailable(_) => take(waiting, usize::MAX),
                Connection::NotAsked | Connection::Connecting => {}
            }
        }
        for (parent, waiting) in by_parent {
            let most = graph[*parent].task.foreach.as_ref().and_then(|foreach| foreach.max_parallel);
            take(waiting, most.unwrap_or(usize::MAX).saturating_sub(tasks[parent.index()].running_items));
        }
        startable.len() > before
    }
}
