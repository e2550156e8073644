//! The one loop that drives a run: observe, decide, make durable, report, carry out.
//! Never decides: `engine` does.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Beginning, Recovery, Rerun, RerunError, Run, Step},
    human::Human,
    journal::{Journal, JournalError},
    llm::Llm,
    model::{
        AttemptId, Command, Event, GoalPlanning, GraphError, IdHashMap, Input, Plan, QuestionId, Record, RunId,
        RunStatus, Secrets, Source, TaskId, Timestamp,
    },
    report::Reporter,
};

use super::{Agents, Hub, Inbox, Replanner, clock::Clock};

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
    /// What is masked in everything that agents send.
    pub secrets: Secrets,
    /// The time of the run.
    pub clock: Clock,
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
    let Start { plan, inputs, seed, planning, source, .. } = start;
    let (run, step) = Run::start(Beginning { plan, inputs, seed, planning, source }, services.clock.now())?;
    let dispatcher = Dispatcher::new(start.run, run, services, hub);
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
    let (run, step) = Run::rerun(rerun, services.clock.now())?;
    Dispatcher::new(id, run, services, hub).carry_to_its_end(step, inbox, reporter).await
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
    let noted = |attempt: &AttemptId| notes.contains_key(attempt);
    let now = services.clock.now();
    let step = run.recover(Recovery { now, last, noted: &noted, accepts_changes, requests: &requests });
    let dispatcher = Dispatcher { notes, ..Dispatcher::new(id, run, services, hub) };
    dispatcher.carry_to_its_end(step, inbox, reporter).await
}

/// Ends a run that no process drives as cancelled, asked for by `by`. Returns false, and changes nothing, where calls go on at agents,
/// which only a process that drives the run can cancel.
///
/// # Errors
/// When the journal cannot be written.
pub async fn cancel(resumption: Resumption<'_>, by: String, journal: &dyn Journal) -> Result<bool, RuntimeError> {
    let Resumption { id, mut run, last, notes, .. } = resumption;
    let noted = |attempt: &AttemptId| notes.contains_key(attempt);
    let now = Clock::start_after(last).now();
    let requests = [Input::CancelRequested { by }];
    let step = run.recover(Recovery { now, last, noted: &noted, accepts_changes: false, requests: &requests });
    if run.status().is_open() {
        return Ok(false);
    }
    let appended = journal.append(id, step.records.into()).await;
    appended.map_err(|source| RuntimeError::Journal { run: id.clone(), source })?;
    Ok(true)
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

/// The state of a run that is driven; [`super::orders`] carries out what it orders.
pub(super) struct Dispatcher {
    pub(super) id: RunId,
    pub(super) run: Run,
    pub(super) hub: Arc<Hub>,
    pub(super) services: Services,
    /// Steps on their way to the disk, in order, at most [`COMMITS`]. Decisions go on meanwhile; the journal commits
    /// what has gathered in one transaction.
    commits: FuturesOrdered<BoxFuture<'static, Result<Committed, JournalError>>>,
    /// Durable facts that the reporter has not been told: at most those of the last step. What follows from them is
    /// under way before they are shown.
    untold: Option<Arc<[Record]>>,
    /// Calls under way, as many as the plan lets run at once. The loop drives them itself, so that it takes all that
    /// have ended at once; each gives its end.
    pub(super) calls: FuturesUnordered<BoxFuture<'static, Input>>,
    /// Connections, questions and model requests under way.
    pub(super) effects: JoinSet<()>,
    /// The task whose text is told while it is written.
    pub(super) synthesis: Option<TaskId>,
    pub(super) attempts: IdHashMap<AttemptId, CancellationToken>,
    /// Questions that somebody here is asked; each fires when it is answered, here or elsewhere.
    pub(super) asked: HashMap<QuestionId, CancellationToken>,
    /// What an earlier process noted of calls that were under way; each is used once.
    pub(super) notes: HashMap<AttemptId, Value>,
    /// Ends the last replan.
    pub(super) replan: CancellationToken,
}

/// A step whose facts are durable.
struct Committed {
    records: Arc<[Record]>,
    commands: Vec<Command>,
}

/// What the loop has taken and not decided on: what others sent, and the ends of calls.
#[derive(Default)]
struct Waiting {
    inputs: Vec<Input>,
    ends: Vec<Input>,
}

/// What the loop woke up for.
enum Woken {
    Input(Input),
    Ended(Input),
    Time,
    Growth,
    Idle,
    Committed(Result<Committed, JournalError>),
    Failed(JournalError),
}

impl Dispatcher {
    fn new(id: &RunId, run: Run, services: Services, hub: Arc<Hub>) -> Self {
        Self {
            id: id.clone(),
            synthesis: run.plan().synthesis().map(|task| task.id.clone()),
            run,
            hub,
            services,
            commits: FuturesOrdered::new(),
            untold: None,
            calls: FuturesUnordered::new(),
            effects: JoinSet::new(),
            attempts: IdHashMap::default(),
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
        self.tell(reporter);
        // A run that can be resumed may still have calls under way elsewhere. They are left before anything here ends:
        // a call that is given up takes its questions back, and an agent that is told so acts on it.
        let is_left = end.is_err() || matches!(self.run.status(), RunStatus::Paused | RunStatus::Interrupted);
        if is_left {
            self.leave().await;
        }
        self.calls.clear();
        self.effects.shutdown().await;
        if !is_left {
            self.services.agents.close().await;
        }
        end
    }

    /// Leaves the agents. Calls go on meanwhile: one that is about to connect would keep others from ending.
    async fn leave(&mut self) {
        let agents = Arc::clone(&self.services.agents);
        let mut left = std::pin::pin!(agents.leave());
        loop {
            tokio::select! {
                () = &mut left => return,
                Some(_) = self.calls.next() => {}
            }
        }
    }

    async fn drive(&mut self, mut inbox: Inbox, reporter: &mut dyn Reporter) -> Result<(), RuntimeError> {
        loop {
            while self.effects.try_join_next().is_some() {}
            let wake = self.run.next_wake().map(|moment| self.services.clock.instant(moment));
            let room = self.commits.len() < COMMITS;
            let woken = tokio::select! {
                Some(done) = self.commits.next(), if !self.commits.is_empty() => Woken::Committed(done),
                Some(source) = inbox.failures.recv() => Woken::Failed(source),
                Some(input) = inbox.inputs.recv(), if room => Woken::Input(input),
                Some(end) = self.calls.next(), if room => Woken::Ended(end),
                () = self.hub.growth(), if room => Woken::Growth,
                () = sleep_until(wake), if room => Woken::Time,
                () = tokio::task::yield_now(), if self.untold.is_some() => Woken::Idle,
            };
            let mut waiting = Waiting::default();
            match woken {
                Woken::Committed(done) => {
                    let done = done.map_err(|source| RuntimeError::Journal { run: self.id.clone(), source })?;
                    match self.follow(done, reporter) {
                        ControlFlow::Continue(()) => continue,
                        ControlFlow::Break(()) => return Ok(()),
                    }
                }
                Woken::Idle => {
                    self.tell(reporter);
                    continue;
                }
                Woken::Failed(source) => return Err(RuntimeError::Journal { run: self.id.clone(), source }),
                Woken::Input(input) => waiting.inputs.push(input),
                Woken::Ended(end) => waiting.ends.push(end),
                Woken::Time => waiting.inputs.push(Input::TimeReached),
                Woken::Growth => {}
            }
            let mut inputs = self.take_all(waiting, &mut inbox, reporter);
            inputs.iter_mut().for_each(|input| self.services.secrets.mask_input(input));
            let step = self.run.handle(inputs, self.services.clock.now());
            self.commit(step);
        }
    }

    /// Does what follows from a step that is durable now; breaks off after the last one.
    fn follow(&mut self, done: Committed, reporter: &mut dyn Reporter) -> ControlFlow<()> {
        let Committed { records, commands } = done;
        self.tell(reporter);
        self.withdraw_what_is_answered(&records);
        self.untold = Some(records);
        // A person who is asked has seen what led to it.
        if commands.iter().any(|command| matches!(command, Command::Ask { .. })) {
            self.tell(reporter);
        }
        for command in commands {
            if command == Command::EndRun {
                return ControlFlow::Break(());
            }
            self.carry_out(command);
        }
        ControlFlow::Continue(())
    }

    /// Takes everything else that waits, so that it is decided and made durable together. Text, progress and whatever
    /// else is of a call or a turn come before its end.
    fn take_all(&mut self, waiting: Waiting, inbox: &mut Inbox, reporter: &mut dyn Reporter) -> Vec<Input> {
        let Waiting { inputs: mut others, mut ends } = waiting;
        while let Some(Some(end)) = self.calls.next().now_or_never() {
            ends.push(end);
        }
        while let Ok(input) = inbox.inputs.try_recv() {
            others.push(input);
        }
        let written = self.hub.take_written();
        if !written.is_empty() {
            self.tell(reporter);
        }
        for (turn, text) in written {
            reporter.hear(&turn, &text);
        }
        let progress = self.hub.take_progress();
        let progress = progress.into_iter().map(|(attempt, progress)| Input::AttemptProgressed { attempt, progress });
        let inputs: Vec<Input> = progress.chain(others).chain(ends).collect();
        for input in &inputs {
            if let Input::AttemptEnded { attempt, .. } | Input::ModelReplied { attempt, .. } = input {
                self.attempts.remove(attempt);
            }
        }
        inputs
    }

    /// Tells the reporter what it has not been told.
    fn tell(&mut self, reporter: &mut dyn Reporter) {
        if let Some(records) = self.untold.take() {
            reporter.report(&records);
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
}

async fn sleep_until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
