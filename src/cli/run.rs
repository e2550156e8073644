//! `kapell run`: runs a plan to its end and prints what came of it.
//! Never prints anything but the result on stdout.

use std::{path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{
    AgentsArg, CliError, Exit, JournalArg,
    exit::{print, print_json, show},
    files,
};
use crate::{
    config::{self, AgentsFile, Diagnostics},
    human::{
        Human,
        answers::Answers,
        policy::{NoInput, RulesFirst},
        terminal::Terminal,
    },
    journal::{Durability, SqliteJournal},
    llm::Llm,
    mcp::{Options, Pool, Sampling},
    model::{AgentSpec, Plan, Record, RunId},
    report::{Reporter, jsonl::JsonLines, plain::Plain, screen::Screen, terminal, text::count},
    runtime::{self, Hub, Services, Start, shutdown},
    synthesizer::{self, Merge, RunResult},
};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The plan: a YAML file, or - for standard input
    plan: String,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    journal: JournalArg,
    /// An input of the plan, as NAME=VALUE; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Inputs of the plan, as a YAML or JSON map
    #[arg(long, value_name = "FILE")]
    params_file: Option<PathBuf>,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Ask nobody: agents' questions are declined, and approvals pause the run
    #[arg(long)]
    no_input: bool,
    /// Answer questions by the rules of this YAML file first
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Check everything and say what would run, but connect to no agent
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The answer, for people
    #[default]
    Text,
    /// One object with every task
    Json,
    /// Each event as a line of JSON, then the result
    StreamJson,
}

pub(super) async fn run(args: RunArgs) -> Result<Exit, CliError> {
    let agents = files::agents(&args.agents)?;
    let lowered = files::plan(&args.plan, &agents, None)?;
    if !lowered.warnings.is_empty() {
        show(&lowered.warnings);
    }
    let given = args.params_file.as_deref().map(files::data).transpose()?;
    let inputs = config::resolve_inputs(&lowered.plan, &args.params, given.as_ref()).map_err(Diagnostics::from)?;
    let plan = Arc::new(lowered.plan);
    if args.dry_run {
        print(&outline(&plan))?;
        return Ok(Exit::Done);
    }
    let (result, exit) = execute(&args, &agents, &plan, &Arc::new(inputs)).await?;
    match args.output {
        Output::Text => print(&synthesizer::text(&result))?,
        Output::Json => print_json(&result)?,
        Output::StreamJson => {}
    }
    Ok(exit)
}

/// What a plan would do, a task a line.
fn outline(plan: &Plan) -> String {
    let mut text = format!("{}: {}\n", plan.name, count(plan.tasks.len(), "task"));
    for task in &plan.tasks {
        let routes: Vec<String> = task.routes.iter().map(|route| format!("{}.{}", route.agent, route.tool)).collect();
        let needs: Vec<&str> = task.needs.iter().map(|id| id.as_str()).collect();
        text += &format!("  {}: {}", task.id, routes.join(" or "));
        if !needs.is_empty() {
            text += &format!(", after {}", needs.join(", "));
        }
        text.push('\n');
    }
    text
}

async fn execute(
    args: &RunArgs,
    agents: &AgentsFile,
    plan: &Arc<Plan>,
    inputs: &Arc<Value>,
) -> Result<(RunResult, Exit), CliError> {
    let models = files::models(agents)?;
    let screen = Screen::stderr().map_err(|error| CliError::failed("stderr cannot be written", error))?;

    let path = files::journal(&args.journal)?;
    let journal = Arc::new(SqliteJournal::open(&path, Durability::Full)?);
    let run = RunId::from(uuid::Uuid::now_v7().to_string());
    let human = human(args, &screen, &run)?;

    let (hub, inbox) = Hub::new();
    let sampling = match &models {
        None => Sampling::Off,
        Some(models) if models.take_tools() => Sampling::WithTools,
        Some(_) => Sampling::Plain,
    };
    let options = Options { sampling, ..files::pool_options()? };
    let used: Vec<AgentSpec> =
        agents.agents.values().filter(|agent| plan.agents.contains_key(&agent.id)).cloned().collect();
    let services = Services {
        journal: Arc::clone(&journal) as Arc<_>,
        agents: Arc::new(Pool::new(used, options, Arc::clone(&hub) as Arc<_>)),
        llm: models.map(|models| Arc::new(models) as Arc<dyn Llm>),
        human,
    };
    let signals = tokio::spawn(shutdown::listen(Arc::clone(&hub)));
    let lines = match args.output {
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

/// Who answers: the rules first, then a person if there may be one.
fn human(args: &RunArgs, screen: &Screen, run: &RunId) -> Result<Arc<dyn Human>, CliError> {
    // A plan that came over standard input has used it up.
    let last: Box<dyn Human> = if args.no_input || args.plan == "-" {
        Box::new(NoInput)
    } else {
        let terminal = Terminal::stdin(screen.clone(), run.clone());
        Box::new(terminal.map_err(|error| CliError::failed("standard input cannot be read", error))?)
    };
    let Some(path) = &args.answers else { return Ok(last.into()) };
    let rules = Answers::load(path).map_err(|error| CliError::Usage { message: error.to_string(), help: None })?;
    Ok(Arc::new(RulesFirst::new(rules, last, screen.clone())))
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
