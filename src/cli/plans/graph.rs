//! `kapell graph`: prints the task graph of a plan or of a run.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::cli::common::args::{AgentsArg, JournalArg};
use crate::cli::common::exit::{output_width, print};
use crate::cli::common::files;
use crate::cli::{CliError, Exit, completion};
use crate::config;
use crate::model::{Plan, Task};
use crate::system::environment;
use crate::ui::history::read_view;
use crate::view::{LineCharacters, PlanDrawing, RunView, box_graph, dot, mermaid, svg, task_tree};

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// The plan, - for standard input, or a run: its ID, the start or end of its ID, or `last`
    #[arg(value_name = "PLAN|RUN", add = completion::plans_and_runs())]
    plan: String,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    journal: JournalArg,
    /// The format [default: text on a terminal, mermaid elsewhere]
    #[arg(long, value_enum)]
    format: Option<DiagramFormat>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DiagramFormat {
    /// Text: boxes and lines; a list if the graph is large, or wider than the terminal
    Text,
    /// Text: the tasks in waves, with what they do and when
    #[value(alias = "tree")]
    List,
    /// Mermaid, for Markdown and mermaid.live
    Mermaid,
    /// DOT, for Graphviz
    Dot,
    /// A picture; that of a run shows the state of each task
    Svg,
}

pub(crate) fn graph(args: GraphArgs) -> Result<Exit, CliError> {
    let run = if names_file(&args.plan) { None } else { Some(read_run(&args)?) };
    let plan = match run.as_ref().and_then(RunView::start) {
        Some((plan, _)) => plan.clone(),
        None => read_plan(&args)?,
    };
    let default = if io::stdout().is_terminal() { DiagramFormat::Text } else { DiagramFormat::Mermaid };
    // A replan adds tasks to those of the plan.
    let tasks: Vec<Arc<Task>> = match &run {
        Some(run) => run.planned_tasks().cloned().collect(),
        None => plan.tasks.clone(),
    };
    let plan = Plan { tasks, ..plan };
    print(&match args.format.unwrap_or(default) {
        DiagramFormat::Text => boxes_or_list(&plan, run.as_ref()),
        DiagramFormat::List => task_tree(&plan),
        DiagramFormat::Mermaid => mermaid(&plan),
        DiagramFormat::Dot => dot(&plan),
        DiagramFormat::Svg => {
            let drawing = PlanDrawing::new(&plan.tasks);
            svg(&plan.name, &drawing, |task| run.as_ref()?.drawn_status(task))
        }
    })?;
    Ok(Exit::Success)
}

/// Draws a plan or a run for a terminal, as a list if that says more.
fn boxes_or_list(plan: &Plan, run: Option<&RunView>) -> String {
    let characters = if environment::is_utf8() { LineCharacters::Unicode } else { LineCharacters::Ascii };
    let drawn = box_graph(plan, |task| run?.drawn_status(task), characters, output_width());
    drawn.unwrap_or_else(|reason| {
        message!("{reason}, so this is a list of the tasks; `--format svg` draws any graph");
        task_tree(plan)
    })
}

/// Returns whether the argument is a plan file rather than a run. A name without its extension is one too, so that the
/// error names the file.
fn names_file(name: &str) -> bool {
    let exists = |extension| Path::new(name).with_extension(extension).exists();
    name == "-" || name.contains(['.', '/', std::path::MAIN_SEPARATOR]) || ["", "yaml", "yml"].into_iter().any(exists)
}

fn read_plan(args: &GraphArgs) -> Result<Plan, CliError> {
    let agents = args.agents.files(files::plan_path(&args.plan));
    let (name, text) = files::read_plan_text(&args.plan)?;
    let Some(file) = agents.first() else { return Ok(config::load_plan_without_agents(name, &text)?.plan) };
    let invalid = match config::load_plan(name, &text, &files::read_agents(&agents)?, None) {
        Ok(validated) => return Ok(validated.plan),
        Err(diagnostics) => diagnostics,
    };
    // A drawing needs none of the agents, models, and permissions that the file lacks.
    let Ok(drawn) = config::load_plan_without_agents(name, &text) else { return Err(invalid.into()) };
    message!(
        "warning: `{}` lacks something that the plan uses; `kapell validate --offline {}` shows what",
        file.display(),
        args.plan
    );
    Ok(drawn.plan)
}

fn read_run(args: &GraphArgs) -> Result<RunView, CliError> {
    let reader = files::open_journal(&args.journal)?;
    Ok(read_view(&*reader, &reader.find_run(&args.plan)?)?)
}
