//! Carries a plan that is ready to its end, with everybody who is asked and told on the way.
//! Never reads a plan.

use std::{
    io::IsTerminal,
    mem,
    sync::{Arc, mpsc},
    time::Duration,
};

use serde_json::Value;

use super::{CliError, Exit, desk::Desk, files, replan::Planner, talk::Output};
use crate::{
    config::{AgentsFile, Catalogue},
    engine::{self, Rerun, Run},
    journal::{self, Lease, SqliteJournal},
    llm::Llm,
    mcp::Pool,
    model::{AgentSpec, AttemptId, GoalPlanning, Notes, Plan, Record, RunId, Source, Task, TaskId},
    report::{
        Reporter,
        answer::{LiveAnswer, Shown},
        jsonl::JsonLines,
        plain::Plain,
        screen::Screen,
        terminal::{Now, Terminal},
    },
    runtime::{self, Clock, Hub, Replanner, Resumption, Services, Start, shutdown},
    synthesizer::{Merge, RunResult},
    system::process,
};

/// What is to be carried out.
pub(super) enum Work {
    /// A run that begins.
    New {
        /// Its plan.
        plan: Arc<Plan>,
        /// The plan's inputs, defaults filled in.
        inputs: Arc<Value>,
        /// How the plan was made, if that was for a goal of this run.
        planning: Option<GoalPlanning>,
        /// What the agents offered then.
        surveyed: Catalogue,
        /// The files that it comes from.
        source: Arc<Source>,
    },
    /// A run that an earlier process left.
    Left(Left),
    /// A part of a run that has ended.
    Again {
        /// Its id.
        of: RunId,
        /// The run.
        earlier: Run,
        /// The plan of the new run.
        plan: Arc<Plan>,
        /// Its inputs.
        inputs: Arc<Value>,
        /// The files that it comes from.
        source: Option<Arc<Source>>,
        /// The task from which on everything is done again.
        from: TaskId,
    },
}

impl Work {
    /// The plan that is carried out, as it was when its run began.
    fn plan(&self) -> &Arc<Plan> {
        match self {
            Self::New { plan, .. } => plan,
            Self::Left(left) => left.run.plan(),
            Self::Again { plan, .. } => plan,
        }
    }

    /// What an earlier process left of this very run.
    fn left(&self) -> Option<&Left> {
        match self {
            Self::Left(left) => Some(left),
            Self::New { .. } | Self::Again { .. } => None,
        }
    }

    /// What the agents offered when the run's goal was planned, which is needed once.
    fn take_surveyed(&mut self) -> Catalogue {
        match self {
            Self::New { surveyed, .. } => std::mem::take(surveyed),
            Self::Left(_) | Self::Again { .. } => Catalogue::new(),
        }
    }
}

/// A run that an earlier process left.
pub(super) struct Left {
    /// The right to drive it.
    pub(super) lease: Lease,
    /// Its events.
    pub(super) records: Vec<Record>,
    /// Their fold.
    pub(super) run: Run,
    /// What was noted of its sessions and calls.
    pub(super) notes: Notes,
    /// Whether a person accepted that agents are not what they were.
    pub(super) accepts_changes: bool,
}

/// A run that has ended.
pub(super) struct Ran {
    /// What came of it.
    pub(super) result: RunResult,
    /// What that means for the process.
    pub(super) exit: Exit,
    /// How much of its answer stands on the terminal already.
    pub(super) shown: Shown,
}

/// Carries a run to its end. With [`Output::StreamJson`], what came of it is printed already.
///
/// # Errors
/// When something that the run needs fails; a task that does is part of the result.
pub(super) async fn execute(desk: Desk, agents: &AgentsFile, mut work: Work) -> Result<Ran, CliError> {
    let Desk { run, journal: path, screen, human, output, durability } = desk;
    let models = files::models(agents)?;
    let journal = Arc::new(SqliteJournal::open(&path, durability)?);
    // Held to the end, after the run's last event is durable.
    let _lease = match work.left() {
        // It was taken before the run was read.
        Some(_) => None,
        None => Some(Lease::take(&path, &run)?),
    };

    let surveyed = work.take_surveyed();
    let (plan, left) = (work.plan(), work.left());
    let events = left.map_or(0, |left| left.run.next_seq());
    // The process ends with the run, and gives its memory back at once rather than task by task.
    mem::forget(Arc::clone(plan));
    // Every request of an agent leaves an event, so no earlier process can have used this number.
    let (hub, inbox) = Hub::new(run.clone(), Arc::clone(&journal) as Arc<_>, events + 1);
    let options = files::pool_options(agents)?;
    // What is planned anew may go to any agent.
    let may_use = |agent: &&AgentSpec| plan.replan.is_some() || plan.agents.contains_key(&agent.id);
    let used: Vec<AgentSpec> = agents.agents.values().filter(may_use).cloned().collect();
    let replanner = plan.replan.map(|_| Planner { agents: agents.clone(), surveyed, options: options.clone() });
    let (sessions, sampled) =
        left.map(|left| (left.notes.sessions.clone(), engine::sampled(&left.records))).unwrap_or_default();
    let spent = sampled.into_iter().map(|(agent, sampled)| (agent, sampled.requests, sampled.tokens));
    let pool = Pool::new(used, options, Arc::clone(&hub) as Arc<_>).taking_over(sessions).having_sampled(spent);
    let last = left.and_then(|left| left.records.last()).map(|record| record.at);
    let clock = Clock::start_after(last.unwrap_or_default());
    let services = Services {
        journal: Arc::clone(&journal) as Arc<_>,
        agents: Arc::new(pool),
        llm: models.map(|models| Arc::new(models) as Arc<dyn Llm>),
        replanner: replanner.map(|planner| Arc::new(planner) as Arc<dyn Replanner>),
        human,
        secrets: agents.secrets.clone(),
        clock,
    };
    let last_words = {
        let (screen, run, human) = (screen.clone(), run.clone(), Arc::clone(&services.human));
        move |left| {
            human.discard_typed();
            say_before_exit(&screen, &run, left);
        }
    };
    shutdown::listen(&hub, last_words).map_err(|error| CliError::failed("signals cannot be listened for", error))?;
    process::adopt_orphans();
    let orphans = tokio::spawn(runtime::reap_orphans());
    let mut elsewhere = journal::Inbox::later(&path, &run);
    let requests = match &work {
        Work::Left(_) => runtime::observe(&mut elsewhere, None)?,
        // Nobody knows of it yet.
        Work::New { .. } | Work::Again { .. } => Vec::new(),
    };
    let elsewhere = tokio::spawn(runtime::deliver(elsewhere, Arc::clone(&hub)));
    let lines = match output {
        Output::StreamJson => Some(
            JsonLines::start(&path, &run, events, std::io::stdout())
                .map_err(|error| CliError::failed("events cannot be printed", error))?,
        ),
        _ => None,
    };
    let answer = match output {
        Output::Text if std::io::stdout().is_terminal() => answer_in_text(plan),
        _ => None,
    };
    let answer = answer.map(|task| LiveAnswer::new(screen.clone(), task));
    let mut reporters = Reporters {
        merge: Merge::new(&run),
        answer,
        shown: shown(&screen, &run, Arc::new(move || clock.now())),
        lines,
    };

    let driven = match work {
        Work::New { plan, inputs, planning, source, .. } => {
            let (planning, source) = (planning.as_ref(), Some(&source));
            let start = Start { run: &run, plan: &plan, inputs: &inputs, seed: seed(&run), planning, source };
            runtime::run(start, services, (hub, inbox), &mut reporters).await
        }
        Work::Left(Left { lease: _lease, records, run: left, notes, accepts_changes }) => {
            reporters.catch_up(&records);
            drop(records);
            let resumption = Resumption {
                id: &run,
                run: left,
                last: last.unwrap_or_default(),
                notes: notes.calls,
                accepts_changes,
                requests,
            };
            runtime::resume(resumption, services, (hub, inbox), &mut reporters).await
        }
        Work::Again { of, earlier, plan, inputs, source, from } => {
            let (plan, inputs, source) = (&plan, &inputs, source.as_ref());
            let rerun = Rerun { of: &of, earlier: &earlier, plan, inputs, source, from: &from, seed: seed(&run) };
            runtime::rerun(&run, rerun, services, (hub, inbox), &mut reporters).await
        }
    };
    elsewhere.abort();
    orphans.abort();
    let Reporters { merge, answer, shown, lines } = reporters;
    drop(shown);
    screen.flush();
    let shown = answer.map_or(Shown::Nothing, |answer| answer.shown());
    driven.map_err(|error| CliError::failed(format!("run `{run}` was not finished"), error))?;
    let result = merge.into_result();
    if let Some(lines) = lines {
        lines.finish(&result).map_err(|error| CliError::failed("the events could not all be printed", error))?;
    }
    let exit = Exit::of_run(result.status, result.cause.as_ref());
    Ok(Ran { result, exit, shown })
}

/// Limits how long an immediate end waits for its last line to be written.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(300);

/// Says before the process ends at once how its run continues.
fn say_before_exit(screen: &Screen, run: &RunId, left: shutdown::Left) {
    screen.hide();
    if left == shutdown::Left::Unfinished {
        screen.println(format!("stopped at once; `kapell resume {}` continues run {run}", run.short()));
    }
    let (written, done) = mpsc::channel();
    let screen = screen.clone();
    // A terminal that accepts nothing must not keep the process.
    std::thread::spawn(move || {
        screen.flush();
        let _ = written.send(());
    });
    let _ = done.recv_timeout(LAST_LINE_TIMEOUT);
}

/// The task whose text is all that is printed of a run that succeeds.
fn answer_in_text(plan: &Plan) -> Option<TaskId> {
    let has_outputs = plan.outputs.as_ref().is_some_and(|outputs| !outputs.is_empty());
    let is_text = |task: &&Task| task.prompt().is_some_and(|prompt| prompt.output_schema.is_none());
    plan.synthesis().filter(|_| !has_outputs).filter(is_text).map(|task| task.id.clone())
}

/// Jitter only has to differ between runs, and ids already do.
fn seed(run: &RunId) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}

/// A live view at `now` on a terminal, plain lines elsewhere.
pub(super) fn shown(screen: &Screen, run: &RunId, now: Now) -> Box<dyn Reporter> {
    if screen.abilities().live {
        Box::new(Terminal::new(screen.clone(), run.clone(), now))
    } else {
        Box::new(Plain::new(screen.clone(), run.clone(), files::time_zone()))
    }
}

/// Everybody who is told of events.
struct Reporters {
    merge: Merge,
    answer: Option<LiveAnswer>,
    shown: Box<dyn Reporter>,
    lines: Option<JsonLines<std::io::Stdout>>,
}

impl Reporter for Reporters {
    fn catch_up(&mut self, records: &[Record]) {
        for record in records {
            self.merge.apply(record);
        }
        self.shown.catch_up(records);
    }

    fn report(&mut self, records: &[Record]) {
        for record in records {
            self.merge.apply(record);
        }
        // Before the talk, so that the end of an answer comes before what is said of it.
        if let Some(answer) = &mut self.answer {
            answer.report(records);
        }
        self.shown.report(records);
        if let Some(lines) = &mut self.lines {
            lines.report(records);
        }
    }

    fn hear(&mut self, turn: &AttemptId, text: &str) {
        if let Some(answer) = &mut self.answer {
            answer.hear(turn, text);
        }
        if let Some(lines) = &mut self.lines {
            lines.hear(turn, text);
        }
    }
}
