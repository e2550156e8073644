//! Resumes a run that an earlier process started: interrupts or reattaches calls, repeats model requests, and reopens
//! questions. Does not read checkpoints; it knows only which calls have one.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use crate::model::{
    AgentId, AgentInfo, AmbiguityResolution, Answer, Asker, AttemptId, ChatError, ChatReply, ChatRequest, Command,
    Effect, EndCause, Event, Failure, FailureKind, HumanDuration, Input, NodeIndex, Origin, Outcome, QuestionId,
    RequestId, RunStatus, SamplingOrigin, Timestamp, ToolInfo,
};

use super::retry;
use super::state::agent::ConnectionStatus;
use super::state::health::AgentHealth;
use super::state::questions::{QuestionEntry, QuestionState};
use super::state::run::{Fold, Run};
use super::state::run_state::{ReplanStage, RunStop, State, UnknownName};
use super::state::task::TaskState;
use super::transition::{StepOutput, Transition};

/// The parameters of resuming a run that an earlier process left unfinished.
#[derive(Debug)]
pub struct Resumption {
    /// The fold of the run's events.
    pub run: Run,
    /// The time of the run's last event.
    pub last_event_at: Timestamp,
    /// The checkpoints of calls. Calls with a checkpoint are reattached. The engine does not read a checkpoint.
    pub checkpoints: HashMap<AttemptId, Value>,
    /// True if a person accepted that the tools of agents have changed.
    pub accepts_changes: bool,
    /// Requests from the control queue while no process drove the run: answers and cancellations.
    pub inputs: Vec<Input>,
}

impl Run {
    /// Resumes a run that was folded from its events.
    ///
    /// Calls with a checkpoint are reattached; the table in [`super::retry`] says what follows for the others. Model
    /// requests are repeated, and people are asked their unanswered questions again. For a run that has finally ended,
    /// the output is empty.
    pub fn resume(resumption: Resumption, now: Timestamp) -> (Self, StepOutput) {
        let Resumption { mut run, last_event_at, mut checkpoints, accepts_changes, inputs } = resumption;
        if !run.status.is_unfinished() {
            return (run, StepOutput::default());
        }
        let mut transition = Transition::new(&mut run, now);
        let has_checkpoint = |attempt: &AttemptId| checkpoints.contains_key(attempt);
        let (reattached, interrupted) = transition.run.running_calls().partition::<Vec<_>, _>(has_checkpoint);
        let downtime = HumanDuration(now.since(last_event_at));
        transition.emit(Event::RunResumed { downtime, reattached: reattached.clone(), accepts_changes });
        // Process requests first: answered questions are not asked again, and nothing starts in a cancelled run.
        for input in inputs {
            transition.on_input(input);
        }
        transition.close_orphaned_questions(&reattached);
        for question in transition.run.host_questions() {
            transition.push_command(Command::AskPerson { question });
        }
        transition.finish_last_step();
        for attempt in reattached {
            if let Some(checkpoint) = checkpoints.remove(&attempt) {
                transition.reattach(attempt, checkpoint);
            }
        }
        for attempt in interrupted {
            let failure = transition.run.interruption_failure(&attempt);
            transition.on_attempt_ended(attempt, Err(failure));
        }
        for attempt in transition.run.in_flight().collect::<Vec<_>>() {
            transition.repeat_model_request(attempt);
        }
        transition.resume_saving();
        transition.resume_watches();
        transition.resume_replan();
        if transition.run.stop_reason.is_some() {
            transition.end_model_requests();
            transition.cancel_running();
        }
        transition.advance();
        let step = transition.into_output();
        (run, step)
    }
}

impl Fold<'_> {
    /// Applies that a later process resumed the run.
    pub(super) fn apply_resumed(
        &mut self,
        downtime: HumanDuration,
        reattached: &[AttemptId],
    ) -> Result<(), UnknownName> {
        self.state.status = RunStatus::Running;
        if self.state.stop_reason.take_if(|stop| *stop == RunStop::Interrupted).is_some() {
            self.suspend_finalizing();
        }
        self.state.deadline = self.state.deadline.map(|deadline| deadline.after(downtime.0));
        for conversation in self.state.tasks.iter_mut().filter_map(|entry| entry.conversation.as_mut()) {
            conversation.deadline = conversation.deadline.map(|deadline| deadline.after(downtime.0));
        }
        self.extend_plan_deadlines(downtime.0);
        for (id, agent) in &mut self.state.agents {
            agent.connection = ConnectionStatus::initial(id);
            agent.health = AgentHealth::default();
        }
        self.state.questions.reopen_after_resume();
        self.state.sampling.clear();
        for attempt in reattached {
            let node = self.find_node(&attempt.task)?;
            self.state.tasks[node.index()].is_reattached = true;
        }
        Ok(())
    }
}

impl State {
    /// Returns the model's reply to a sampling request that the agent repeats. The agent may not have received the
    /// reply.
    pub(super) fn earlier_reply(&self, sampler: &SamplingOrigin) -> Option<Result<ChatReply, ChatError>> {
        let SamplingOrigin::Agent(origin) = sampler else { return None };
        let node = self.running_node(origin.attempt.as_ref()?)?;
        self.tasks[node.index()].replies.get(origin.key.as_ref()?).cloned()
    }

    fn is_model_request(&self, attempt: &AttemptId) -> bool {
        self.running_node(attempt).is_some_and(|node| self.tasks[node.index()].state == TaskState::AskingModel)
    }

    /// Returns the tool calls in progress.
    pub(super) fn running_calls(&self) -> impl Iterator<Item = AttemptId> {
        self.in_flight().filter(|attempt| !self.is_model_request(attempt))
    }

    /// Returns the open questions of the plan and of the host itself.
    fn host_questions(&self) -> Vec<Arc<crate::model::Question>> {
        let open = self.questions.entries().filter(|entry| entry.state == QuestionState::Open);
        open.filter(|entry| !matches!(entry.question.asker, Asker::Agent(_)))
            .map(|entry| Arc::clone(&entry.question))
            .collect()
    }

    /// Returns the failure of an attempt that is not reattached.
    fn interruption_failure(&self, attempt: &AttemptId) -> Failure {
        let running = self.running_node(attempt).map(|node| (node, &self.tasks[node.index()].state));
        let call = match running {
            Some((node, &TaskState::Running { route, .. })) => {
                let route = &self.graph[node].task.routes()[route];
                format!("`{}` of agent `{}`", route.tool, route.agent)
            }
            _ => attempt.to_string(),
        };
        Failure::new(FailureKind::Interrupted, format!("the host ended during {call}"))
    }

    /// Returns the tools of `agent` that unfinished tasks call and whose schemas have changed.
    fn changed_tools(&self, agent: &AgentId, info: &AgentInfo) -> Vec<String> {
        let Some(known) = &self.agents[agent].last_info else { return Vec::new() };
        let open = self.tasks.iter().zip(self.graph.nodes()).filter(|(entry, _)| !entry.has_ended());
        let called = open.flat_map(|(_, (_, node))| node.task.routes()).filter(|route| route.agent == *agent);
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

impl Transition<'_> {
    /// Records that an agent is connected. Pauses the run if tools have changed since the run last saw the agent.
    pub(super) fn on_agent_connected(&mut self, agent: AgentId, info: Arc<AgentInfo>) {
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
        self.push_command(Command::EndRun);
    }

    /// Matches a request that an agent repeats with its earlier question. Returns whether there is such a question.
    pub(super) fn match_repeated_question(&mut self, request: &RequestId, origin: &Origin) -> bool {
        let (Some(_), Some(attempt)) = (&origin.key, &origin.attempt) else { return false };
        let same = |entry: &&QuestionEntry| matches!(&entry.question.asker, Asker::Agent(known) if known == origin);
        let Some(entry) = self.run.questions.of_attempt(attempt).rfind(same) else { return false };
        if let QuestionState::Answered { answer, .. } = &entry.state {
            let answer = answer.clone();
            self.push_command(Command::AnswerElicitation { request: request.clone(), answer });
        } else {
            let question = Arc::clone(&entry.question);
            self.emit(Event::QuestionAskedAgain { question: question.id.clone(), request: request.clone() });
            self.push_command(Command::AskPerson { question });
        }
        true
    }

    /// Asks a person whether to make a call that may already have taken effect.
    pub(super) fn ask_whether_to_repeat(&mut self, attempt: AttemptId, reason: &str) {
        let message = format!(
            "{reason}, so it is unknown whether the call took effect; repeating it may run `{}` twice",
            attempt.task
        );
        self.ask_person(Asker::Host { attempt }, message, AmbiguityResolution::form(), None);
    }

    /// Executes a person's decision about a call that may have taken effect. A repetition starts like any other
    /// attempt.
    pub(super) fn on_ambiguity_resolved(&mut self, node: NodeIndex, answer: &Answer) {
        match AmbiguityResolution::from_answer(answer) {
            AmbiguityResolution::Repeat => {}
            AmbiguityResolution::Done => self.end_task(node, Outcome::Succeeded(Arc::default())),
            AmbiguityResolution::Failed => match &self.run.tasks[node.index()].unsettled {
                None => self.fail_with_last_failure(node),
                Some(reason) => {
                    let failure = Failure::new(FailureKind::Interrupted, &**reason);
                    let task = &self.run.graph[node].task.id;
                    self.fail_task(node, retry::explain_failure(failure, Effect::AtMostOnce, task));
                }
            },
        }
    }

    /// Decides what follows from the last answers and failures, in case the earlier process did not.
    fn finish_last_step(&mut self) {
        let answers = self.run.questions.entries().filter_map(|entry| match &entry.state {
            QuestionState::Answered { answer, by } => Some((entry.question.asker.clone(), answer.clone(), by.clone())),
            QuestionState::Open | QuestionState::Deferred => None,
        });
        for (asker, answer, by) in answers.collect::<Vec<_>>() {
            self.execute_answer((asker, None), answer, &by);
        }
        for node in (0..self.run.tasks.len()).map(NodeIndex::new) {
            let entry = &self.run.tasks[node.index()];
            let Some(failure) = entry.last_failure.as_deref().filter(|_| entry.state == TaskState::Ready) else {
                continue;
            };
            match entry.conversation {
                Some(_) => self.on_model_failed(node),
                None => self.on_attempt_failed(node, failure.clone()),
            }
        }
    }

    /// Continues a call that is still in progress.
    fn reattach(&mut self, attempt: AttemptId, checkpoint: Value) {
        let Some(node) = self.run.running_node(&attempt) else { return };
        let TaskState::Running { route, .. } = self.run.tasks[node.index()].state else { return };
        let agent = self.run.graph[node].task.routes()[route].agent.clone();
        self.connect(&agent);
        match self.run.start_command(node, route, attempt.clone()) {
            Ok(call) => self.push_command(Command::Reattach { call: Box::new(call), checkpoint }),
            Err(failure) => self.on_attempt_ended(attempt, Err(failure)),
        }
    }

    /// Repeats a model request that has no reply.
    fn repeat_model_request(&mut self, attempt: AttemptId) {
        if let Some(node) = self.run.running_node(&attempt)
            && self.run.is_model_request(&attempt)
            && !self.run.stops(node)
        {
            // Time without a process does not count.
            let deadline = self.run.graph[node].task.deadline;
            let chat = Box::new(ChatRequest { deadline, ..self.run.current_request(node) });
            self.push_command(Command::RequestModel { attempt, chat });
        }
    }

    /// Ends every model request in progress without a reply.
    pub(super) fn end_model_requests(&mut self) {
        for attempt in self.run.in_flight().filter(|attempt| self.run.is_model_request(attempt)).collect::<Vec<_>>() {
            let Some(node) = self.run.graph.node_index(attempt.task.as_str()) else { continue };
            if self.run.is_in_hook(node) {
                continue;
            }
            let error = ChatError::Endpoint { message: "the run ended before the model replied".into(), status: None };
            self.emit(Event::ModelReplied { attempt, result: Err(error) });
            self.end_task(node, Outcome::Cancelled);
        }
    }

    /// Repeats a planner request that has no reply, and completes the changes of an earlier replan.
    fn resume_replan(&mut self) {
        self.skip_removed_tasks();
        match &self.run.replans.stage {
            ReplanStage::Idle => {}
            // While the run stops, `advance` ends the replan.
            _ if self.run.stop_reason.is_some() => {}
            ReplanStage::Planning(_) => self.push_command(Command::Replan(Box::new(self.run.replan_request()))),
            ReplanStage::Proposed(_, patch) => {
                let number = self.run.replans.started_count;
                let asked = |entry: &QuestionEntry| entry.question.asker == Asker::Replan { number };
                if !self.run.questions.entries().any(asked) {
                    let patch = Arc::clone(patch);
                    self.ask_patch_approval(number, &patch);
                }
            }
        }
    }

    /// Closes the questions of agents whose calls ended with the earlier process.
    fn close_orphaned_questions(&mut self, reattached: &[AttemptId]) {
        let is_reattached = |origin: &Origin| {
            origin.key.is_some() && origin.attempt.as_ref().is_some_and(|attempt| reattached.contains(attempt))
        };
        let orphaned = self
            .run
            .questions
            .entries()
            .filter(|entry| matches!(&entry.question.asker, Asker::Agent(origin) if !is_reattached(origin)));
        self.close_questions(unclaimed_questions(orphaned));
    }

    /// Closes the questions that a reattached call did not ask again before it ended. The connection cancels questions
    /// that were asked in this process, so other calls leave no open questions.
    pub(super) fn close_unrepeated_questions(&mut self, attempt: &AttemptId) {
        self.close_questions(unclaimed_questions(self.run.questions.of_attempt(attempt)));
    }

    fn close_questions(&mut self, questions: Vec<QuestionId>) {
        for question in questions {
            self.on_question_answered(question, Answer::Cancel, "no one: the call that asked has ended".to_owned());
        }
    }
}

/// Returns the unanswered questions that no request waits for, so that only the engine can close them.
fn unclaimed_questions<'q>(questions: impl Iterator<Item = &'q QuestionEntry>) -> Vec<QuestionId> {
    let open = questions.filter(|entry| !entry.is_answered() && entry.request.is_none());
    open.map(|entry| entry.question.id.clone()).collect()
}
