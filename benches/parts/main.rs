//! `cargo bench --bench parts`: the cost of the parts of a run for each task, and how it grows with the plan. It runs
//! only for `cargo bench`, and starts no process.

#[path = "../host/graph.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod graph;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kapell::config::{self, AgentsFile, ProcessEnvironment};
use kapell::engine::{NewRun, Run, StepOutput};
use kapell::expression::{self, Scope, TaskLookup, TaskView};
use kapell::journal::{self, Durability};
use kapell::model::{AgentInfo, Command, ContentBlock, Input, Plan, Record, RunId, Timestamp, ToolOutput};
use kapell::view::PlanDrawing;
use serde_json::{Value, json};

use graph::Graph;

/// The plans: the number of layers and their width.
const PLAN_SIZES: [(usize, usize); 4] = [(5, 20), (20, 50), (50, 200), (200, 500)];
/// The least total time for measuring a part. A part is repeated until then, and its shortest time counts.
const MIN_MEASURE_TIME: Duration = Duration::from_secs(1);
/// The output of every task.
const TASK_OUTPUT: &str = "0123456789abcdef";

/// A result whose error ends the program.
type BenchResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> BenchResult<()> {
    // `cargo test` does not pass this flag.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing is measured here but by `cargo bench --bench parts`");
        return Ok(());
    }
    let plans = PLAN_SIZES.map(|(layers, width)| PlanFixture::new(layers, width));
    let plans = plans.into_iter().collect::<BenchResult<Vec<_>>>()?;
    print!("{:32}", "microseconds per task");
    plans.iter().for_each(|plan| print!("{:>14}", format!("{} tasks", plan.plan.tasks.len())));
    println!("{:>10}", "growth");
    print_row("validating the plan", &plans, |plan| load_plan(&plan.text, &plan.agents).map(drop))?;
    print_row("placing the graph", &plans, |plan| {
        std::hint::black_box(PlanDrawing::new(&plan.plan.tasks));
        Ok(())
    })?;
    print_row("rendering the arguments", &plans, PlanFixture::render)?;
    print_row("deciding", &plans, |plan| plan.run_engine(|_| ()))?;
    print_row("appending to the journal", &plans, |plan| plan.append_records(Durability::Normal))?;
    print_row("appending, synced to disk", &plans, |plan| plan.append_records(Durability::Full))
}

/// Prints the shortest time for each plan, divided by its tasks, and the ratio of the largest plan to that of 1 000
/// tasks.
fn print_row(name: &str, plans: &[PlanFixture], part: impl Fn(&PlanFixture) -> BenchResult<()>) -> BenchResult<()> {
    print!("{name:32}");
    let mut each = Vec::new();
    for plan in plans {
        let begun = Instant::now();
        let mut least = Duration::MAX;
        while begun.elapsed() < MIN_MEASURE_TIME {
            let start = Instant::now();
            part(plan)?;
            least = least.min(start.elapsed());
        }
        each.push(least.as_secs_f64() * 1e6 / plan.plan.tasks.len() as f64);
    }
    each.iter().for_each(|each| print!("{each:>14.2}"));
    println!("{:>10}", format!("× {:.2}", each[each.len() - 1] / each[1]));
    Ok(())
}

/// A plan, and the inputs of the parts.
struct PlanFixture {
    agents: AgentsFile,
    text: String,
    plan: Arc<Plan>,
    inputs: Arc<Value>,
    output: Arc<ToolOutput>,
    /// The records of a run of the plan, in the batches in which they are appended.
    appends: Vec<Arc<[Record]>>,
    /// The directory for journals.
    directory: tempfile::TempDir,
}

impl PlanFixture {
    fn new(layers: usize, width: usize) -> BenchResult<Self> {
        let agents = ["a", "b"].map(|agent| format!("[agents.{agent}]\ncommand = \"nothing\"\nmax_concurrency = 64\n"));
        let agents = config::parse_agents("agents.toml", &agents.concat(), &ProcessEnvironment)?;
        let text = Graph::layered("layered", layers, width).plan();
        let mut material = Self {
            plan: Arc::new(load_plan(&text, &agents)?),
            text,
            agents,
            inputs: Arc::new(json!({})),
            output: Arc::new(ToolOutput {
                content: vec![ContentBlock::Text(TASK_OUTPUT.to_owned())],
                structured: None,
                ..ToolOutput::default()
            }),
            appends: Vec::new(),
            directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?,
        };
        let mut appends = Vec::new();
        material.run_engine(|records| appends.push(records.into()))?;
        material.appends = appends;
        Ok(material)
    }

    /// Renders the arguments of every task from the outputs of others.
    fn render(&self) -> BenchResult<()> {
        let done = SucceededTasks(self.plan.tasks.iter().map(|task| (task.id.as_str(), &*self.output)).collect());
        let scope = Scope::new(&self.inputs, &done);
        for arguments in self.plan.tasks.iter().filter_map(|task| task.arguments()) {
            std::hint::black_box(expression::render(arguments, &scope)?);
        }
        Ok(())
    }

    /// Runs the engine to the end of a run, where every command completes at the next step. `append` gets the records
    /// of each step.
    fn run_engine(&self, mut append: impl FnMut(Vec<Record>)) -> BenchResult<()> {
        let beginning = NewRun {
            plan: Arc::clone(&self.plan),
            inputs: Arc::clone(&self.inputs),
            seed: 0,
            planning: None,
            source: None,
            id: None,
        };
        let mut now = Timestamp::default();
        let (mut run, mut step) = Run::start(beginning, now)?;
        while !run.has_ended() {
            let StepOutput { records, commands } = step;
            append(records);
            now = now.after(Duration::from_millis(1));
            step = run.handle(commands.into_iter().filter_map(|command| self.complete_command(command)), now);
        }
        append(step.records);
        Ok(())
    }

    fn complete_command(&self, command: Command) -> Option<Input> {
        match command {
            Command::ConnectAgent { agent } => {
                let info = AgentInfo { protocol: "2026-07-28".into(), ..AgentInfo::default() };
                Some(Input::AgentConnected { agent, info: Arc::new(info) })
            }
            Command::StartAttempt(call) => {
                Some(Input::AttemptEnded { attempt: call.attempt, result: Ok(Arc::clone(&self.output)) })
            }
            _ => None,
        }
    }

    /// Appends all records of a run, in the batches in which they were decided, until they are durable.
    fn append_records(&self, durability: Durability) -> BenchResult<()> {
        let place = tempfile::tempdir_in(self.directory.path())?;
        let journal = journal::store(&place.path().join("journal.db").into()).open_writer(durability)?;
        let run = RunId::from("0199a5c2-0000-7000-8000-000000000000");
        for records in &self.appends {
            futures::executor::block_on(journal.append(&run, Arc::clone(records)))?;
        }
        Ok(())
    }
}

/// Loads a plan from the text of its file.
fn load_plan(text: &str, agents: &AgentsFile) -> BenchResult<Plan> {
    Ok(config::load_plan("plan.yaml", text, agents, None)?.plan)
}

/// A view of the tasks in which all have succeeded, and none is a `foreach` task.
struct SucceededTasks<'d>(HashMap<&'d str, &'d ToolOutput>);

impl TaskLookup for SucceededTasks<'_> {
    fn task(&self, id: &str) -> Option<TaskView<'_>> {
        let output = self.0.get(id).copied()?;
        Some(TaskView { status: "succeeded", agent: Some("a"), error: None, output: Some(output), items: None })
    }

    fn item(&self, _place: usize) -> Option<TaskView<'_>> {
        None
    }
}
