//! Takes up a run that an earlier process left: what is interrupted, what goes on elsewhere, what is owed.
//! Never reads the notes by which calls are found again; it only knows for which calls there is one.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::model::{
    AgentId, AgentInfo, Answer, Asker, AttemptId, ChatError, ChatReply, ChatRequest, Command, Effect, EndCause, Event,
    Failure, FailureKind, Input, NodeIndex, Origin, Outcome, QuestionId, RequestId, RunStatus, Sampler, Settlement,
    SkipReason, Span, TaskId, Timestamp, ToolInfo, ToolOutput,
};

use super::{
    apply::Fold,
    decide::{Decision, Step},
    health::Health,
    questions::{QuestionEntry, QuestionState},
    replan::Stage,
    retry,
    run::{Connection, Run, State, Stop, TaskState, Unknown},
};

/// What a process that takes a run up knows beyond the run's events.
#[derive(Clone, Copy)]
pub struct Recovery<'a> {
    /// The moment.
    pub now: Timestamp,
    /// When the run's last event was decided.
    pub last: Timestamp,
    /// Whether there is a note by which a call can be found again.
    pub noted: &'a dyn Fn(&AttemptId) -> bool,
    /// Whether a person accepted that agents' tools are not what they were.
    pub accepts_changes: bool,
    /// What was asked of the run while nobody drove it: answers, or its end.
    pub requests: &'a [Input],
}

impl Run {
    /// Takes up a run that was folded from its events. Calls with a note are gone on with where they are; what follows
    /// for the others is the table in [`super::retry`]. Prompts are put to the model again, people are asked again what
    /// they have not answered. A run that has ended for good gives nothing to do.
    pub fn recover(&mut self, recovery: Recovery<'_>) -> Step {
        let Recovery { now, last, noted, accepts_changes, requests } = recovery;
        let mut decision = Decision::new(self, now);
        if !decision.run.status.is_open() {
            return decision.into_step();
        }
        let (taken_up, interrupted) = decision.run.calls_under_way().partition::<Vec<_>, _>(noted);
        let away = Span(now.since(last));
        decision.emit(Event::RunResumed { away, taken_up: taken_up.clone(), accepts_changes });
        // Before anything else, so that nobody is asked what was answered, and nothing starts in a run that is to end.
        for request in requests {
            decision.observe(request.clone());
        }
        decision.close_dead_questions(&taken_up);
        for question in decision.run.questions_of_the_host() {
            decision.order(Command::Ask { question });
        }
        decision.finish_the_last_step();
        for attempt in taken_up {
            decision.take_up(attempt);
        }
        for attempt in interrupted {
            let failure = decision.run.interruption(&attempt);
            decision.attempt_ended(attempt, Err(failure));
        }
        for attempt in decision.run.in_flight().collect::<Vec<_>>() {
            decision.ask_model_again(attempt);
        }
        decision.go_on_replanning();
        if decision.run.stop.is_some() {
            decision.end_turns();
            decision.cancel_running();
        }
        decision.advance();
        decision.into_step()
    }
}

impl Fold<'_> {
    /// Takes in that a later process goes on with the run.
    pub(super) fn resume(&mut self, away: Span, taken_up: &[AttemptId]) -> Result<(), Unknown> {
        self.state.status = RunStatus::Running;
        self.state.stop.take_if(|stop| *stop == Stop::Interrupted);
        self.state.deadline = self.state.deadline.map(|deadline| deadline.after(away.0));
        for conversation in self.state.tasks.iter_mut().filter_map(|entry| entry.conversation.as_mut()) {
            conversation.deadline = conversation.deadline.map(|deadline| deadline.after(away.0));
        }
        for agent in self.state.agents.values_mut() {
            agent.connection = Connection::NotAsked;
            agent.health = Health::default();
        }
        self.state.questions.take_up();
        for request in std::mem::take(&mut self.state.sampling).into_keys() {
            self.lose(&request);
        }
        let turns: Vec<AttemptId> = self.in_flight().filter(|attempt| self.is_turn(attempt)).collect();
        for turn in turns {
            self.charge_again(&RequestId::from(turn.to_string()));
        }
        for attempt in taken_up {
            let node = self.find(&attempt.task)?;
            self.state.tasks[node.index()].taken_up = true;
        }
        Ok(())
    }
}

impl State {
    /// What the model replied to a request that the agent makes again, because the reply may not have reached it.
    pub(super) fn reply_to(&self, sampler: &Sampler) -> Option<Result<ChatReply, ChatError>> {
        let Sampler::Agent(origin) = sampler else { return None };
        let node = self.current(origin.attempt.as_ref()?)?;
        self.tasks[node.index()].replies.get(origin.key.as_ref()?).cloned()
    }

    fn is_turn(&self, attempt: &AttemptId) -> bool {
        self.current(attempt).is_some_and(|node| self.tasks[node.index()].state == TaskState::AskingModel)
    }

    /// The attempts in flight that are calls.
    pub(super) fn calls_under_way(&self) -> impl Iterator<Item = AttemptId> {
        self.in_flight().filter(|attempt| !self.is_turn(attempt))
    }

    /// The questions that the plan and the host itself wait for.
    fn questions_of_the_host(&self) -> Vec<Arc<crate::model::Question>> {
        let open = self.questions.entries().filter(|entry| entry.state == QuestionState::Open);
        open.filter(|entry| !matches!(entry.question.asker, Asker::Agent(_)))
            .map(|entry| Arc::clone(&entry.question))
            .collect()
    }

    /// Why an attempt that is not taken up has failed.
    fn interruption(&self, attempt: &AttemptId) -> Failure {
        let call = self.current(attempt).and_then(|node| {
            let route = self.route_of(node)?;
            Some(format!("`{}` of agent `{}`", route.tool, route.agent))
        });
        let call = call.unwrap_or_else(|| attempt.to_string());
        Failure::new(FailureKind::Interrupted, format!("the host ended while {call} was under way"))
    }

    /// The route of a node's attempt in flight.
    fn route_of(&self, node: NodeIndex) -> Option<&crate::model::Route> {
        match self.tasks[node.index()].state {
            TaskState::Running { route, .. } => self.graph[node].task.routes().get(route),
            _ => None,
        }
    }

    /// The tools of `agent` that open tasks call and that are not what they were.
    fn changed_tools(&self, agent: &AgentId, info: &AgentInfo) -> Vec<String> {
        let Some(known) = &self.agents[agent].known else { return Vec::new() };
        let open = self.tasks.iter().zip(self.graph.nodes());
        let open = open.filter(|(entry, _)| !matches!(entry.state, TaskState::Ended(_))).map(|(_, (_, node))| node);
        let called = open.flat_map(|node| node.task.routes()).filter(|route| route.agent == *agent);
        let schemas = |tool: &ToolInfo| (tool.input_schema.clone(), tool.output_schema.clone());
        let mut changed: Vec<String> = called
            .filter(|route| {
                let before = known.tool(&route.tool).map(schemas);
                before.is_some() && before != info.tool(&route.tool).map(schemas)
            })
            .map(|route| route.tool.to_string())
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

impl Decision<'_> {
    /// Takes in that an agent is there; pauses the run when its tools are not those that the run was begun with.
    pub(super) fn connected(&mut self, agent: AgentId, info: Arc<AgentInfo>) {
        let tools = if self.run.accepts_changes { Vec::new() } else { self.run.changed_tools(&agent, &info) };
        if tools.is_empty() {
            return self.emit(Event::AgentConnected { agent, info });
        }
        self.emit(Event::RunEnded {
            status: RunStatus::Paused,
            cause: Some(EndCause::AgentChanged { agent, tools }),
            outputs: None,
            output_errors: IndexMap::new(),
        });
        self.order(Command::EndRun);
    }

    /// Connects a request that an agent makes again with the question that it was; whether it was one.
    pub(super) fn asked_again(&mut self, request: &RequestId, origin: &Origin) -> bool {
        let (Some(_), Some(attempt)) = (&origin.key, &origin.attempt) else { return false };
        let same = |entry: &&QuestionEntry| matches!(&entry.question.asker, Asker::Agent(known) if known == origin);
        let Some(entry) = self.run.questions.of_call(attempt).rfind(same) else { return false };
        if let QuestionState::Answered { answer, .. } = &entry.state {
            let answer = answer.clone();
            self.order(Command::AnswerElicitation { request: request.clone(), answer });
        } else {
            let question = Arc::clone(&entry.question);
            self.emit(Event::QuestionAskedAgain { question: question.id.clone(), request: request.clone() });
            self.order(Command::Ask { question });
        }
        true
    }

    /// Asks a person what became of a call that must not be made twice.
    pub(super) fn ask_what_became_of(&mut self, attempt: AttemptId, node: NodeIndex) {
        let failure = self.run.tasks[node.index()].last_failure.as_ref();
        let why = failure.map_or_else(|| "the host ended".to_owned(), ToString::to_string);
        self.ask_whether_to_repeat(attempt, &why);
    }

    /// Asks a person whether a call is made, or made again, although it may have taken effect already.
    pub(super) fn ask_whether_to_repeat(&mut self, attempt: AttemptId, why: &str) {
        let message =
            format!("{why}, so it is unknown whether it took effect; calling it again may do `{}` twice", attempt.task);
        self.ask(Asker::Host { attempt }, message, Settlement::form(), None);
    }

    /// Does what a person said of a call that may have taken effect. A repetition is started like any other attempt.
    pub(super) fn settled(&mut self, attempt: AttemptId, answer: &Answer) {
        let Some(node) = self.run.graph.find(attempt.task.as_str()) else { return };
        match Settlement::of(answer) {
            Settlement::Repeat => {}
            Settlement::Done => {
                let outcome = Outcome::Succeeded(Arc::new(ToolOutput::default()));
                self.emit(Event::TaskEnded { task: attempt.task, outcome });
            }
            Settlement::Failed => match &self.run.tasks[node.index()].unsettled {
                None => self.give_up(node),
                Some(reason) => {
                    let failure = Failure::new(FailureKind::Interrupted, &**reason);
                    self.fail(attempt.task, retry::explain(failure, Effect::AtMostOnce, &self.run.graph[node].task.id));
                }
            },
        }
    }

    /// Decides what the earlier process had no time for: what follows from the last answers and failures.
    fn finish_the_last_step(&mut self) {
        let answers = self.run.questions.entries().filter_map(|entry| match &entry.state {
            QuestionState::Answered { answer, by } => Some((entry.question.asker.clone(), answer.clone(), by.clone())),
            QuestionState::Open | QuestionState::LeftOpen => None,
        });
        for (asker, answer, by) in answers.collect::<Vec<_>>() {
            self.follow_answer((asker, None), answer, &by);
        }
        let failures = self.run.tasks.iter().zip(self.run.graph.nodes()).filter_map(|(entry, (_, node))| {
            let failure = entry.last_failure.as_deref().filter(|_| matches!(entry.state, TaskState::Ready))?.clone();
            let attempt = AttemptId { task: node.id.clone(), number: entry.attempts };
            Some((attempt, entry.last_route, failure))
        });
        for (attempt, route, failure) in failures.collect::<Vec<_>>() {
            match route {
                Some(route) => self.follow(attempt, route, failure),
                None => match self.run.graph.find(attempt.task.as_str()) {
                    Some(node) if self.run.tasks[node.index()].conversation.is_some() => self.model_failed(node),
                    _ => self.fail(attempt.task, failure),
                },
            }
        }
    }

    /// Goes on with a call where it is.
    fn take_up(&mut self, attempt: AttemptId) {
        let Some(node) = self.run.current(&attempt) else { return };
        let TaskState::Running { route, .. } = self.run.tasks[node.index()].state else { return };
        let agent = self.run.graph[node].task.routes()[route].agent.clone();
        self.connect(&agent);
        match self.run.start_order(node, route, attempt.clone()) {
            Ok(call) => self.order(Command::TakeUp(call)),
            Err(failure) => self.attempt_ended(attempt, Err(failure)),
        }
    }

    /// Puts a prompt to the model again whose reply never came.
    fn ask_model_again(&mut self, attempt: AttemptId) {
        if let Some(node) = self.run.current(&attempt)
            && self.run.is_turn(&attempt)
            && self.run.stop.is_none()
        {
            // The time without a process does not count.
            let deadline = self.run.graph[node].task.deadline;
            let chat = Box::new(ChatRequest { deadline, ..self.run.chat(node) });
            self.order(Command::AskModel { attempt, chat });
        }
    }

    /// Ends every turn in flight without a reply.
    pub(super) fn end_turns(&mut self) {
        for attempt in self.run.in_flight().filter(|attempt| self.run.is_turn(attempt)).collect::<Vec<_>>() {
            let task = attempt.task.clone();
            let error = ChatError::Endpoint { message: "the run ended before the model replied".into(), status: None };
            self.emit(Event::ModelReplied { attempt, result: Err(error) });
            self.emit(Event::TaskEnded { task, outcome: Outcome::Cancelled });
        }
    }

    /// Asks the planner again whose answer never came, and finishes what a replan began.
    fn go_on_replanning(&mut self) {
        for task in self.run.removed_and_not_ended() {
            self.skip(task, SkipReason::Replanned);
        }
        match &self.run.replans.stage {
            Stage::Over => {}
            // Once the run stops, advancing ends the replan.
            _ if self.run.stop.is_some() => {}
            Stage::Asking(_) => self.order(Command::Replan(Box::new(self.run.replan_request()))),
            Stage::Proposed(_, remainder) => {
                let number = self.run.replans.number;
                let asked = |entry: &QuestionEntry| entry.question.asker == Asker::Replan { number };
                if !self.run.questions.entries().any(asked) {
                    let remainder = Arc::clone(remainder);
                    self.ask_whether_to_take(number, &remainder);
                }
            }
        }
    }

    /// Closes the questions of agents whose calls did not outlive the earlier process.
    fn close_dead_questions(&mut self, taken_up: &[AttemptId]) {
        let lives = |origin: &Origin| {
            origin.key.is_some() && origin.attempt.as_ref().is_some_and(|attempt| taken_up.contains(attempt))
        };
        let questions = self.run.questions.entries();
        let dead = questions.filter(|entry| matches!(&entry.question.asker, Asker::Agent(origin) if !lives(origin)));
        self.close_questions(unclaimed(dead));
    }

    /// Closes the questions that a call had asked when it was taken up, and had not asked again when it ended. Those that
    /// were asked by this process are taken back by the connection that they came on, so no other call leaves any.
    pub(super) fn close_questions_not_asked_again(&mut self, attempt: &AttemptId) {
        self.close_questions(unclaimed(self.run.questions.of_call(attempt)));
    }

    fn close_questions(&mut self, questions: Vec<QuestionId>) {
        for question in questions {
            self.answered(question, Answer::Cancel, "nobody: the call that asked has ended".to_owned());
        }
    }
}

impl State {
    /// Whether the task waits for a person.
    pub(super) fn awaits(&self, task: &TaskId) -> bool {
        let node = self.graph.find(task.as_str());
        node.is_some_and(|node| self.tasks[node.index()].state == TaskState::AwaitingAnswer)
    }
}

/// The questions without an answer for which no request waits, so that nobody else would close them.
fn unclaimed<'q>(questions: impl Iterator<Item = &'q QuestionEntry>) -> Vec<QuestionId> {
    let open = questions.filter(|entry| !matches!(entry.state, QuestionState::Answered { .. }));
    open.filter(|entry| entry.request.is_none()).map(|entry| entry.question.id.clone()).collect()
}
