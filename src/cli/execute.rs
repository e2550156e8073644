//! Carries a plan that is ready to its end, with everybody who is asked and told on the way.
//! Never reads a plan.

use std::{path::PathBuf, sync::Arc};

use serde_json::Value;

use super::{CliError, Exit, files, replan::Planner, run::Output};
use crate::{
    config::{AgentsFile, Catalogue},
    human::Human,
    journal::{Durability, SqliteJournal},
    llm::Llm,
    mcp::{Options, Pool, Sampling},
    model::{AgentSpec, Plan, Record, RunId},
    report::{Reporter, jsonl::JsonLines, plain::Plain, screen::Screen, terminal},
    runtime::{self, Hub, Replanner, Services, Start, shutdown},
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
    /// What agents offered when the goal was planned, if one was.
    pub(super) surveyed: Catalogue,
}

/// Runs the plan and gives what came of it. With [`Output::StreamJson`], that is printed already.
///
/// # Errors
/// When something that the run needs fails; a task that does is part of the result.
pub(super) async fn execute(
    desk: Desk,
    agents: &AgentsFile,
    plan: &Arc<Plan>,
    inputs: &Arc<Value>,
) -> Result<(RunResult, Exit), CliError> {
    let Desk { run, journal: path, screen, human, output, surveyed } = desk;
    let models = files::models(agents)?;
    let journal = Arc::new(SqliteJournal::open(&path, Durability::Full)?);

    let (hub, inbox) = Hub::new();
    let sampling = match &models {
        None => Sampling::Off,
        Some(models) if models.take_tools() => Sampling::WithTools,
        Some(_) => Sampling::Plain,
    };
    let options = Options { sampling, ..files::pool_options()? };
    // What is planned anew may go to any agent.
    let may_use = |agent: &&AgentSpec| plan.replan.is_some() || plan.agents.contains_key(&agent.id);
    let used: Vec<AgentSpec> = agents.agents.values().filter(may_use).cloned().collect();
    let replanner = match plan.replan {
        Some(_) => Some(Planner { agents: agents.clone(), surveyed, options: files::pool_options()? }),
        None => None,
    };
    let services = Services {
        journal: Arc::clone(&journal) as Arc<_>,
        agents: Arc::new(Pool::new(used, options, Arc::clone(&hub) as Arc<_>)),
        llm: models.map(|models| Arc::new(models) as Arc<dyn Llm>),
        replanner: replanner.map(|planner| Arc::new(planner) as Arc<dyn Replanner>),
        human,
    };
    let signals = tokio::spawn(shutdown::listen(Arc::clone(&hub)));
    let lines = match output {
        Output::StreamJson => Some(
            JsonLines::start(&path, &run, 0, std::io::stdout())
                .map_err(|error| CliError::failed("events cannot be printed", error))?,
        ),
        _ => None,
    };
    let mut reporters = Reporters { merge: Merge::new(&run), shown: shown(&screen, &run), lines };

    let start = Start { run: &run, plan, inputs, seed: seed(&run) };
    let driven = runtime::run(start, services, (hub, inbox), &mut reporters).await;
    signals.abort();
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
