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
    engine::{NewRun, Rerun, RerunError, ResumeContext, Run, StepOutput},
    human::Human,
    journal::{Journal, JournalError},
    llm::Llm,
    model::{
        AttemptId, Command, Event, GoalPlanning, GraphError, IdHashMap, Input, Plan, QuestionId, Record, RunId,
        RunSource, RunStatus, Secrets, TaskId, Timestamp,
    },
    report::Reporter,
};

use super::{Agents, HostReceiver, Replanner, RuntimeHost, clock::RunClock};

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
    pub clock: RunClock,
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
        /// The reason.
        #[source]
        source: JournalError,
    },
}

/// Runs a plan to its end and tells `reporter` of every event once it is durable.
///
/// # Errors
/// When the journal cannot be written. A task that fails is not an error: the run's last event says how it ended.
pub async fn run(
    start: RunStart<'_>,
    services: Services,
    (hub, inbox): (Arc<RuntimeHost>, HostReceiver),
    reporter: &mut dyn Reporter,
) -> Result<(), RuntimeError> {
    let RunStart { plan, inputs, seed, planning, source, .. } = start;
    let (run, step) = Run::start(NewRun { plan, inputs, seed, planning, source }, services.clock.now())?;
    let dispatcher = Dispatcher::new(start.run, run, services, hub);
    dispatcher.run_to_completion(step, inbox, reporter).await
}

/// Does a part of an earlier run again, to its end, and tells `reporter` of every event once it is durable.
///
/// # Errors
/// When the earlier run has no such task, or the journal cannot be written.
pub async fn rerun(
    id: &RunId,
    rerun: Rerun<'_>,
    services: Services,
    (hub, inbox): (Arc<RuntimeHost>, HostReceiver),
    reporter: &mut dyn Reporter,
) -> Result<(), RuntimeError> {
    let (run, step) = Run::rerun(rerun, services.clock.now())?;
    Dispatcher::new(id, run, services, hub).run_to_completion(step, inbox, reporter).await
}

/// Goes on with a run that an earlier process left, to its end; `reporter` is told of what is new.
///
/// # Errors
/// When the journal cannot be written.
pub async fn resume(
    resumption: Resumption<'_>,
    services: Services,
    (hub, inbox): (Arc<RuntimeHost>, HostReceiver),
    reporter: &mut dyn Reporter,
) -> Result<(), RuntimeError> {
    let Resumption { id, mut run, last_event_at: last, checkpoints: notes, accepts_changes, requests } = resumption;
    let noted = |attempt: &AttemptId| notes.contains_key(attempt);
    let now = services.clock.now();
    let step = run.resume(ResumeContext {
        now,
        last_event_at: last,
        has_checkpoint: &noted,
        accepts_changes,
        inputs: &requests,
    });
    let dispatcher = Dispatcher { notes, ..Dispatcher::new(id, run, services, hub) };
    dispatcher.run_to_completion(step, inbox, reporter).await
}

/// Ends a run that no process drives as cancelled, asked for by `by`. Returns false, and changes nothing, where calls go on at agents,
/// which only a process that drives the run can cancel.
///
/// # Errors
/// When the journal cannot be written.
pub async fn cancel(resumption: Resumption<'_>, by: String, journal: &dyn Journal) -> Result<bool, RuntimeError> {
    let Resumption { id, mut run, last_event_at: last, checkpoints: notes, .. } = resumption;
    let noted = |attempt: &AttemptId| notes.contains_key(attempt);
    let now = RunClock::start_no_earlier_than(last).now();
    let requests = [Input::CancelRequested { by }];
    let step = run.resume(ResumeContext {
        now,
        last_event_at: last,
        has_checkpoint: &noted,
        accepts_changes: false,
        inputs: &requests,
    });
    if run.status().is_unfinished() {
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
    pub last_event_at: Timestamp,
    /// The notes by which calls can be found again.
    pub checkpoints: HashMap<AttemptId, Value>,
    /// True if a person accepted that agents' tools are not what they were.
    pub accepts_changes: bool,
    /// What was asked of it while nobody drove it.
    pub requests: Vec<Input>,
}

/// What a new run begins with.
#[derive(Debug, Clone, Copy)]
pub struct RunStart<'a> {
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
    pub source: Option<&'a Arc<RunSource>>,
}

/// Most steps on their way to the disk. A journal that stalls makes the dispatcher wait before it takes in more, so the
/// bounded inbox makes everybody else wait; far fewer than the journal's own queue holds.
const MAX_PENDING_COMMITS: usize = 64;

/// The state of a run that is driven; `effects` carries out what it orders.
pub(super) struct Dispatcher {
    pub(super) id: RunId,
    pub(super) run: Run,
    pub(super) host: Arc<RuntimeHost>,
    pub(super) services: Services,
    /// Steps on their way to the disk, in order, at most [`MAX_PENDING_COMMITS`]. Decisions go on meanwhile; the journal commits
    /// what has gathered in one transaction.
    pending_commits: FuturesOrdered<BoxFuture<'static, Result<CommittedStep, JournalError>>>,
    /// Durable facts that the reporter has not been told: at most those of the last step. What follows from them is
    /// under way before they are shown.
    unreported: Option<Arc<[Record]>>,
    /// Calls under way, as many as the plan lets run at once. The loop drives them itself, so that it takes all that
    /// have ended at once; each gives its end.
    pub(super) calls: FuturesUnordered<BoxFuture<'static, Input>>,
    /// Connections, questions and model requests under way.
    pub(super) effects: JoinSet<()>,
    /// The task whose text is told while it is written.
    pub(super) synthesis: Option<TaskId>,
    pub(super) attempt_tokens: IdHashMap<AttemptId, CancellationToken>,
    /// Questions that somebody here is asked; each fires when it is answered, here or elsewhere.
    pub(super) open_questions: HashMap<QuestionId, CancellationToken>,
    /// What an earlier process noted of calls that were under way; each is used once.
    pub(super) notes: HashMap<AttemptId, Value>,
    /// Ends the last replan.
    pub(super) replan_token: CancellationToken,
}

/// A step whose facts are durable.
struct CommittedStep {
    records: Arc<[Record]>,
    commands: Vec<Command>,
}

/// What the loop has taken and not decided on: what others sent, and the ends of calls.
#[derive(Default)]
struct PendingInputs {
    inputs: Vec<Input>,
    call_ends: Vec<Input>,
}

/// What the loop woke up for.
enum Wakeup {
    Input(Input),
    CallEnded(Input),
    TimerElapsed,
    HostChanged,
    Idle,
    Committed(Result<CommittedStep, JournalError>),
    JournalFailed(JournalError),
}

impl Dispatcher {
    fn new(id: &RunId, run: Run, services: Services, hub: Arc<RuntimeHost>) -> Self {
        Self {
            id: id.clone(),
            synthesis: run.plan().synthesis().map(|task| task.id.clone()),
            run,
            host: hub,
            services,
            pending_commits: FuturesOrdered::new(),
            unreported: None,
            calls: FuturesUnordered::new(),
            effects: JoinSet::new(),
            attempt_tokens: IdHashMap::default(),
            replan_token: CancellationToken::new(),
            open_questions: HashMap::new(),
            notes: HashMap::new(),
        }
    }

    async fn run_to_completion(
        mut self,
        step: StepOutput,
        inbox: HostReceiver,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RuntimeError> {
        self.commit(step);
        let end = self.run_loop(inbox, reporter).await;
        self.report_pending(reporter);
        // A run that can be resumed may still have calls under way elsewhere. They are left before anything here ends:
        // a call that is given up takes its questions back, and an agent that is told so acts on it.
        let is_left = end.is_err() || matches!(self.run.status(), RunStatus::Paused | RunStatus::Interrupted);
        if is_left {
            self.suspend_agents().await;
        }
        self.calls.clear();
        self.effects.shutdown().await;
        if !is_left {
            self.services.agents.close().await;
        }
        end
    }

    /// Leaves the agents. Calls go on meanwhile: one that is about to connect would keep others from ending.
    async fn suspend_agents(&mut self) {
        let agents = Arc::clone(&self.services.agents);
        let mut left = std::pin::pin!(agents.leave());
        loop {
            tokio::select! {
                () = &mut left => return,
                Some(_) = self.calls.next() => {}
            }
        }
    }

    async fn run_loop(&mut self, mut inbox: HostReceiver, reporter: &mut dyn Reporter) -> Result<(), RuntimeError> {
        loop {
            while self.effects.try_join_next().is_some() {}
            let wake = self.run.next_wakeup().map(|moment| self.services.clock.instant_at(moment));
            let room = self.pending_commits.len() < MAX_PENDING_COMMITS;
            let woken = tokio::select! {
                Some(done) = self.pending_commits.next(), if !self.pending_commits.is_empty() => Wakeup::Committed(done),
                Some(source) = inbox.journal_errors.recv() => Wakeup::JournalFailed(source),
                Some(input) = inbox.inputs.recv(), if room => Wakeup::Input(input),
                Some(end) = self.calls.next(), if room => Wakeup::CallEnded(end),
                () = self.host.changed(), if room => Wakeup::HostChanged,
                () = sleep_until(wake), if room => Wakeup::TimerElapsed,
                () = tokio::task::yield_now(), if self.unreported.is_some() => Wakeup::Idle,
            };
            let mut waiting = PendingInputs::default();
            match woken {
                Wakeup::Committed(done) => {
                    let done = done.map_err(|source| RuntimeError::Journal { run: self.id.clone(), source })?;
                    match self.on_committed(done, reporter) {
                        ControlFlow::Continue(()) => continue,
                        ControlFlow::Break(()) => return Ok(()),
                    }
                }
                Wakeup::Idle => {
                    self.report_pending(reporter);
                    continue;
                }
                Wakeup::JournalFailed(source) => return Err(RuntimeError::Journal { run: self.id.clone(), source }),
                Wakeup::Input(input) => waiting.inputs.push(input),
                Wakeup::CallEnded(end) => waiting.call_ends.push(end),
                Wakeup::TimerElapsed => waiting.inputs.push(Input::TimeReached),
                Wakeup::HostChanged => {}
            }
            let mut inputs = self.collect_inputs(waiting, &mut inbox, reporter);
            inputs.iter_mut().for_each(|input| self.services.secrets.mask_input(input));
            let step = self.run.handle(inputs, self.services.clock.now());
            self.commit(step);
        }
    }

    /// Does what follows from a step that is durable now; breaks off after the last one.
    fn on_committed(&mut self, done: CommittedStep, reporter: &mut dyn Reporter) -> ControlFlow<()> {
        let CommittedStep { records, commands } = done;
        self.report_pending(reporter);
        self.withdraw_answered_questions(&records);
        self.unreported = Some(records);
        // A person who is asked has seen what led to it.
        if commands.iter().any(|command| matches!(command, Command::AskPerson { .. })) {
            self.report_pending(reporter);
        }
        for command in commands {
            if command == Command::EndRun {
                return ControlFlow::Break(());
            }
            self.execute(command);
        }
        ControlFlow::Continue(())
    }

    /// Takes everything else that waits, so that it is decided and made durable together. Text, progress and whatever
    /// else is of a call or a turn come before its end.
    fn collect_inputs(
        &mut self,
        pending: PendingInputs,
        inbox: &mut HostReceiver,
        reporter: &mut dyn Reporter,
    ) -> Vec<Input> {
        let PendingInputs { inputs: mut others, call_ends: mut ends } = pending;
        while let Some(Some(end)) = self.calls.next().now_or_never() {
            ends.push(end);
        }
        while let Ok(input) = inbox.inputs.try_recv() {
            others.push(input);
        }
        let written = self.host.drain_deltas();
        if !written.is_empty() {
            self.report_pending(reporter);
        }
        for (turn, text) in written {
            reporter.report_delta(&turn, &text);
        }
        let progress = self.host.drain_progress();
        let progress = progress.into_iter().map(|(attempt, progress)| Input::AttemptProgressed { attempt, progress });
        let inputs: Vec<Input> = progress.chain(others).chain(ends).collect();
        for input in &inputs {
            if let Input::AttemptEnded { attempt, .. } | Input::ModelReplied { attempt, .. } = input {
                self.attempt_tokens.remove(attempt);
            }
        }
        inputs
    }

    /// Tells the reporter what it has not been told.
    fn report_pending(&mut self, reporter: &mut dyn Reporter) {
        if let Some(records) = self.unreported.take() {
            reporter.report(&records);
        }
    }

    fn commit(&mut self, step: StepOutput) {
        if step.records.is_empty() && step.commands.is_empty() {
            return;
        }
        let records: Arc<[Record]> = step.records.into();
        let durable = self.services.journal.append(&self.id, Arc::clone(&records));
        let commands = step.commands;
        self.pending_commits.push_back(durable.map(|done| done.map(|()| CommittedStep { records, commands })).boxed());
    }

    /// Stops asking here what was answered, wherever that was.
    fn withdraw_answered_questions(&mut self, records: &[Record]) {
        for record in records {
            if let Event::QuestionAnswered { question, .. } = &record.event
                && let Some(answered) = self.open_questions.remove(question)
            {
                answered.cancel();
            }
        }
    }
}

async fn sleep_until(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
