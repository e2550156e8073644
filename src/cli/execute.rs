//! Carries a plan that is ready to its end, with everybody who is asked and told on the way.
//! Never reads a plan.

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;

use super::{CliError, Exit, files, talk::Output};
use crate::{
    config::AgentsFile,
    engine::{self, Rerun, Run},
    human::Human,
    journal::{self, Durability, Lease, SqliteJournal},
    llm::Llm,
    mcp::{Options, Pool, Sampling},
    model::{AgentSpec, Notes, Plan, Record, RunId, TaskId, Timestamp},
    report::{Reporter, jsonl::JsonLines, plain::Plain, screen::Screen, terminal},
    runtime::{self, Hub, Resumption, Services, Start, shutdown},
    synthesizer::{Merge, RunResult},
};

/// What a run has of its own before it starts.
pub(super) struct Desk {
    /// Its id.
    pub(super) run: RunId,
    /// Where its journal is.
    pub(super) journal: PathBuf,
    /// Where it is shown.
    pub(super) screen: Screen,
    /// Who answers.
    pub(super) human: Arc<dyn Human>,
    /// What is printed on stdout.
    pub(super) output: Output,
}

/// What is to be carried out.
pub(super) enum Work {
    /// A run that begins.
    New {
        /// Its plan.
        plan: Arc<Plan>,
        /// The plan's inputs, defaults filled in.
        inputs: Arc<Value>,
    },
    /// A run that an earlier process left.
    Left(Left),
    /// A part of a run that has ended.
    Again {
        /// Its id.
        of: RunId,
        /// The run.
        earlier: Run,
        /// The task from which on everything is done again.
        from: TaskId,
    },
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

/// Carries a run to its end and gives what came of it. With [`Output::StreamJson`], that is printed already.
///
/// # Errors
/// When something that the run needs fails; a task that does is part of the result.
pub(super) async fn execute(desk: Desk, agents: &AgentsFile, work: Work) -> Result<(RunResult, Exit), CliError> {
    let Desk { run, journal: path, screen, human, output } = desk;
    let models = files::models(agents)?;
    let journal = Arc::new(SqliteJournal::open(&path, Durability::Full)?);
    // Held to the end, after the run's last event is durable.
    let _lease = match &work {
        // It was taken before the run was read.
        Work::Left(_) => None,
        Work::New { .. } | Work::Again { .. } => Some(Lease::take(&path, &run)?),
    };

    let (plan, events) = match &work {
        Work::New { plan, .. } => (plan, 0),
        Work::Left(left) => (left.run.plan(), left.run.next_seq()),
        Work::Again { earlier, .. } => (earlier.plan(), 0),
    };
    // Every request of an agent leaves an event, so no earlier process can have used this number.
    let (hub, inbox) = Hub::new(run.clone(), Arc::clone(&journal) as Arc<_>, events + 1);
    let sampling = match &models {
        None => Sampling::Off,
        Some(models) if models.take_tools() => Sampling::WithTools,
        Some(_) => Sampling::Plain,
    };
    let options = Options { sampling, ..files::pool_options()? };
    let used: Vec<AgentSpec> =
        agents.agents.values().filter(|agent| plan.agents.contains_key(&agent.id)).cloned().collect();
    let (sessions, sampled) = match &work {
        Work::Left(left) => (left.notes.sessions.clone(), engine::sampled(&left.records)),
        Work::New { .. } | Work::Again { .. } => Default::default(),
    };
    let spent = sampled.into_iter().map(|(agent, sampled)| (agent, sampled.requests, sampled.tokens));
    let pool = Pool::new(used, options, Arc::clone(&hub) as Arc<_>).taking_over(sessions).having_sampled(spent);
    let services = Services {
        journal: Arc::clone(&journal) as Arc<_>,
        agents: Arc::new(pool),
        llm: models.map(|models| Arc::new(models) as Arc<dyn Llm>),
        human,
    };
    let signals = tokio::spawn(shutdown::listen(Arc::clone(&hub)));
    let mut elsewhere = journal::Inbox::open(&path, &run)?;
    let requests = elsewhere.take_new()?.into_iter().map(runtime::observed).collect();
    let elsewhere = tokio::spawn(runtime::deliver(elsewhere, Arc::clone(&hub)));
    let lines = match output {
        Output::StreamJson => Some(
            JsonLines::start(&path, &run, events, std::io::stdout())
                .map_err(|error| CliError::failed("events cannot be printed", error))?,
        ),
        _ => None,
    };
    let mut reporters = Reporters { merge: Merge::new(&run), shown: shown(&screen, &run), lines };

    let driven = match work {
        Work::New { plan, inputs } => {
            let start = Start { run: &run, plan: &plan, inputs: &inputs, seed: seed(&run) };
            runtime::run(start, services, (hub, inbox), &mut reporters).await
        }
        Work::Left(Left { lease: _lease, records, run: left, notes, accepts_changes }) => {
            reporters.catch_up(&records);
            let last = records.last().map_or_else(Timestamp::default, |record| record.at);
            drop(records);
            let resumption = Resumption { id: &run, run: left, last, notes: notes.calls, accepts_changes, requests };
            runtime::resume(resumption, services, (hub, inbox), &mut reporters).await
        }
        Work::Again { of, earlier, from } => {
            let rerun = Rerun { of: &of, earlier: &earlier, from: &from, seed: seed(&run) };
            runtime::rerun(&run, rerun, services, (hub, inbox), &mut reporters).await
        }
    };
    signals.abort();
    elsewhere.abort();
    let Reporters { merge, shown, lines } = reporters;
    drop(shown);
    screen.flush();
    driven.map_err(|error| CliError::failed(format!("run `{run}` was not finished"), error))?;
    let result = merge.into_result();
    if let Some(lines) = lines {
        lines.finish(&result).map_err(|error| CliError::failed("the events could not all be printed", error))?;
    }
    let exit = Exit::of_run(result.status, result.cause.as_ref());
    Ok((result, exit))
}

/// Jitter only has to differ between runs, and ids already do.
fn seed(run: &RunId) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    hasher.finish()
}

/// A live view on a terminal, plain lines elsewhere.
fn shown(screen: &Screen, run: &RunId) -> Box<dyn Reporter> {
    if screen.abilities().live {
        Box::new(terminal::Terminal::new(screen.clone(), run.clone()))
    } else {
        Box::new(Plain::new(screen.clone(), run.clone(), jiff::tz::TimeZone::system()))
    }
}

/// Everybody who is told of events.
struct Reporters {
    merge: Merge,
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
        self.shown.report(records);
        if let Some(lines) = &mut self.lines {
            lines.report(records);
        }
    }
}
