//! `kapell demo-agent`: is an MCP server.
//! Never prints anything of its own on stdout, which carries the protocol.

use clap::{Args, ValueEnum};

use super::{CliError, Exit};
use crate::demo::{self, DemoAgent, DemoTransport};

#[derive(Debug, Args)]
pub(super) struct DemoAgentArgs {
    /// Which agent
    agent: Agent,
    /// Serve Streamable HTTP at http://127.0.0.1:PORT/mcp instead of standard input and output
    #[arg(long, value_name = "PORT")]
    http: Option<u16>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Agent {
    /// Books trips: progress, and a question before it books
    Travel,
    /// Looks topics up in a small built-in library: progress, logs, and sampling for a summary
    Research,
    /// Keeps documents: resource links
    Archive,
}

pub(super) async fn serve(args: DemoAgentArgs) -> Result<Exit, CliError> {
    let agent = match args.agent {
        Agent::Travel => DemoAgent::Travel,
        Agent::Research => DemoAgent::Research,
        Agent::Archive => DemoAgent::Archive,
    };
    let transport = args.http.map_or(DemoTransport::Stdio, |port| DemoTransport::Http { port });
    demo::serve(agent, transport).await.map_err(|error| CliError::failed("the demo agent stopped", error))?;
    Ok(Exit::Done)
}
