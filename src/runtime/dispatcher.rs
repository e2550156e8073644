//! The one loop that drives a run: observe, decide, make durable, report, carry out.
//! Never decides: `engine` does.

use std::{collections::HashMap, future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Beginning, Recovery, Rerun, RerunError, Run, Step},
    human::{Human, Reply},
    journal::{Journal, JournalError},
    llm::{Hear, Llm},
    model::{
        Answer, AttemptId, ChatError, ChatReply, ChatRequest, Command, Event, Failure, FailureKind, GoalPlanning,
        GraphError, Input, Plan, Question, QuestionId, Record, RunId, RunStatus, Source, StartAttempt, TaskId,
        Timestamp,
    },
    report::Reporter,
};

use super::{Agents, Hub, Inbox, Replanner, call_meta, clock::Clock, replanner};

/// What a run works with.
pub struct Services {
    /// Where events are kept.
    pub journal: Arc<dyn Journal>,
    /// The agents.
    pub agents: Arc<dyn Agents>,
    /// The language model, if one is configured.
    pub llm: Option<Arc<dyn Llm>>,
    /// Who plans anew what is left of a run, if anybody does.
    pub replanner: Option<Arc<dyn Replanner>>,
    /// Who answers questions.
    pub human: Arc<dyn Human>,
}

/// Why a run could not be driven to its end. What is in the journal is kept.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The plan is no graph.
    #[error("the plan is not valid: {0}")]
    Plan(#[from] GraphError),
    /// Nothing of the earlier run can be done again.
    #[error(transparent)]
    Rerun(#[from] RerunError),
    /// An event could not be made durable, so nothing that follows from it was done.
    #[error("run `{run}` stopped: its journal cannot be written")]
    Journal {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: JournalError,
    },
}

/// Runs a plan to its end and tells `reporter` of every event once it is durable.
///
/// # Errors
/// When the journal cannot be written. A task that fails is not an error: the run's last event says how it ended.
pub async fn run(
    start: Start<'_>,
    services: Services,
    (hub, inbox): (Arc<Hub>, Inbox),
    reporter: &mut dyn Reporter,
) -> Result<(), RuntimeError> {
    let clock = Clock::start();
    let Start { plan, inputs, seed, planning, source, .. } = start;
    let (run, step) = Run::start(Beginning { plan, inputs, seed, planning, source }, clock.now())?;
    let dispatcher = Dispatcher::new(start.run, run, clock, (services, hub));
    dispatcher.carry_to_its_end(step, inbox, reporter).await
}

/// Does a part of an earlier run again, to its end, and tells `reporter` of every event once it is durable.
///
/// # Errors
/// When the earlier run has no such task, or the journal cannot be written.
pub async fn rerun(
    id: &RunId,
    rerun: Rerun<'_>,
    services: Services,
    (hub, inbox): (Arc<Hub>, Inbox),
    reporter: &mut dyn Reporter,
) -> Result<(), RuntimeError> {
    let clock = Clock::start();
    let (run, step) = Run::rerun(rerun, clock.now())?;
    Dispatcher::new(id, run, clock, (services, hub)).carry_to_its_end(step, inbox, reporter).await
}

/// Goes on with a run that an earlier process left, to its end; `reporter` is told of what is new.
///
/// # Errors
/// When the journal cannot be written.
pub async fn resume(
    resumption: Resumption<'_>,
    services: Services,
    (hub, inbox): (Arc<Hub>, Inbox),
    reporter: &mut dyn Reporter,
) -> Result<(), RuntimeError> {
    let Resumption { id, mut run, last, notes, accepts_changes, requests } = resumption;
    let clock = Clock::start();
    let noted = |attempt: &AttemptId| notes.contains_key(attempt);
    let now = clock.now();
    let step = run.recover(Recovery { now, last, noted: &noted, accepts_changes, requests: &requests });
    let dispatcher = Dispatcher { notes, ..Dispatcher::new(id, run, clock, (services, hub)) };
    dispatcher.carry_to_its_end(step, inbox, reporter).await
}

/// What is known of a run that an earlier process left.
#[derive(Debug)]
pub struct Resumption<'a> {
    /// Its id.
    pub id: &'a RunId,
    /// The fold of its events. It has not ended for good.
    pub run: Run,
    /// When its last event was decided.
    pub last: Timestamp,
    /// The notes by which calls can be found again.
    pub notes: HashMap<AttemptId, Value>,
    /// Whether a person accepted that agents' tools are not what they were.
    pub accepts_changes: bool,
    /// What was asked of it while nobody drove it.
    pub requests: Vec<Input>,
}

/// What a new run begins with.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Its id.
    pub run: &'a RunId,
    /// The plan.
    pub plan: &'a Arc<Plan>,
    /// The inputs, defaults filled in: a JSON object.
    pub inputs: &'a Arc<serde_json::Value>,
    /// The seed of its delays.
    pub seed: u64,
    /// How the plan was made, if that was for a goal of this run.
    pub planning: Option<&'a GoalPlanning>,
    /// The files that it comes from, where it comes from files.
    pub source: Option<&'a Arc<Source>>,
}

/// Most steps on their way to the disk. A journal that stalls makes the dispatcher wait before it takes in more, so the
/// bounded inbox makes everybody else wait; far fewer than the journal's own queue holds.
const COMMITS: usize = 64;

struct Dispatcher {
    id: RunId,
    run: Run,
    clock: Clock,
    hub: Arc<Hub>,
    services: Services,
    /// Steps on their way to the disk, in order, at most [`COMMITS`]. Decisions go on meanwhile; the journal commits
    /// what has gathered in one transaction.
    commits: FuturesOrdered<BoxFuture<'static, Result<Committed, JournalError>>>,
    /// Connections, calls, questions and model requests under way.
    effects: JoinSet<()>,
    /// The task whose text is told while it is written.
    synthesis: Option<TaskId>,
    attempts: HashMap<AttemptId, CancellationToken>,
    /// Questions that somebody here is asked; each fires when it is answered, here or elsewhere.
    asked: HashMap<QuestionId, CancellationToken>,
    /// What an earlier process noted of calls that were under way; each is used once.
    notes: HashMap<AttemptId, Value>,
    /// Ends the last replan.
    replan: CancellationToken,
}

/// A step whose facts are durable.
struct Committed {
    records: Arc<[Record]>,
    commands: Vec<Command>,
}

/// What the loop woke up for.
enum Woken {
    Input(Input),
    Time,
    Growth,
    Committed(Result<Committed, JournalError>),
    Failed(JournalError),
}

impl Dispatcher {
    fn new(id: &RunId, run: Run, clock: Clock, (services, hub): (Services, Arc<Hub>)) -> Self {
        Self {
            id: id.clone(),
            synthesis: run.plan().synthesis().map(|task| task.id.clone()),
            run,
            clock,
            hub,
            services,
            commits: FuturesOrdered::new(),
            effects: JoinSet::new(),
            attempts: HashMap::new(),
            replan: CancellationToken::new(),
            asked: HashMap::new(),
            notes: HashMap::new(),
        }
    }

    async fn carry_to_its_end(
        mut self,
        step: Step,
        inbox: Inbox,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RuntimeError> {
        self.commit(step);
        let end = self.drive(inbox, reporter).await;
        // A run that can be resumed may still have calls under way elsewhere. They are left before anything here ends:
        // a call that is given up takes its questions back, and an agent that is told so acts on it.
        let is_left = end.is_err() || self.run.status() == RunStatus::Paused;
        if is_left {
            self.services.agents.leave().await;
        }
        self.effects.shutdown().await;
        if !is_left {
            self.services.agents.close().await;
        }
        end
    }

    async fn drive(&mut self, mut inbox: Inbox, reporter: &mut dyn Reporter) -> Result<(), RuntimeError> {
        loop {
            while self.effects.try_join_next().is_some() {}
            let wake = self.run.next_wake().map(|moment| self.clock.instant(moment));
            let room = self.commits.len() < COMMITS;
            let woken = tokio::select! {
                Some(done) = self.commits.next(), if !self.commits.is_empty() => Woken::Committed(done),
                Some(source) = inbox.failures.recv() => Woken::Failed(source),
                Some(input) = inbox.inputs.recv(), if room => Woken::Input(input),
                () = self.hub.growth(), if room => Woken::Growth,
                () = sleep_until(wake), if room => Woken::Time,
            };
            let mut inputs = Vec::new();
            match woken {
                Woken::Committed(done) => {
                    let done = done.map_err(|source| RuntimeError::Journal { run: self.id.clone(), source })?;
                    self.withdraw_what_is_answered(&done.records);
                    reporter.report(&done.records);
                    for command in done.commands {
                        if command == Command::EndRun {
                            return Ok(());
                        }
                        self.carry_out(command);
                    }
                    continue;
                }
                Woken::Failed(source) => return Err(RuntimeError::Journal { run: self.id.clone(), source }),
                Woken::Input(input) => inputs.push(input),
                Woken::Time => inputs.push(Input::TimeReached),
                Woken::Growth => {}
            }
            // Text and progress come before the ends of the turns and calls that they belong to.
            for (turn, text) in self.hub.take_written() {
                reporter.hear(&turn, &text);
            }
            let progress = self.hub.take_progress();
            let progress =
                progress.into_iter().map(|(attempt, progress)| Input::AttemptProgressed { attempt, progress });
            inputs.splice(0..0, progress);
            while let Ok(input) = inbox.inputs.try_recv() {
                inputs.push(input);
            }
            for input in &inputs {
                if let Input::AttemptEnded { attempt, .. } | Input::ModelReplied { attempt, .. } = input {
                    self.attempts.remove(attempt);
                }
            }
            let step = self.run.handle(inputs, self.clock.now());
            self.commit(step);
        }
    }

    fn commit(&mut self, step: Step) {
        if step.records.is_empty() && step.commands.is_empty() {
            return;
        }
        let records: Arc<[Record]> = step.records.into();
        let durable = self.services.journal.append(&self.id, Arc::clone(&records));
        let commands = step.commands;
        self.commits.push_back(durable.map(|done| done.map(|()| Committed { records, commands })).boxed());
    }

    fn carry_out(&mut self, command: Command) {
        let hub = Arc::clone(&self.hub);
        match command {
            Command::ConnectAgent { agent } => {
                let agents = Arc::clone(&self.services.agents);
                self.spawn(async move {
                    let input = match agents.connect(&agent).await {
                        Ok(info) => Input::AgentConnected { agent, info },
                        Err(failure) => Input::AgentUnavailable { agent, failure },
                    };
                    hub.send(input).await;
                });
            }
            Command::StartAttempt(call) => self.start_attempt(call, None),
            Command::TakeUp(call) => {
                let note = self.notes.remove(&call.attempt);
                self.start_attempt(call, note);
            }
            Command::AskModel { attempt, chat } => {
                let cancel = CancellationToken::new();
                self.attempts.insert(attempt.clone(), cancel.clone());
                let llm = self.services.llm.clone();
                let is_synthesis = self.synthesis.as_ref() == Some(&attempt.task);
                self.spawn(async move {
                    let hear = |piece: &str| {
                        if is_synthesis {
                            hub.wrote(&attempt, piece);
                        }
                    };
                    let result = tokio::select! {
                        result = ask(llm, &chat, &hear) => result,
                        () = cancel.cancelled() => Err(failed_chat("the run was cancelled")),
                    };
                    hub.send(Input::ModelReplied { attempt, result }).await;
                });
            }
            Command::CancelAttempt { attempt } => {
                if let Some(cancel) = self.attempts.get(&attempt) {
                    cancel.cancel();
                }
            }
            Command::ContinueRound { attempt, round } => hub.continue_round(attempt, round),
            Command::Replan(request) => {
                self.replan = CancellationToken::new();
                let replanner = self.services.replanner.clone();
                self.spawn(replanner::replan(replanner, *request, hub, self.replan.clone()));
            }
            Command::CancelReplan => self.replan.cancel(),
            Command::Ask { question } => self.ask(question),
            Command::AnswerElicitation { request, answer } => hub.answer_elicitation(&request, answer),
            Command::Sample { request, chat } => {
                let llm = self.services.llm.clone();
                self.spawn(async move {
                    let withdrawn = hub.withdrawal(&request);
                    let result = tokio::select! {
                        result = ask(llm, &chat, &|_| {}) => result,
                        () = withdrawn.cancelled() => Err(failed_chat("the agent stopped waiting for the model")),
                    };
                    hub.send(Input::SamplingEnded { request, result }).await;
                });
            }
            Command::AnswerSampling { request, result } => hub.answer_sampling(&request, result),
            Command::EndRun => unreachable!("the loop ends before"),
        }
    }

    /// Makes a call, or goes on with it by the note of an earlier process.
    fn start_attempt(&mut self, call: StartAttempt, note: Option<Value>) {
        let cancel = CancellationToken::new();
        self.attempts.insert(call.attempt.clone(), cancel.clone());
        let (agents, hub) = (Arc::clone(&self.services.agents), Arc::clone(&self.hub));
        let meta = call_meta(&self.id, &call.attempt);
        self.spawn(async move {
            let attempt = call.attempt.clone();
            // A defect of ours in one call must not take the other tasks along.
            let work = async {
                match note {
                    None => agents.call(call, meta, cancel).await,
                    Some(note) => agents.take_up(call, note, meta, cancel).await,
                }
            };
            let result = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
                Err(Failure::new(FailureKind::ConnectionLost, "the host failed while it made the call (a defect)"))
            });
            hub.send(Input::AttemptEnded { attempt, result }).await;
        });
    }

    fn ask(&mut self, question: Arc<Question>) {
        let (human, hub) = (Arc::clone(&self.services.human), Arc::clone(&self.hub));
        let withdrawn = match self.run.request_of(&question.id) {
            Some(request) => self.hub.withdrawal(request),
            None => CancellationToken::new(),
        };
        let answered = CancellationToken::new();
        if let Some(before) = self.asked.insert(question.id.clone(), answered.clone()) {
            before.cancel();
        }
        self.spawn(async move {
            let reply = tokio::select! {
                reply = human.ask(&question) => reply,
                () = answered.cancelled() => return,
                () = withdrawn.cancelled() => {
                    Reply::Answered { answer: Answer::Cancel, by: "the agent, which stopped waiting".into() }
                }
            };
            let question = question.id.clone();
            hub.send(match reply {
                Reply::Answered { answer, by } => Input::QuestionAnswered { question, answer, by },
                Reply::LeftOpen { reason } => Input::QuestionLeftOpen { question, reason },
            })
            .await;
        });
    }

    /// Stops asking here what was answered, wherever that was.
    fn withdraw_what_is_answered(&mut self, records: &[Record]) {
        for record in records {
            if let Event::QuestionAnswered { question, .. } = &record.event
                && let Some(answered) = self.asked.remove(question)
            {
                answered.cancel();
            }
        }
    }

    fn spawn(&mut self, effect: impl Future<Output = ()> + Send + 'static) {
        self.effects.spawn(effect);
    }
}

async fn ask(llm: Option<Arc<dyn Llm>>, chat: &ChatRequest, hear: Hear<'_>) -> Result<ChatReply, ChatError> {
    match llm {
        Some(llm) => llm.chat_aloud(chat, hear).await,
        None => Err(ChatError::Unsupported { message: "no language model is configured".into() }),
    }
}

fn failed_chat(message: &str) -> ChatError {
    ChatError::Endpoint { message: message.into(), status: None }
}

async fn sleep_until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
