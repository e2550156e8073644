//! `cargo bench --bench planning`: how good plans for goals are. It scores the answers that NESTFUL records, which tests
//! the form of plans and its validation, and on request those of a model. See `docs/planning-eval.md`.
//!
//! The data of others is not part of this repository. NESTFUL and BFCL come from PyPI when the benchmark runs, and
//! LiveMCPBench from a folder.

mod data;
mod goals;
mod lines;
mod models;
mod retrieval;
mod score;
mod servers;
mod stages;

use std::path::PathBuf;
use std::time::Instant;

use kapell::config::{self, AgentCatalog, AgentsFile, ProcessEnvironment};
use kapell::llm::{Llm, Models};
use kapell::model::{AgentInfo, ToolInfo};
use kapell::planner::{self, Goal, PlanError, PlanningContext, PlanningOutcome};

use goals::EvalGoal;
use models::{CountingModel, RecordedAnswers};
use score::Score;

/// A result whose error ends the program.
type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The maximum number of tokens of a model's reply.
const MAX_TOKENS: u32 = 1_024;

/// The name of the agent that offers the tools of a data set.
const AGENT: &str = "api";

/// What to measure.
#[derive(Debug, Default)]
struct BenchArgs {
    /// The endpoint of a model, whose plans are scored too.
    live: Option<String>,
    /// The name of that model.
    model: Option<String>,
    /// The provider of that model, as in an agents file.
    provider: Option<String>,
    /// The maximum number of goals that the model plans, of each set.
    goals: Option<usize>,
    /// The only set whose goals the model plans.
    set: Option<String>,
    /// The form of plans, as in an agents file.
    form: Option<String>,
    /// Whether the model plans the goals over real servers, and nothing else.
    servers: bool,
    /// A folder with the files of LiveMCPBench.
    livemcpbench: Option<PathBuf>,
}

impl BenchArgs {
    fn from_command_line() -> BenchResult<Option<Self>> {
        let mut arguments = std::env::args().skip(1);
        let (mut parsed, mut is_bench) = (Self::default(), false);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                // `cargo test` does not pass this flag.
                "--bench" => is_bench = true,
                "--live" => parsed.live = Some(value()?),
                "--model" => parsed.model = Some(value()?),
                "--provider" => parsed.provider = Some(value()?),
                "--goals" => parsed.goals = Some(value()?.parse()?),
                "--set" => parsed.set = Some(value()?),
                "--form" => parsed.form = Some(value()?),
                "--servers" => parsed.servers = true,
                "--livemcpbench" => parsed.livemcpbench = Some(value()?.into()),
                other => return Err(format!("unknown argument `{other}`").into()),
            }
        }
        Ok(is_bench.then_some(parsed))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> BenchResult<()> {
    let Some(arguments) = BenchArgs::from_command_line()? else {
        println!("nothing is measured here but by `cargo bench --bench planning`");
        return Ok(());
    };
    if arguments.servers {
        let live = arguments.live.as_deref().ok_or("`--servers` needs `--live BASE_URL`")?;
        let text = |given: &Option<String>, default: &str| given.as_deref().unwrap_or(default).to_owned();
        let (model, provider) = (text(&arguments.model, "model"), text(&arguments.provider, "llama.cpp"));
        return servers::measure(live, &model, &provider, &text(&arguments.form, "auto"));
    }
    match &arguments.livemcpbench {
        Some(folder) => retrieval::measure(folder).await?,
        None => println!("skipped: the recall of tools needs `--livemcpbench DIR`"),
    }
    let sets = goals::nestful_sets()?;
    println!("\n{:24} {:>6} {}", "recorded answers", "goals", Score::HEADER);
    let mut valid = Vec::new();
    for set in &sets {
        let (mut total, mut planned) = (Score::default(), Vec::new());
        for (index, goal) in set.goals.iter().enumerate() {
            let recorded = RecordedAnswers::new([goal.answer.to_string()]);
            let model = CountingModel::new(&recorded);
            let score = plan_goal(&model, &agents_file(None)?, &set.tools, goal).await;
            planned.extend((score.valid == 1).then_some(index));
            total += score;
        }
        println!("{:24} {:>6} {total}", set.name, set.goals.len());
        valid.push(planned);
    }
    // What a model that always refuses would reply: this tests that a refusal needs no repair.
    let refusal = serde_json::json!({"tasks": [], "missing": "No tool can do this."}).to_string();
    abstention(&RecordedAnswers::new([refusal]), &agents_file(None)?, usize::MAX).await?;
    let Some(live) = &arguments.live else {
        println!("\nskipped: plans of a model need `--live BASE_URL --model NAME`");
        return Ok(());
    };
    let text = format!(
        "[llm]\nbase_url = {live:?}\nmodel = {:?}\n{}",
        arguments.model.as_deref().unwrap_or("model"),
        arguments.provider.as_ref().map(|provider| format!("provider = {provider:?}\n")).unwrap_or_default(),
    );
    let form = arguments.form.as_deref().unwrap_or("auto");
    let agents = agents_file(Some((&text, form)))?;
    let models = Models::new(agents.models.iter().cloned())?.ok_or("a model is configured")?;
    println!("\n{:24} {:>6} {}", format!("{live}"), "goals", Score::HEADER);
    let is_chosen = |name: &str| arguments.set.as_ref().is_none_or(|set| set == name);
    for (set, valid) in sets.iter().zip(&valid).filter(|(set, _)| is_chosen(set.name)) {
        let chosen: Vec<&EvalGoal> =
            valid.iter().take(arguments.goals.unwrap_or(usize::MAX)).map(|index| &set.goals[*index]).collect();
        let mut totals = [("kapell", Score::default()), ("stages", Score::default()), ("lines", Score::default())];
        for goal in &chosen {
            // All prompts show only the tools that are needed, so that they alone are compared.
            let needed = set.needed_tools(goal);
            totals[0].1 += plan_goal(&CountingModel::new(&models), &agents, &needed, goal).await;
            totals[1].1 += stages::plan_goal(&CountingModel::new(&models), &needed, goal).await;
            totals[2].1 += lines::plan_goal(&CountingModel::new(&models), &needed, goal).await;
        }
        for (style, total) in totals {
            println!("{:24} {:>6} {total}", format!("{}, {style}", set.name), chosen.len());
        }
    }
    if is_chosen("irrelevance") {
        abstention(&models, &agents, arguments.goals.unwrap_or(usize::MAX)).await?;
    }
    Ok(())
}

/// Counts the goals of BFCL that no tool serves and that the model does not plan.
async fn abstention(llm: &dyn Llm, agents: &AgentsFile, limit: usize) -> BenchResult<()> {
    let goals = goals::irrelevant_goals()?;
    let (mut abstained, mut planned, mut invalid) = (0, 0, 0);
    for (goal, tools) in goals.iter().take(limit) {
        let catalog = catalog(tools);
        let context = PlanningContext { llm, agents, catalog: &catalog, file: "plan.yaml", local_time: "" };
        let goal = Goal { text: goal, ..Goal::default() };
        match planner::plan(&goal, &context, &mut |_| {}).await.result {
            Ok(PlanningOutcome::Plan(_)) => planned += 1,
            Err(PlanError::Invalid(_) | PlanError::Model { .. }) => invalid += 1,
            _ => abstained += 1,
        }
    }
    let total = abstained + planned + invalid;
    println!(
        "\nabstention on goals that no tool serves: {abstained} of {total} ({planned} planned, {invalid} invalid)"
    );
    Ok(())
}

/// Plans a goal with kapell's planner.
async fn plan_goal(model: &CountingModel<'_>, agents: &AgentsFile, tools: &[ToolInfo], goal: &EvalGoal) -> Score {
    let start = Instant::now();
    let catalog = catalog(tools);
    let context = PlanningContext { llm: model, agents, catalog: &catalog, file: "plan.yaml", local_time: "" };
    let planned = planner::plan(&Goal { text: &goal.text, ..Goal::default() }, &context, &mut |_| {}).await;
    let repairs = model.plan_requests().saturating_sub(1);
    let usage = model.usage();
    match planned.result {
        Ok(PlanningOutcome::Plan(plan)) => {
            let tasks = plan.validated.plan.written_tasks();
            let calls: Vec<_> = tasks
                .map(|task| score::Call {
                    id: task.id.to_string(),
                    tool: task.routes().first().map_or("think", |route| &*route.tool).to_owned(),
                    arguments: task.arguments().map(|arguments| arguments.0.clone()).unwrap_or_default(),
                })
                .collect();
            Score::of_plan(&calls, goal, repairs == 0).with_cost(usage, start.elapsed())
        }
        _ => Score::of_nothing(goal).with_cost(usage, start.elapsed()),
    }
}

/// Returns an agents file with one agent, and with a model and the form of plans.
fn agents_file(live: Option<(&str, &str)>) -> BenchResult<AgentsFile> {
    // A model that does not stop would take minutes for each goal.
    let planner = match live {
        Some((_, form)) => format!("max_output_tokens = {MAX_TOKENS}\nform = {form:?}"),
        None => "max_tasks = 40".to_owned(),
    };
    let model =
        live.map(|(model, _)| model).unwrap_or("[llm]\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"recorded\"\n");
    let text = format!("{model}[planner]\n{planner}\n[agents.{AGENT}]\ncommand = \"true\"\n");
    config::parse_agents("agents.toml", &text, &ProcessEnvironment).map_err(|mistakes| mistakes.to_string().into())
}

fn catalog(tools: &[ToolInfo]) -> AgentCatalog {
    let info = AgentInfo { tools: tools.to_vec(), ..AgentInfo::default() };
    AgentCatalog::from_iter([(AGENT.into(), Ok(info))])
}
