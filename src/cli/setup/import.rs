//! `kapell agents import`: adds the agents of other hosts to the agents file.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use serde_json::{Value, json};

use super::agents_editor::AgentsEditor;
use crate::cli::common::args::{AgentsArg, OutputFormat};
use crate::cli::common::confirm::confirm;
use crate::cli::common::exit::{print, print_json, show_diagnostics};
use crate::cli::common::run_options::speaks_for_a_person;
use crate::cli::import::import_sources::{ImportSource, ImportSources, read_file, read_places};
use crate::cli::{CliError, Exit};
use crate::config::{AgentEntry, AgentsDocument, HOSTS, ImportSelection, ImportStatus, ImportedAgent, McpHost};
use crate::view::text::{count_text, printable};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A file of another host, a `server.json` of the MCP registry, or a bundle (`.mcpb`); - for standard input [default:
    /// the files of all hosts]
    path: Option<PathBuf>,
    /// The host whose file it is, or whose files are read
    #[arg(long, value_name = "HOST", value_parser = host_parser())]
    from: Option<&'static McpHost>,
    #[command(flatten)]
    agents: AgentsArg,
    /// Add the agents without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputFormat,
}

/// Returns a parser of the names of hosts.
fn host_parser() -> impl clap::builder::TypedValueParser<Value = &'static McpHost> {
    PossibleValuesParser::new(HOSTS.iter().map(|host| PossibleValue::new(host.name).help(host.title)))
        .try_map(|name| McpHost::find(&name).ok_or("unknown host"))
}

/// An imported agent, and what happens to it.
struct Candidate {
    agent: ImportedAgent,
    status: ImportStatus,
}

pub(crate) async fn import(args: ImportArgs) -> Result<Exit, CliError> {
    let mut editor = AgentsEditor::open(&args.agents)?;
    let sources = match &args.path {
        Some(path) => ImportSources { files: vec![read_file(path, args.from)?], broken: Vec::new() },
        None => read_places(args.from),
    };
    let mut selection = ImportSelection::default();
    let mut select = |agent: &ImportedAgent| {
        let mut agent = agent.clone();
        let status = selection.select(editor.document(), &mut agent);
        Candidate { agent, status }
    };
    let candidates: Vec<Vec<Candidate>> =
        sources.files.iter().map(|source| source.agents.agents.iter().map(&mut select).collect()).collect();
    let mut added = AgentsDocument::default();
    for agent in selection.agents() {
        added.add(&agent.name, &agent.entry);
        editor.document().add(&agent.name, &agent.entry);
    }
    if args.output == OutputFormat::Text {
        print(&describe(&sources.files, &candidates, &editor))?;
        if !selection.agents().is_empty() {
            print(&format!("\n{added}"))?;
        }
    }
    sources.broken.iter().for_each(show_diagnostics);
    let is_written = !selection.agents().is_empty() && is_confirmed(&args, &selection, &editor).await?;
    if is_written {
        sources.files.iter().try_for_each(ImportSource::unpack)?;
        editor.save()?;
    }
    let path = editor.path().display().to_string();
    match args.output {
        OutputFormat::Json => print_json(&json!({
            "path": path,
            "written": is_written,
            "files": sources.files.iter().zip(&candidates).map(source_json).collect::<Vec<_>>(),
            "broken": sources.broken,
        }))?,
        OutputFormat::Text if is_written => {
            message!("added {} to `{path}`", count_text(selection.agents().len(), "agent"));
            for agent in selection.agents() {
                for variable in &agent.variables {
                    message!("set the environment variable `{variable}` for agent `{}`", agent.name);
                }
            }
            message!("`kapell agents test` connects to them");
        }
        OutputFormat::Text if selection.agents().is_empty() => message!("nothing to add to `{path}`"),
        OutputFormat::Text => message!("nothing was written; `kapell agents import --yes` adds the agents to `{path}`"),
    }
    Ok(if sources.broken.is_empty() { Exit::Success } else { Exit::Usage })
}

/// Returns whether the agents may be added: `--yes` is given, or a person at the terminal says so.
async fn is_confirmed(args: &ImportArgs, selection: &ImportSelection, editor: &AgentsEditor) -> Result<bool, CliError> {
    if args.yes {
        speaks_for_a_person()?;
        return Ok(true);
    }
    if args.output == OutputFormat::Json || speaks_for_a_person().is_err() {
        return Ok(false);
    }
    let count = count_text(selection.agents().len(), "agent");
    Ok(confirm(&format!("add {count} to `{}`?", editor.path().display())).await)
}

/// Returns the list of all agents: `+` is added, `=` is there already, and `-` is skipped.
fn describe(files: &[ImportSource], candidates: &[Vec<Candidate>], editor: &AgentsEditor) -> String {
    let mut text = String::new();
    for (source, candidates) in files.iter().zip(candidates) {
        let title = source.host.map(|host| format!("{}  ", host.title)).unwrap_or_default();
        text += &format!("{title}{}\n", source.path.display());
        for Candidate { agent, status } in candidates {
            let (sign, suffix) = match status {
                ImportStatus::New => ('+', String::new()),
                ImportStatus::Duplicate => ('=', "  the same as another agent".to_owned()),
                ImportStatus::Exists => ('=', format!("  `{}` has an agent with this name", editor.path().display())),
            };
            text += &format!("  {sign} {}  {}{suffix}\n", agent.name, summary(&agent.entry));
            if *status == ImportStatus::New {
                let variables = agent.variables.iter().map(|name| format!("set the environment variable `{name}`"));
                for line in variables.chain(agent.remarks.iter().cloned()) {
                    text += &format!("      {}\n", printable(&line));
                }
            }
        }
        for skipped in &source.agents.skipped {
            text += &format!("  - {}  {}\n", printable(&skipped.name), printable(&skipped.reason));
        }
    }
    text
}

/// Returns the address or the command line of an agent.
fn summary(entry: &AgentEntry) -> String {
    let words = entry.command.iter().chain(&entry.args).map(String::as_str);
    let line = entry.url.clone().unwrap_or_else(|| words.collect::<Vec<_>>().join(" "));
    printable(&line).into_owned()
}

fn source_json((source, candidates): (&ImportSource, &Vec<Candidate>)) -> Value {
    let agent = |Candidate { agent, status }: &Candidate| {
        json!({
            "name": agent.name,
            "status": match status {
                ImportStatus::New => "new",
                ImportStatus::Duplicate => "duplicate",
                ImportStatus::Exists => "exists",
            },
            "entry": agent.entry,
            "variables": agent.variables,
            "remarks": agent.remarks,
        })
    };
    let skipped = source.agents.skipped.iter().map(|agent| json!({"name": agent.name, "reason": agent.reason}));
    json!({
        "host": source.host.map(|host| host.name),
        "file": source.path,
        "agents": candidates.iter().map(agent).collect::<Vec<_>>(),
        "skipped": skipped.collect::<Vec<_>>(),
    })
}
