//! Drives a loaded plan to its end, and wires up the agents, the journal, the human, and the reporters.

use std::{
    collections::HashMap,
    io::IsTerminal,
    mem,
    sync::{Arc, mpsc},
    time::Duration,
};

use serde_json::Value;

use super::{files, llm_replanner::LlmReplanner, run_context::RunContext, run_options::RunOutputFormat};
use crate::{
    cli::{CliError, Exit},
    config::{AgentCatalog, AgentsFile},
    engine::{self, NewRun, Rerun, Resumption},
    journal::{self, Lease},
    llm::Llm,
    mcp::Pool,
    model::{AgentId, AgentSpec, AttemptId, Plan, Record, RunId, Task, TaskId},
    runtime::{self, Replanner, RunClock, RuntimeHost, Services, shutdown},
    system::process,
    ui::{
        reporters::{
            Reporter,
            json_lines::{JsonLines, JsonLinesError},
            live::{LiveReporter, TimeSource},
            live_answer::{DisplayedAnswer, LiveAnswer},
            plain::PlainReporter,
        },
        terminal::screen::Screen,
    },
    view::{RunResult, RunResultBuilder},
};

/// A run to execute.
pub(crate) enum RunRequest {
    /// A new run.
    New {
        /// The run.
        new_run: NewRun,
        /// The tools that the agents offered when the goal was planned.
        catalog: AgentCatalog,
    },
    /// A run of an earlier process.
    Resume(ResumableRun),
    /// A rerun of a part of a run that has ended.
    Rerun(Rerun),
}

impl RunRequest {
    /// Returns the plan as it was when its run began.
    fn plan(&self) -> &Arc<Plan> {
        match self {
            Self::New { new_run, .. } | Self::Rerun(Rerun { new_run, .. }) => &new_run.plan,
            Self::Resume(resumable) => resumable.resumption.run.plan(),
        }
    }

    /// Returns the state of this run in an earlier process, if it is resumed.
    fn resumable(&self) -> Option<&ResumableRun> {
        match self {
            Self::Resume(resumable) => Some(resumable),
            Self::New { .. } | Self::Rerun(_) => None,
        }
    }

    /// Removes and returns the catalog from the planning of the goal. It is needed only once.
    fn remove_catalog(&mut self) -> AgentCatalog {
        match self {
            Self::New { catalog, .. } => mem::take(catalog),
            Self::Resume(_) | Self::Rerun(_) => AgentCatalog::new(),
        }
    }
}

/// A run of an earlier process, with its state from the journal.
pub(crate) struct ResumableRun {
    /// The lease of the run.
    pub(crate) lease: Lease,
    /// The events of the run.
    pub(crate) records: Vec<Record>,
    /// The checkpoints of its sessions.
    pub(crate) sessions: HashMap<AgentId, Value>,
    /// The state of the run.
    pub(crate) resumption: Resumption,
}

/// A run that has ended.
pub(crate) struct FinishedRun {
    /// The result of the run.
    pub(crate) result: RunResult,
    /// The exit code of the process.
    pub(crate) exit: Exit,
    /// The part of the answer that the terminal shows already.
    pub(crate) displayed: DisplayedAnswer,
}

/// Drives a run to its end. With [`RunOutputFormat::StreamJson`], the result is printed already.
///
/// # Errors
/// Fails if a component that the run needs fails. A failed task is part of the result instead.
pub(crate) async fn execute(
    context: RunContext,
    agents: &AgentsFile,
    mut work: RunRequest,
) -> Result<FinishedRun, CliError> {
    let RunContext { run, journal, screen, human, output, durability } = context;
    let models = files::load_models(agents)?;
    let store = journal::store(&journal);
    let journal = store.open_writer(durability)?;
    // Held to the end, after the run's last event is durable.
    let _lease = match work.resumable() {
        // It was acquired before the run was read.
        Some(_) => None,
        None => Some(store.acquire_lease(&run)?),
    };

    let catalog = work.remove_catalog();
    let (plan, resumable) = (work.plan(), work.resumable());
    let events = resumable.map_or(0, |resumable| resumable.resumption.run.next_seq());
    // The process ends with the run, so its memory is freed at once rather than task by task.
    mem::forget(Arc::clone(plan));
    // Every request of an agent leaves an event, so no earlier process can have used this number.
    let (host, receiver) = RuntimeHost::new(run.clone(), Arc::clone(&journal), events + 1);
    let options = files::pool_options(agents)?;
    // A replan may use any agent.
    let may_use = |agent: &&AgentSpec| plan.replan.is_some() || plan.agents.contains_key(&agent.id);
    let used: Vec<AgentSpec> = agents.agents.values().filter(may_use).cloned().collect();
    let replanner = plan.replan.map(|_| LlmReplanner { agents: agents.clone(), catalog, options: options.clone() });
    let (sessions, sampled) = resumable
        .map(|resumable| (resumable.sessions.clone(), engine::sampling_usage(&resumable.records)))
        .unwrap_or_default();
    let spent = sampled.into_iter().map(|(agent, sampled)| (agent, sampled.requests, sampled.tokens));
    let pool = Pool::new(used, options, Arc::clone(&host) as Arc<_>).with_sessions(sessions).with_sampling_usage(spent);
    let last = resumable.map(|resumable| resumable.resumption.last_event_at);
    let clock = RunClock::start_no_earlier_than(last.unwrap_or_default());
    let services = Services {
        journal: Arc::clone(&journal),
        agents: Arc::new(pool),
        llm: models.map(|models| Arc::new(models) as Arc<dyn Llm>),
        replanner: replanner.map(|planner| Arc::new(planner) as Arc<dyn Replanner>),
        human,
        secrets: agents.secrets.clone(),
        clock,
    };
    let print_hint = {
        let (screen, run, human) = (screen.clone(), run.clone(), Arc::clone(&services.human));
        move |resumable| {
            human.discard_typed();
            print_resume_hint(&screen, &run, resumable);
        }
    };
    shutdown::listen_for_signals(&host, print_hint)
        .map_err(|error| CliError::failed("cli::signals", "cannot listen for signals", error))?;
    process::adopt_orphans();
    let orphans = tokio::spawn(runtime::reap_orphans());
    let mut control_queue = store.control_queue(&run);
    let inputs = match &work {
        RunRequest::Resume(_) => runtime::read_inputs(&mut *control_queue, None)?,
        // No other process knows of the new run yet, so its control queue is empty.
        RunRequest::New { .. } | RunRequest::Rerun(_) => Vec::new(),
    };
    let control_queue = tokio::spawn(runtime::forward_requests(control_queue, Arc::clone(&host)));
    let lines = match output {
        RunOutputFormat::StreamJson => Some(
            store
                .open_reader()
                .map_err(JsonLinesError::from)
                .and_then(|reader| JsonLines::start(reader, &run, events, std::io::stdout()))
                .map_err(|error| CliError::failed("cli::output", "cannot print events", error))?,
        ),
        _ => None,
    };
    let answer = match output {
        RunOutputFormat::Text if std::io::stdout().is_terminal() => streamed_answer_task(plan),
        _ => None,
    };
    let answer = answer.map(|task| LiveAnswer::new(screen.clone(), task));
    let mut reporters = ReporterSet {
        merge: RunResultBuilder::new(&run),
        answer,
        view: progress_reporter(&screen, &run, Arc::new(move || clock.now())),
        lines,
    };

    let outcome = match work {
        RunRequest::New { new_run, .. } => {
            runtime::run(&run, new_run, services, (host, receiver), &mut reporters).await
        }
        RunRequest::Resume(ResumableRun { lease: _lease, records, resumption, .. }) => {
            reporters.catch_up(&records);
            drop(records);
            let resumption = Resumption { inputs, ..resumption };
            runtime::resume(&run, resumption, services, (host, receiver), &mut reporters).await
        }
        RunRequest::Rerun(rerun) => runtime::rerun(&run, rerun, services, (host, receiver), &mut reporters).await,
    };
    control_queue.abort();
    orphans.abort();
    let ReporterSet { merge, answer, view: shown, lines } = reporters;
    drop(shown);
    screen.flush();
    let shown = answer.map_or(DisplayedAnswer::Nothing, |answer| answer.displayed());
    outcome
        .map_err(|error| CliError::failed("cli::run_failed", format!("run `{run}` stopped before its end"), error))?;
    let result = merge.into_result();
    if let Some(lines) = lines {
        lines
            .finish(&result)
            .map_err(|error| CliError::failed("cli::output", "some events could not be printed", error))?;
    }
    let exit = Exit::of_run(result.status, result.cause.as_ref());
    Ok(FinishedRun { result, exit, displayed: shown })
}

/// The longest wait at an immediate end for the last line to be written.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(300);

/// Prints how to resume the run, before the process ends immediately.
fn print_resume_hint(screen: &Screen, run: &RunId, resumable: shutdown::RunStateAtExit) {
    screen.hide();
    if resumable == shutdown::RunStateAtExit::Unfinished {
        screen.println(format!("stopped immediately; `kapell resume {}` resumes run {run}", run.short()));
    }
    let (written, done) = mpsc::channel();
    let screen = screen.clone();
    // A terminal that accepts nothing must not block the end of the process.
    std::thread::spawn(move || {
        screen.flush();
        let _ = written.send(());
    });
    let _ = done.recv_timeout(LAST_LINE_TIMEOUT);
}

/// Returns the task whose text is the whole printed answer of a successful run, if there is one.
fn streamed_answer_task(plan: &Plan) -> Option<TaskId> {
    let has_outputs = plan.outputs.as_ref().is_some_and(|outputs| !outputs.is_empty());
    let is_text = |task: &&Task| task.prompt().is_some_and(|prompt| prompt.output_schema.is_none());
    plan.synthesis().filter(|_| !has_outputs).filter(is_text).map(|task| task.id.clone())
}

/// Returns the seed of the run's jitter. It only has to differ between runs, as IDs do.
pub(crate) fn jitter_seed(run: &RunId) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}

/// Returns a live view at `now` on a terminal, and a plain line reporter elsewhere.
pub(crate) fn progress_reporter(screen: &Screen, run: &RunId, now: TimeSource) -> Box<dyn Reporter> {
    if screen.capabilities().live {
        Box::new(LiveReporter::new(screen.clone(), run.clone(), now))
    } else {
        Box::new(PlainReporter::new(screen.clone(), run.clone(), files::time_zone()))
    }
}

/// The reporters of a run and the builder of its result.
struct ReporterSet {
    merge: RunResultBuilder,
    answer: Option<LiveAnswer>,
    view: Box<dyn Reporter>,
    lines: Option<JsonLines<std::io::Stdout>>,
}

impl Reporter for ReporterSet {
    fn catch_up(&mut self, records: &[Record]) {
        for record in records {
            self.merge.apply_record(record);
        }
        self.view.catch_up(records);
    }

    fn report(&mut self, records: &[Record]) {
        for record in records {
            self.merge.apply_record(record);
        }
        // Before the view, so that the end of an answer precedes the lines about it.
        if let Some(answer) = &mut self.answer {
            answer.report(records);
        }
        self.view.report(records);
        if let Some(lines) = &mut self.lines {
            lines.report(records);
        }
    }

    fn report_delta(&mut self, attempt: &AttemptId, text: &str) {
        if let Some(answer) = &mut self.answer {
            answer.report_delta(attempt, text);
        }
        if let Some(lines) = &mut self.lines {
            lines.report_delta(attempt, text);
        }
    }
}
