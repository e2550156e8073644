//! `kapell graph`: prints the task graph of a plan.

use clap::{Args, ValueEnum};

use crate::cli::common::args::AgentsArg;
use crate::cli::common::exit::print;
use crate::cli::common::files;
use crate::cli::{CliError, Exit};
use crate::config;
use crate::view::{dot, mermaid};

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// The plan, or - for standard input
    plan: String,
    #[command(flatten)]
    agents: AgentsArg,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: DiagramFormat,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum DiagramFormat {
    /// Mermaid, for Markdown and mermaid.live
    #[default]
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
    print(&match args.format {
        DiagramFormat::Mermaid => mermaid(&plan),
        DiagramFormat::Dot => dot(&plan),
    })?;
    Ok(Exit::Success)
}
