//! `kapell validate`: reports all diagnostics of a plan and its agents file. No tool is called.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::HostError;
use crate::cli::common::args::{AgentsArg, OutputFormat, RefreshArg};
use crate::cli::common::exit::{print_json, show_diagnostics};
use crate::cli::common::files;
use crate::cli::common::run_context::open_screen;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::config::{self, Diagnostics};
use crate::model::{AgentId, AgentSpec};
use crate::runtime::shutdown;
use crate::runtime::{self, Discovery};
use crate::ui::terminal::status_line::show_while;
use crate::view::text::printable;

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The plan, or - for standard input
    #[arg(add = completion::plans())]
    plan: String,
    #[command(flatten)]
    agents: AgentsArg,
    /// Check again whenever the plan or the agents file changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Do not connect to agents to check tools and arguments
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    refresh: RefreshArg,
    #[command(flatten)]
    output: OutputFormat,
}

pub(crate) async fn validate(args: ValidateArgs) -> Result<Exit, CliError> {
    match args.watch {
        true => watch(&args).await,
        false => report(&args, find_warnings(&args).await),
    }
}

/// Prints the diagnostics of a plan.
fn report(args: &ValidateArgs, checked: Result<(Diagnostics, Vec<AgentWarnings>), CliError>) -> Result<Exit, CliError> {
    match checked {
        Ok((warnings, agents)) => {
            match args.output {
                OutputFormat::Json => {
                    let mut result = json!({"valid": true, "diagnostics": warnings});
                    if !agents.is_empty() {
                        result["agents"] = json!(agents);
                    }
                    print_json(&result)?;
                }
                OutputFormat::Text => {
                    for AgentWarnings { agent, warnings } in &agents {
                        for warning in warnings {
                            message!("warning: agent `{agent}`: {}", printable(warning));
                        }
                    }
                    if !warnings.is_empty() {
                        show_diagnostics(&warnings);
                    }
                    message!("{} is valid", args.plan);
                }
            }
            Ok(Exit::Success)
        }
        Err(CliError::File(diagnostics)) if args.output == OutputFormat::Json => {
            print_json(&json!({"valid": false, "diagnostics": diagnostics}))?;
            Ok(Exit::Usage)
        }
        Err(error) => Err(error),
    }
}

/// How often the files are compared with their last state.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Checks the plan again whenever one of its files has changed, until a signal ends the command.
async fn watch(args: &ValidateArgs) -> Result<Exit, CliError> {
    if args.plan == "-" {
        return Err(CliError::usage(
            "cli::watched_stdin",
            "standard input cannot be watched",
            "pass a plan file, or leave out `--watch`",
        ));
    }
    let ended = shutdown::interrupted().map_err(HostError::Signals)?;
    tokio::pin!(ended);
    let mut last = None;
    loop {
        let state = Some(file_states(args));
        if last != state {
            let is_first = last.is_none();
            last = state;
            let checked = tokio::select! {
                checked = find_warnings(args) => checked,
                () = &mut ended => return Ok(Exit::Success),
            };
            if !is_first && args.output == OutputFormat::Text {
                message!("");
            }
            // An invalid plan is changed until it is valid.
            if let Err(error) = report(args, checked) {
                let _ = error.report_to(args.output);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            () = &mut ended => return Ok(Exit::Success),
        }
    }
}

/// Returns the time of the last change and the size of each file that the diagnostics depend on, if it exists.
fn file_states(args: &ValidateArgs) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
    let agents = args.agents.files(files::plan_path(&args.plan));
    let files = agents.project.into_iter().chain(agents.user).chain(agents.searched);
    let files = std::iter::once(PathBuf::from(&args.plan)).chain(files);
    let state = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.map(|path| (path.clone(), state(&path))).collect()
}

/// The warnings about an agent's own description.
#[derive(Debug, Serialize)]
struct AgentWarnings {
    agent: AgentId,
    warnings: Vec<String>,
}

/// Returns the warnings of a valid plan, and those of its agents.
async fn find_warnings(args: &ValidateArgs) -> Result<(Diagnostics, Vec<AgentWarnings>), CliError> {
    let agents_files = args.agents.files(files::plan_path(&args.plan));
    let (name, text) = files::read_plan_text(&args.plan)?;
    if args.offline && agents_files.first().is_none() {
        message!("without an agents file, the names of agents are not checked");
        return Ok((config::load_plan_without_agents(name, &text)?.warnings, Vec::new()));
    }
    let agents = files::read_agents(&agents_files)?;
    let offline = config::load_plan(name, &text, &agents, None);
    if args.offline {
        return Ok((offline?.warnings, Vec::new()));
    }
    // An invalid plan may still name agents. All agents of the file are asked, so that one pass finds all diagnostics.
    let named = offline.ok().map(|validated| validated.plan.agents);
    let is_named = |agent: &&AgentSpec| named.as_ref().is_none_or(|named| named.contains_key(&agent.id));
    let specs = agents.agents.values().filter(is_named).cloned().collect();
    let options = runtime::connect_options(&agents, None)?;
    let discovery = Discovery::new(options, &agents.secrets, args.refresh.freshness());
    let catalog = show_while(&open_screen()?, "connecting to agents", discovery.catalog(specs)).await;
    let warnings = catalog.iter().filter_map(|(agent, info)| {
        let warnings = info.as_ref().ok()?.warnings.clone();
        (!warnings.is_empty()).then(|| AgentWarnings { agent: agent.clone(), warnings })
    });
    Ok((config::load_plan(name, &text, &agents, Some(&catalog))?.warnings, warnings.collect()))
}
