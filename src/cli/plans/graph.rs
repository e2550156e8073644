//! `kapell graph`: prints the task graph of a plan.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};

use crate::cli::common::args::AgentsArg;
use crate::cli::common::exit::print;
use crate::cli::common::files;
use crate::cli::{CliError, Exit};
use crate::config;
use crate::view::{dot, mermaid, task_tree};

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// The plan, or - for standard input
    plan: String,
    #[command(flatten)]
    agents: AgentsArg,
    /// The format [default: tree on a terminal, mermaid elsewhere]
    #[arg(long, value_enum)]
    format: Option<DiagramFormat>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DiagramFormat {
    /// Text, with tasks in waves
    Tree,
    /// Mermaid, for Markdown and mermaid.live
    Mermaid,
    /// DOT, for Graphviz
    Dot,
}

pub(crate) fn graph(args: GraphArgs) -> Result<Exit, CliError> {
    let agents = args.agents.files(files::plan_path(&args.plan));
    let (name, text) = files::read_plan_text(&args.plan)?;
    let plan = match agents.first() {
        Some(_) => config::load_plan(name, &text, &files::read_agents(&agents)?, None)?.plan,
        None => config::load_plan_without_agents(name, &text)?.plan,
    };
    let default = if io::stdout().is_terminal() { DiagramFormat::Tree } else { DiagramFormat::Mermaid };
    print(&match args.format.unwrap_or(default) {
        DiagramFormat::Tree => task_tree(&plan),
        DiagramFormat::Mermaid => mermaid(&plan),
        DiagramFormat::Dot => dot(&plan),
    })?;
    Ok(Exit::Success)
}
