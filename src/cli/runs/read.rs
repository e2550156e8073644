//! `kapell read`: reads one resource of an agent, as a run of its own.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::cli::common::execute::{KnownAgents, execute, start_guard};
use crate::cli::common::files;
use crate::cli::common::run_context::RunContext;
use crate::cli::common::run_options::{Interaction, RunOptions};
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::config;
use crate::engine::NewRun;
use crate::runtime::{jitter_seed, new_run_id};

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// The agent
    #[arg(add = completion::agents())]
    agent: String,
    /// The URI of the resource; `kapell agents resources` lists them, and results of tools link to them
    uri: String,
    #[command(flatten)]
    options: RunOptions,
}

pub(crate) async fn read(args: ReadArgs) -> Result<Exit, CliError> {
    args.options.check_speaker()?;
    let agents = files::load_agents(&args.options.agents)?;
    let agent = agents.agents.get(args.agent.as_str()).ok_or_else(|| files::unknown_agent(&args.agent, &agents))?;
    if agent.transport.child_process().is_some() {
        start_guard()?;
    }
    // The URI is an input, so that nothing in it is an expression.
    let name = format!("{}.read", agent.id);
    let plan = json!({
        "name": name,
        "inputs": {"uri": {"type": "string", "required": true}},
        "tasks": [{"id": "read", "read": {"agent": agent.id, "uri": "${{ inputs.uri }}"}}],
    });
    let plan = Arc::new(config::load_plan(&name, &plan.to_string(), &agents, None)?.plan);
    let context = RunContext::new(new_run_id(), &args.options, Interaction::Terminal)?;
    let inputs = Arc::new(json!({"uri": args.uri}));
    let new_run = NewRun { plan, inputs, seed: jitter_seed(&context.run), planning: None, source: None, id: None };
    execute(context, agents, KnownAgents::default(), new_run.into()).await
}
