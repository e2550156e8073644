//! `kapell agents`: lists and changes the agents of the agents file, connects to them, and lists what they offer. No tool is
//! called.

use std::iter;
use std::sync::Arc;

use clap::{Args, Subcommand};
use owo_colors::Style;
use serde_json::{Value, json};

use super::add::{AddArgs, RemoveArgs, add, remove};
use super::agent_logs::{AgentLogsArgs, agent_logs};
use super::agent_offers::{
    print_prompts, print_resources, print_tool, print_tools, prompts_json, resources_json, tools_json,
};
use super::complete::{CompleteArgs, complete};
use super::import::{ImportArgs, import};
use super::login::{LoginArgs, LogoutArgs, login, login_text, logout};
use crate::cli::common::args::{AgentsArg, OutputFormat, RefreshArg};
use crate::cli::common::exit::{output_width, print_json, print_styled, wrapped};
use crate::cli::common::files;
use crate::cli::common::run_context::open_screen;
use crate::cli::common::tool_target::ToolTarget;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::config::AgentsFile;
use crate::mcp::{ReportingHost, login_info, schema_warnings};
use crate::model::text::truncate_chars;
use crate::model::{
    AgentId, AgentInfo, AgentSpec, JsonObject, LogMessage, LoginInfo, Origin, Protocol, Secrets, Transport,
    describe_unset, redact_url,
};
use crate::runtime::{self, AgentProbe, Discovery, Freshness};
use crate::ui::terminal::screen::Screen;
use crate::ui::terminal::status_line::show_while;
use crate::ui::text_table::{TableRow, TextTable};
use crate::view::text::{count_text, printable};

#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// List the agents of the agents file, without connecting to them
    List(AgentsArgs),
    /// Add an agent to the agents file: a program after `--`, or the URL of a server
    Add(AddArgs),
    /// Remove an agent from the agents file
    Remove(RemoveArgs),
    /// Add the agents of other hosts, such as Claude Code, Cursor, Codex, or Visual Studio Code
    Import(ImportArgs),
    /// Connect to agents and report whether each works
    Test(AgentsArgs),
    /// List the tools of agents, or describe one tool: `kapell agents tools AGENT.TOOL`
    Tools(OffersArgs),
    /// List the resources and resource templates of agents
    Resources(OffersArgs),
    /// List the prompts of agents
    Prompts(OffersArgs),
    /// Complete an argument of a prompt, or a variable of a resource template
    Complete(CompleteArgs),
    /// Print what an agent wrote to its standard error
    Logs(AgentLogsArgs),
    /// Log in to the server of an agent
    Login(LoginArgs),
    /// Forget the login of an agent
    Logout(LogoutArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AgentsArgs {
    /// Only these agents
    #[arg(add = completion::agents())]
    names: Vec<String>,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    output: OutputFormat,
}

#[derive(Debug, Args)]
pub(crate) struct OffersArgs {
    #[command(flatten)]
    selection: AgentsArgs,
    #[command(flatten)]
    refresh: RefreshArg,
}

pub(crate) async fn agents(command: AgentsCommand) -> Result<Exit, CliError> {
    match command {
        AgentsCommand::List(args) => {
            let file = files::load_agents(&args.agents)?;
            let options = runtime::connect_options(&file, None)?;
            let disabled: Vec<AgentId> = match args.names.is_empty() {
                true => file.disabled.clone(),
                false => Vec::new(),
            };
            let specs = selected_agents(file, &args)?;
            let with_logins: Vec<_> = specs.iter().map(|spec| (spec, login_info(spec, &options))).collect();
            if specs.is_empty() && disabled.is_empty() {
                report_no_agents(&args.agents);
            }
            match args.output {
                OutputFormat::Json => print_json(&with_logins.iter().map(agent_json).collect::<Value>())?,
                OutputFormat::Text if specs.is_empty() && disabled.is_empty() => {}
                OutputFormat::Text => print_styled(&agents_table(&with_logins, &disabled))?,
            }
            Ok(Exit::Success)
        }
        AgentsCommand::Add(args) => add(&args),
        AgentsCommand::Remove(args) => remove(&args),
        AgentsCommand::Import(args) => import(args).await,
        AgentsCommand::Test(args) => {
            let (specs, probes) = discover_agents(&args, Freshness::Current).await?;
            match args.output {
                OutputFormat::Json => print_json(&probes.iter().map(probe_json).collect::<Value>())?,
                OutputFormat::Text if probes.is_empty() => {}
                OutputFormat::Text => print_styled(&wrapped(&probes_table(&probes), output_width()))?,
            }
            Ok(exit_code(&specs, &probes))
        }
        AgentsCommand::Tools(args) => match args.selection.names.as_slice() {
            [name] if name.contains('.') => describe_tool(name, &args).await,
            _ => list_offers(&args, tools_json, print_tools).await,
        },
        AgentsCommand::Logs(args) => agent_logs(&args),
        AgentsCommand::Login(args) => login(args).await,
        AgentsCommand::Logout(args) => logout(&args),
        AgentsCommand::Resources(args) => list_offers(&args, resources_json, print_resources).await,
        AgentsCommand::Prompts(args) => list_offers(&args, prompts_json, print_prompts).await,
        AgentsCommand::Complete(args) => complete(args).await,
    }
}

/// Prints everything about the tool that `AGENT.TOOL` names.
async fn describe_tool(target: &str, args: &OffersArgs) -> Result<Exit, CliError> {
    let target = ToolTarget::load(&args.selection.agents, target)?;
    let tool = target.find_tool(args.refresh.freshness()).await?;
    match args.selection.output {
        OutputFormat::Json => print_json(&tool)?,
        OutputFormat::Text => print_tool(&target.agent.id, &tool)?,
    }
    Ok(Exit::Success)
}

/// Prints what the agents offer.
async fn list_offers(
    args: &OffersArgs,
    to_json: impl Fn(&AgentInfo) -> JsonObject,
    print: impl Fn(&AgentId, &AgentInfo) -> Result<(), CliError>,
) -> Result<Exit, CliError> {
    let (specs, probes) = discover_agents(&args.selection, args.refresh.freshness()).await?;
    match args.selection.output {
        OutputFormat::Json => print_json(&probes.iter().map(|probe| offers_json(probe, &to_json)).collect::<Value>())?,
        OutputFormat::Text => {
            for AgentProbe { agent, result, .. } in &probes {
                match result {
                    Ok(info) => {
                        print(agent, info)?;
                        for warning in &info.warnings {
                            message!("{agent}  warning  {}", printable(warning));
                        }
                    }
                    Err(failure) => message!("{agent}  failed  {}", printable(&failure.message)),
                }
            }
            if probes.iter().any(|probe| probe.cached_at.is_some()) {
                message!("as offered within the last day; `--refresh` asks the agents again");
            }
        }
    }
    Ok(exit_code(&specs, &probes))
}

/// Returns the description of what an agent offers, or its failure.
fn offers_json(AgentProbe { agent, result, .. }: &AgentProbe, to_json: impl Fn(&AgentInfo) -> JsonObject) -> Value {
    match result {
        Ok(info) => {
            let mut line = json!({"agent": agent, "ok": true});
            for (key, value) in to_json(info) {
                line[key] = value;
            }
            line["warnings"] = json!(info.warnings);
            line
        }
        Err(failure) => json!({"agent": agent, "ok": false, "error": failure}),
    }
}

/// Asks the agents that the command line names, or all of them, what they offer.
async fn discover_agents(
    args: &AgentsArgs,
    freshness: Freshness,
) -> Result<(Vec<AgentSpec>, Vec<AgentProbe>), CliError> {
    let file = files::load_agents(&args.agents)?;
    let options = runtime::connect_options(&file, None)?;
    let secrets = file.secrets.clone();
    let specs = selected_agents(file, args)?;
    if specs.is_empty() {
        report_no_agents(&args.agents);
    }
    let screen = open_screen()?;
    let host = ReportingHost(report_start(screen.clone(), secrets.clone()));
    let discovery = Discovery::new(options, &secrets, freshness);
    let asked = discovery.probe(specs.clone(), Arc::new(host));
    let mut probes = show_while(&screen, "connecting to agents", asked).await;
    for info in probes.iter_mut().filter_map(|probe| probe.result.as_mut().ok()) {
        let warnings = schema_warnings(&info.tools).await;
        if !warnings.is_empty() {
            Arc::make_mut(info).warnings.extend(warnings);
        }
    }
    Ok((specs, probes))
}

/// Returns a function that prints what the host itself reports about agents while they start.
fn report_start(screen: Screen, secrets: Secrets) -> impl Fn(&Origin, &LogMessage) {
    move |origin, message| {
        if let Some(text) = message.host_text() {
            screen.println(format!("{}  {}", origin.agent, printable(&secrets.mask_text(text))));
        }
    }
}

/// Returns the agents that the command line names, or all of them.
fn selected_agents(file: AgentsFile, args: &AgentsArgs) -> Result<Vec<AgentSpec>, CliError> {
    if let Some(unknown) = args.names.iter().find(|name| !file.agents.contains_key(name.as_str())) {
        return Err(files::unknown_agent(unknown, &file));
    }
    let is_selected =
        |spec: &AgentSpec| args.names.is_empty() || args.names.iter().any(|name| name == spec.id.as_str());
    Ok(file.agents.into_values().filter(is_selected).collect())
}

fn agent_json((agent, login): &(&AgentSpec, Option<LoginInfo>)) -> Value {
    let (transport, address) = address(agent).unzip();
    json!({
        "agent": agent.id,
        "transport": transport,
        "address": address,
        "protocol": agent.protocol,
        "required": agent.policy.required,
        "max_concurrency": agent.policy.max_concurrency,
        "capabilities": agent.capabilities.keys().collect::<Vec<_>>(),
        "login": login,
        "unset_variables": agent.unset_variables,
    })
}

/// Returns the table of the agents, with those that are disabled at its end.
fn agents_table(agents: &[(&AgentSpec, Option<LoginInfo>)], disabled: &[AgentId]) -> String {
    let mut table = TextTable::default();
    table.push(TableRow::header(["agent", "transport", "address", "remarks"]));
    for (agent, login) in agents {
        let (transport, address) = address(agent).unwrap_or_default();
        let remarks = agent_remarks(agent, login.as_ref()).join(", ");
        let row = TableRow::new([agent.id.as_str(), transport, &address, &remarks]);
        let is_unusable = !agent.unset_variables.is_empty();
        table.push(if is_unusable { row.with_style(3, Style::new().red()) } else { row });
    }
    for agent in disabled {
        table.push(
            TableRow::new([agent.as_str(), "", "", "disabled (`enabled = false`)"])
                .with_style(3, Style::new().dimmed()),
        );
    }
    table.to_string()
}

/// Returns what distinguishes an agent from others, and why it cannot be used.
fn agent_remarks(agent: &AgentSpec, login: Option<&LoginInfo>) -> Vec<String> {
    let mut remarks = Vec::new();
    match agent.protocol {
        Protocol::Auto => {}
        Protocol::Legacy => remarks.push("legacy".to_owned()),
        Protocol::Modern => remarks.push("modern".to_owned()),
    }
    if agent.policy.required {
        remarks.push("required".to_owned());
    }
    if !agent.capabilities.is_empty() {
        let names: Vec<&str> = agent.capabilities.keys().map(String::as_str).collect();
        remarks.push(format!("({})", names.join(", ")));
    }
    remarks.extend(login.map(login_text));
    remarks.extend(describe_unset(&agent.unset_variables).map(|unset| format!("unusable: {unset}")));
    remarks
}

/// Reports that a command has nothing to do, and how to add an agent.
fn report_no_agents(arg: &AgentsArg) {
    let files = arg.files(None);
    let path = files.first().map(|path| format!(" in `{}`", path.display())).unwrap_or_default();
    message!("no agents{path}; `kapell agents import` adds those of other hosts, and `kapell agents add` adds one");
}

/// Returns the kind of transport and the address shown to a person. Arguments and queries can hold secrets and are
/// omitted, except for the name of a package. Returns `None` if a variable that is not set hides them.
fn address(agent: &AgentSpec) -> Option<(&'static str, String)> {
    match &agent.transport {
        Transport::Stdio(child) if child.command.is_empty() => None,
        Transport::Stdio(child) => {
            // A word after another option could be its value.
            let first = child.args.iter().find(|word| !matches!(word.as_str(), "-y" | "--yes"));
            let package = child.installation().and_then(|installation| installation.package);
            let package = package.filter(|package| first.is_some_and(|first| first == package));
            Some((
                "stdio",
                package.map_or_else(|| child.command.clone(), |package| format!("{} {package}", child.command)),
            ))
        }
        Transport::Http { url, .. } => Some(("http", redact_url(url))),
    }
}

/// Returns the numbers of resources, resource templates, and prompts; `None` for a list that the agent refuses.
fn offer_counts(info: &AgentInfo) -> [Option<usize>; 3] {
    let Some(offers) = info.offers.as_deref() else { return [None; 3] };
    [
        offers.resources.as_ref().map(Vec::len),
        offers.resource_templates.as_ref().map(Vec::len),
        offers.prompts.as_ref().map(Vec::len),
    ]
}

/// Returns the numbers of tools, resources, and prompts. Only the number of tools is shown if it is zero.
fn offered_text(info: &AgentInfo) -> String {
    let others = offer_counts(info).into_iter().zip(["resource", "resource template", "prompt"]);
    let others = others.filter_map(|(number, kind)| number.filter(|number| *number > 0).zip(Some(kind)));
    let tools = count_text(info.tools.len(), "tool");
    let parts = iter::once(tools).chain(others.map(|(number, kind)| count_text(number, kind)));
    parts.collect::<Vec<_>>().join(", ")
}

fn probe_json(probe: &AgentProbe) -> Value {
    let AgentProbe { agent, result, duration, .. } = probe;
    match result {
        Ok(info) => {
            let [resources, resource_templates, prompts] = offer_counts(info);
            json!({
                "agent": agent, "ok": true, "protocol": info.protocol, "server": info.server,
                "transport": info.transport, "quirks": info.quirks, "instructions": info.instructions,
                "tools": info.tools.len(), "resources": resources, "resource_templates": resource_templates,
                "prompts": prompts, "milliseconds": duration.as_millis(), "warnings": info.warnings,
            })
        }
        Err(failure) => json!({
            "agent": agent, "ok": false, "error": failure, "milliseconds": duration.as_millis(),
        }),
    }
}

/// Returns the table of what was found out about agents.
fn probes_table(probes: &[AgentProbe]) -> String {
    let mut table = TextTable::default();
    table.push(TableRow::header(["agent", "status", "time", "offers"]));
    for AgentProbe { agent, result, duration, .. } in probes {
        table.push(match result {
            Ok(info) => {
                let time = format!("{} ms", duration.as_millis());
                let row = TableRow::new([agent.as_str(), "ok", &time, &offered_text(info)]);
                let row = row.with_style(1, Style::new().green());
                let server = info.server.as_deref().unwrap_or("(unnamed server)");
                let transport = info.transport.map(|transport| format!(" over {}", transport.name()));
                let server = format!("{server}, MCP {}{}", info.protocol, transport.unwrap_or_default());
                let quirks = info.quirks.iter().map(|quirk| format!("known: {}", quirk.description()));
                let instructions = info.instructions.iter().map(|text| format!("instructions: {}", summary(text)));
                let warnings = info.warnings.iter().map(|warning| format!("warning: {warning}"));
                iter::once(server).chain(quirks).chain(instructions).chain(warnings).fold(row, TableRow::with_detail)
            }
            Err(failure) => {
                let row = TableRow::new([agent.as_str(), "failed"]).with_style(1, Style::new().red());
                let help = failure.help.iter().map(|help| format!("help: {help}"));
                iter::once(failure.message.clone()).chain(help).fold(row, TableRow::with_detail)
            }
        });
    }
    table.to_string()
}

/// The maximum length of a summary in characters.
const MAX_SUMMARY_CHARS: usize = 160;

/// Returns the beginning of a text of an agent on one line.
fn summary(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    printable(&truncate_chars(&line, MAX_SUMMARY_CHARS)).into_owned()
}

/// Returns the exit code. A required agent that failed outweighs any other.
fn exit_code(agents: &[AgentSpec], probes: &[AgentProbe]) -> Exit {
    let failed = |probe: &&AgentProbe| probe.result.is_err();
    let required = |probe: &AgentProbe| agents.iter().any(|agent| agent.id == probe.agent && agent.policy.required);
    if probes.iter().filter(failed).any(required) {
        Exit::AgentUnavailable
    } else if probes.iter().any(|probe| probe.result.is_err()) {
        Exit::Failed
    } else {
        Exit::Success
    }
}
