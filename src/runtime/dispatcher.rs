//! The main loop of a run: observe, decide, commit, report, execute. Decisions are made by `engine` only.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use futures::{FutureExt, StreamExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::engine::{RerunError, Resumption, Run, StepOutput};
use crate::journal::{JournalError, JournalWriter};
use crate::llm::Llm;
use crate::mcp::Agents;
use crate::model::{
    AttemptId, Command, Event, GraphError, IdHashMap, Input, QuestionId, Record, RunId, RunStatus, Secrets, TaskId,
    TraceContext,
};
use crate::ui::human::Human;
use crate::ui::reporters::Reporters;

use super::clock::RunClock;
use super::content::{CallCache, ContentStore};
use super::{HostReceiver, Replanner, RuntimeHost};

/// The services of a run.
pub struct Services {
    /// The journal.
    pub journal: Arc<dyn JournalWriter>,
    /// The agents.
    pub agents: Arc<dyn Agents>,
    /// The language model, if one is configured.
    pub llm: Option<Arc<dyn Llm>>,
    /// The planner for replans, if any.
    pub replanner: Option<Arc<dyn Replanner>>,
    /// The person who answers questions.
    pub human: Arc<dyn Human>,
    /// The secrets that are masked in all data from agents.
    pub secrets: Secrets,
    /// The clock of the run.
    pub clock: RunClock,
    /// The trace that the calls of the run belong to.
    pub trace: TraceContext,
    /// The files of the run. Without it, binary contents stay in the events.
    pub content: Option<Arc<ContentStore>>,
    /// The results of earlier calls. Without it, every call is made.
    pub cache: Option<Arc<CallCache>>,
    /// The directory of the plan, to which the paths of watched files are relative.
    pub directory: PathBuf,
}

/// An error that ends the process before the run has ended. The journal keeps the committed events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The plan is not a valid graph.
    #[error("the plan is not valid: {0}")]
    Plan(#[from] GraphError),
    /// The earlier run cannot be repeated.
    #[error(transparent)]
    Rerun(#[from] RerunError),
    /// An event could not be committed, so none of its commands was executed.
    #[error("run `{}` stopped: its journal cannot be written", .run.short())]
    Journal {
        /// The run.
        run: RunId,
        /// The reason.
        #[source]
        source: JournalError,
    },
}

/// Executes a run, from its first step in this process until it ends, and reports every event once it is durable.
///
/// # Errors
/// Returns an error if the journal cannot be written. A failed task is not an error: the last event contains the final
/// status.
pub async fn run(
    id: &RunId,
    (run, step): (Run, StepOutput),
    services: Services,
    (host, receiver): (Arc<RuntimeHost>, HostReceiver),
    reporters: &mut Reporters<'_>,
) -> Result<(), RuntimeError> {
    Dispatcher::new(id, run, services, host).run_to_completion(step, receiver, reporters).await
}

/// Cancels a run without a driver on behalf of `by`. Returns false without a change if calls are still in progress at
/// agents, since only a driver can cancel those.
///
/// # Errors
/// Returns an error if the journal cannot be written.
pub async fn cancel(
    id: &RunId,
    mut resumption: Resumption,
    by: String,
    journal: &dyn JournalWriter,
) -> Result<bool, RuntimeError> {
    resumption.inputs.push(Input::CancelRequested { by });
    let now = RunClock::start_no_earlier_than(resumption.last_event_at).now();
    let (run, step) = Run::resume(resumption, now);
    if run.status().is_unfinished() {
        return Ok(false);
    }
    let appended = journal.append(id, step.records.into()).await;
    appended.map_err(|source| RuntimeError::Journal { run: id.clone(), source })?;
    Ok(true)
}

/// The maximum number of uncommitted steps. If the journal stalls, the dispatcher stops accepting inputs, and the
/// bounded queue blocks its senders. It also bounds the queue of the journal.
const MAX_PENDING_COMMITS: usize = 64;

/// The state of a running run; `effects` executes its commands.
pub(super) struct Dispatcher {
    pub(super) id: RunId,
    pub(super) run: Run,
    pub(super) host: Arc<RuntimeHost>,
    pub(super) services: Services,
    /// Uncommitted steps in order, at most [`MAX_PENDING_COMMITS`]. Decisions continue meanwhile; the journal commits
    /// queued steps in one transaction.
    pending_commits: FuturesOrdered<BoxFuture<'static, Result<CommittedStep, JournalError>>>,
    /// Committed records not yet reported: at most those of the last step. Their commands are started before they are
    /// reported.
    unreported: Option<Arc<[Record]>>,
    /// Calls in progress, limited by the plan. The loop polls them itself, so that it can collect all that have ended
    /// at once. Each returns its end as an input.
    pub(super) calls: FuturesUnordered<BoxFuture<'static, Input>>,
    /// Connections, questions, and model requests in progress.
    pub(super) effects: JoinSet<()>,
    /// The synthesis task, whose text is reported while it is generated.
    pub(super) synthesis: Option<TaskId>,
    pub(super) attempt_tokens: IdHashMap<AttemptId, CancellationToken>,
    /// Questions that are open here. Each token is cancelled when its question is answered, here or elsewhere.
    pub(super) open_questions: HashMap<QuestionId, CancellationToken>,
    /// The watches in progress. Each token is cancelled when its task ends.
    pub(super) watches: IdHashMap<TaskId, CancellationToken>,
    /// Cancels the last replan.
    pub(super) replan_token: CancellationToken,
}

/// A step whose events are durable.
struct CommittedStep {
    records: Arc<[Record]>,
    commands: Vec<Command>,
}

/// Inputs that the loop has received but not processed: those of others, and the ends of calls.
#[derive(Default)]
struct PendingInputs {
    inputs: Vec<Input>,
    call_ends: Vec<Input>,
}

/// The reason for waking the loop.
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
    fn new(id: &RunId, run: Run, services: Services, host: Arc<RuntimeHost>) -> Self {
        Self {
            id: id.clone(),
            synthesis: run.plan().synthesis().map(|task| task.id.clone()),
            run,
            host,
            services,
            pending_commits: FuturesOrdered::new(),
            unreported: None,
            calls: FuturesUnordered::new(),
            effects: JoinSet::new(),
            attempt_tokens: IdHashMap::default(),
            watches: IdHashMap::default(),
            replan_token: CancellationToken::new(),
            open_questions: HashMap::new(),
        }
    }

    async fn run_to_completion(
        mut self,
        step: StepOutput,
        receiver: HostReceiver,
        reporters: &mut Reporters<'_>,
    ) -> Result<(), RuntimeError> {
        self.commit(step);
        let end = self.run_loop(receiver, reporters).await;
        self.report_pending(reporters);
        // A resumable run may still have calls in progress elsewhere. The agents are detached before anything else
        // ends: a dropped call withdraws its questions, and its agent would react to that.
        let is_resumable = end.is_err() || matches!(self.run.status(), RunStatus::Paused | RunStatus::Interrupted);
        if is_resumable {
            self.suspend_agents().await;
        }
        self.calls.clear();
        self.effects.shutdown().await;
        if !is_resumable {
            self.services.agents.close().await;
        }
        end
    }

    /// Detaches the agents. Calls continue meanwhile, since a call that is about to connect would block the others.
    async fn suspend_agents(&mut self) {
        let agents = Arc::clone(&self.services.agents);
        let mut suspended = std::pin::pin!(agents.suspend());
        loop {
            tokio::select! {
                () = &mut suspended => return,
                Some(_) = self.calls.next() => {}
            }
        }
    }

    async fn run_loop(
        &mut self,
        mut receiver: HostReceiver,
        reporters: &mut Reporters<'_>,
    ) -> Result<(), RuntimeError> {
        loop {
            while self.effects.try_join_next().is_some() {}
            let timer = self.run.next_wakeup().map(|moment| self.services.clock.instant_at(moment));
            let has_room = self.pending_commits.len() < MAX_PENDING_COMMITS;
            let wakeup = tokio::select! {
                Some(done) = self.pending_commits.next(), if !self.pending_commits.is_empty() => Wakeup::Committed(done),
                Some(source) = receiver.journal_errors.recv() => Wakeup::JournalFailed(source),
                Some(input) = receiver.inputs.recv(), if has_room => Wakeup::Input(input),
                Some(end) = self.calls.next(), if has_room => Wakeup::CallEnded(end),
                () = self.host.changed(), if has_room => Wakeup::HostChanged,
                () = sleep_until(timer), if has_room => Wakeup::TimerElapsed,
                () = tokio::task::yield_now(), if self.unreported.is_some() => Wakeup::Idle,
            };
            let mut pending = PendingInputs::default();
            match wakeup {
                Wakeup::Committed(done) => {
                    let done = done.map_err(|source| RuntimeError::Journal { run: self.id.clone(), source })?;
                    match self.on_committed(done, reporters) {
                        ControlFlow::Continue(()) => continue,
                        ControlFlow::Break(()) => return Ok(()),
                    }
                }
                Wakeup::Idle => {
                    self.report_pending(reporters);
                    continue;
                }
                Wakeup::JournalFailed(source) => return Err(RuntimeError::Journal { run: self.id.clone(), source }),
                Wakeup::Input(input) => pending.inputs.push(input),
                Wakeup::CallEnded(end) => pending.call_ends.push(end),
                Wakeup::TimerElapsed => pending.inputs.push(Input::TimeReached),
                Wakeup::HostChanged => {}
            }
            let mut inputs = self.collect_inputs(pending, &mut receiver, reporters);
            inputs.iter_mut().for_each(|input| self.services.secrets.mask_input(input));
            let step = self.run.handle(inputs, self.services.clock.now());
            self.commit(step);
        }
    }

    /// Executes the commands of a committed step; breaks after the last step.
    fn on_committed(&mut self, done: CommittedStep, reporters: &mut Reporters<'_>) -> ControlFlow<()> {
        let CommittedStep { records, commands } = done;
        self.report_pending(reporters);
        self.update_effects(&records);
        self.unreported = Some(records);
        // Report the preceding events before a person is asked.
        if commands.iter().any(|command| matches!(command, Command::AskPerson { .. })) {
            self.report_pending(reporters);
        }
        for command in commands {
            if command == Command::EndRun {
                return ControlFlow::Break(());
            }
            self.execute(command);
        }
        ControlFlow::Continue(())
    }

    /// Collects all other waiting inputs, so that they are decided and committed together. Text, progress, and other
    /// inputs of a call or an exchange come before its end.
    fn collect_inputs(
        &mut self,
        pending: PendingInputs,
        receiver: &mut HostReceiver,
        reporters: &mut Reporters<'_>,
    ) -> Vec<Input> {
        let PendingInputs { inputs: mut others, call_ends: mut ends } = pending;
        while let Some(Some(end)) = self.calls.next().now_or_never() {
            ends.push(end);
        }
        while let Ok(input) = receiver.inputs.try_recv() {
            others.push(input);
        }
        let deltas = self.host.drain_deltas();
        if !deltas.is_empty() {
            self.report_pending(reporters);
        }
        for (attempt, text) in deltas {
            reporters.report_delta(&attempt, &text);
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

    /// Reports the unreported records.
    fn report_pending(&mut self, reporters: &mut Reporters<'_>) {
        if let Some(records) = self.unreported.take() {
            reporters.report(&records);
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

    /// Withdraws questions here once they are answered anywhere, completes them once their agents are connected, and ends
    /// the watches of tasks that have ended.
    fn update_effects(&mut self, records: &[Record]) {
        for record in records {
            if let Event::QuestionAnswered { question, .. } = &record.event
                && let Some(answered) = self.open_questions.remove(question)
            {
                answered.cancel();
            }
            if let Event::TaskEnded { task, .. } = &record.event
                && let Some(ended) = self.watches.remove(task)
            {
                ended.cancel();
            }
            if matches!(record.event, Event::AgentConnected { .. }) {
                self.share_input_schemas();
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
