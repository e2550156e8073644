//! `kapell demo-agent`: runs a demo MCP server. Stdout carries the protocol, so nothing else is printed there.

use clap::Args;

use crate::cli::{CliError, Exit};
use crate::demo::{self, DemoAgent, DemoSettings, DemoTransport};

#[derive(Debug, Args)]
pub(crate) struct DemoAgentArgs {
    /// The demo agent to run
    agent: DemoAgent,
    /// Serve Streamable HTTP at http://127.0.0.1:PORT/mcp instead of standard input and output
    #[arg(long, value_name = "PORT")]
    http: Option<u16>,
}

pub(crate) async fn serve(args: DemoAgentArgs) -> Result<Exit, CliError> {
    let transport = args.http.map_or(DemoTransport::Stdio, |port| DemoTransport::Http { port });
    let served = demo::serve(args.agent, transport, DemoSettings::from_environment()).await;
    served.map_err(|error| {
        CliError::failed("cli::demo_agent", format!("the demo agent `{}` stopped", args.agent.name()), error)
    })?;
    Ok(Exit::Success)
}
