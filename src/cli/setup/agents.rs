//! `kapell agents`: lists the agents of the agents file, connects to them, and lists their tools. No tool is called.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::common::args::{AgentsArg, OutputFormat};
use crate::cli::common::exit::{print, print_json};
use crate::cli::common::files;
use crate::cli::{CliError, Exit};
use crate::config::AgentsFile;
use crate::mcp::schema_warnings;
use crate::model::{AgentInfo, AgentSpec, Effect, Protocol, Transport, redact_url};
use crate::runtime::{self, AgentProbe, probe_agents};
use crate::view::text::printable;

#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// List the agents of the agents file, without connecting to them
    List(AgentsArgs),
    /// Connect to agents and report whether each works
    Test(AgentsArgs),
    /// Connect to agents and list their tools
    Tools(AgentsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AgentsArgs {
    /// Only these agents
    names: Vec<String>,
    #[command(flatten)]
    agents: AgentsArg,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

pub(crate) async fn agents(command: AgentsCommand) -> Result<Exit, CliError> {
    match command {
        AgentsCommand::List(args) => {
            list_agents(&selected_agents(files::load_agents(&args.agents)?, &args)?, args.output)
        }
        AgentsCommand::Test(args) => {
            let (specs, found) = discover_agents(&args).await?;
            test_agents(&specs, &found, args.output)
        }
        AgentsCommand::Tools(args) => {
            let (specs, found) = discover_agents(&args).await?;
            list_tools(&specs, &found, args.output)
        }
    }
}

/// Connects to the agents that the command line names, or to all of them.
async fn discover_agents(args: &AgentsArgs) -> Result<(Vec<AgentSpec>, Vec<AgentProbe>), CliError> {
    let file = files::load_agents(&args.agents)?;
    let options = runtime::connect_options(&file, None)?;
    let secrets = file.secrets.clone();
    let specs = selected_agents(file, args)?;
    let mut found = probe_agents(specs.clone(), options, &secrets).await;
    for info in found.iter_mut().filter_map(|probe| probe.result.as_mut().ok()) {
        let warnings = schema_warnings(&info.tools).await;
        if !warnings.is_empty() {
            Arc::make_mut(info).warnings.extend(warnings);
        }
    }
    Ok((specs, found))
}

/// Returns the agents that the command line names, or all of them.
fn selected_agents(file: AgentsFile, args: &AgentsArgs) -> Result<Vec<AgentSpec>, CliError> {
    if let Some(unknown) = args.names.iter().find(|name| !file.agents.contains_key(name.as_str())) {
        let known: Vec<&str> = file.agents.keys().map(|id| id.as_str()).collect();
        return Err(CliError::usage(
            "cli::unknown_agent",
            format!("agent `{unknown}` is not in the agents file"),
            format!("the agents file has {}", known.join(", ")),
        ));
    }
    let wanted = |spec: &AgentSpec| args.names.is_empty() || args.names.iter().any(|name| name == spec.id.as_str());
    Ok(file.agents.into_values().filter(wanted).collect())
}

fn list_agents(agents: &[AgentSpec], format: OutputFormat) -> Result<Exit, CliError> {
    match format {
        OutputFormat::Json => {
            let list: Vec<_> = agents
                .iter()
                .map(|agent| {
                    let (transport, address) = address(agent);
                    json!({
                        "agent": agent.id,
                        "transport": transport,
                        "address": address,
                        "protocol": agent.protocol,
                        "required": agent.policy.required,
                        "max_concurrency": agent.policy.max_concurrency,
                        "capabilities": agent.capabilities.keys().collect::<Vec<_>>(),
                    })
                })
                .collect();
            print_json(&list)?;
        }
        OutputFormat::Text => {
            for agent in agents {
                let (transport, address) = address(agent);
                let mut line = format!("{}  {transport}  {address}", agent.id);
                if agent.protocol != Protocol::Auto {
                    line += if agent.protocol == Protocol::Legacy { "  legacy" } else { "  modern" };
                }
                if agent.policy.required {
                    line += "  required";
                }
                if !agent.capabilities.is_empty() {
                    let names: Vec<&str> = agent.capabilities.keys().map(String::as_str).collect();
                    line += &format!("  ({})", names.join(", "));
                }
                print(&(line + "\n"))?;
            }
        }
    }
    Ok(Exit::Success)
}

/// Returns the kind of transport and the address shown to a person. Arguments and queries can hold secrets and are
/// omitted.
fn address(agent: &AgentSpec) -> (&'static str, String) {
    match &agent.transport {
        Transport::Stdio(child) => ("stdio", child.command.clone()),
        Transport::Http { url, .. } => ("http", redact_url(url)),
    }
}

fn test_agents(agents: &[AgentSpec], found: &[AgentProbe], format: OutputFormat) -> Result<Exit, CliError> {
    match format {
        OutputFormat::Json => {
            let list: Vec<_> = found
                .iter()
                .map(|AgentProbe { agent, result, duration }| match result {
                    Ok(info) => json!({
                        "agent": agent, "ok": true, "protocol": info.protocol, "server": info.server,
                        "tools": info.tools.len(), "milliseconds": duration.as_millis(), "warnings": info.warnings,
                    }),
                    Err(failure) => json!({
                        "agent": agent, "ok": false, "error": failure, "milliseconds": duration.as_millis(),
                    }),
                })
                .collect();
            print_json(&list)?;
        }
        OutputFormat::Text => {
            for AgentProbe { agent, result, duration } in found {
                let line = match result {
                    Ok(info) => {
                        format!(
                            "{agent}  ok  {}  MCP {}  {} tools  {} ms\n",
                            printable(info.server.as_deref().unwrap_or("(unnamed server)")),
                            printable(&info.protocol),
                            info.tools.len(),
                            duration.as_millis()
                        ) + &warnings(info)
                    }
                    Err(failure) => {
                        let help = failure.help.iter().map(|help| format!("\n    help: {}", printable(help)));
                        format!("{agent}  failed  {}{}\n", printable(&failure.message), help.collect::<String>())
                    }
                };
                print(&line)?;
            }
        }
    }
    Ok(exit_code(agents, found))
}

fn list_tools(agents: &[AgentSpec], found: &[AgentProbe], format: OutputFormat) -> Result<Exit, CliError> {
    match format {
        OutputFormat::Json => {
            let list: Vec<_> = found
                .iter()
                .map(|AgentProbe { agent, result, .. }| match result {
                    Ok(info) => json!({"agent": agent, "ok": true, "tools": info.tools, "warnings": info.warnings}),
                    Err(failure) => json!({"agent": agent, "ok": false, "error": failure}),
                })
                .collect();
            print_json(&list)?;
        }
        OutputFormat::Text => {
            for AgentProbe { agent, result, .. } in found {
                match result {
                    Ok(info) => {
                        for tool in &info.tools {
                            let effect = match tool.effect {
                                Some(Effect::ReadOnly) => "  read_only",
                                Some(Effect::Idempotent) => "  idempotent",
                                Some(Effect::AtMostOnce) | None => "",
                            };
                            let about = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
                            let first = about.lines().next().unwrap_or_default();
                            let arguments: Vec<_> = tool
                                .input_schema
                                .get("properties")
                                .and_then(|properties| properties.as_object())
                                .map(|properties| properties.keys().map(String::as_str).collect())
                                .unwrap_or_default();
                            print(&format!(
                                "{agent}.{}({}){effect}\n    {}\n",
                                printable(&tool.name),
                                printable(&arguments.join(", ")),
                                printable(first)
                            ))?;
                        }
                        for warning in &info.warnings {
                            message!("{agent}  warning  {}", printable(warning));
                        }
                    }
                    Err(failure) => message!("{agent}  failed  {}", printable(&failure.message)),
                }
            }
        }
    }
    Ok(exit_code(agents, found))
}

/// Returns the warnings about an agent's own description, one a line.
fn warnings(info: &AgentInfo) -> String {
    info.warnings.iter().map(|warning| format!("    warning: {}\n", printable(warning))).collect()
}

/// Returns the exit code. A required agent that failed outweighs any other.
fn exit_code(agents: &[AgentSpec], found: &[AgentProbe]) -> Exit {
    let failed = |probe: &&AgentProbe| probe.result.is_err();
    let required = |probe: &AgentProbe| agents.iter().any(|agent| agent.id == probe.agent && agent.policy.required);
    if found.iter().filter(failed).any(required) {
        Exit::AgentUnavailable
    } else if found.iter().any(|probe| probe.result.is_err()) {
        Exit::Failed
    } else {
        Exit::Success
    }
}
