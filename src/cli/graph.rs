//! `kapell graph`: draws a plan.
//! Never connects to an agent.

use clap::{Args, ValueEnum};

use super::{AgentsArg, CliError, Exit, exit::print, files};
use crate::report::{dot, mermaid};

#[derive(Debug, Args)]
pub(super) struct GraphArgs {
    /// The plan, or - for standard input
    plan: String,
    #[command(flatten)]
    agents: AgentsArg,
    /// The drawing language
    #[arg(long, value_enum, default_value_t)]
    format: Drawing,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Drawing {
    /// For Markdown and mermaid.live
    #[default]
    Mermaid,
    /// For Graphviz
    Dot,
}

pub(super) fn graph(args: GraphArgs) -> Result<Exit, CliError> {
    let agents = files::agents(&args.agents)?;
    let plan = files::plan(&args.plan, &agents, None)?.plan;
    print(&match args.format {
        Drawing::Mermaid => mermaid(&plan),
        Drawing::Dot => dot(&plan),
    })?;
    Ok(Exit::Done)
}
