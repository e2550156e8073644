//! `kapell init`: writes a first agents file, a first plan, and the schemas that editors check both with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};

use clap::Args;
use serde_json::Value;

use crate::cli::common::confirm::confirm;
use crate::cli::common::exit::show_diagnostics;
use crate::cli::common::goal::PLAN_SCHEMA;
use crate::cli::common::run_options::speaks_for_a_person;
use crate::cli::import::import_sources::{ImportSources, read_places};
use crate::cli::plans::schema::{SchemaFormat, schema_text};
use crate::cli::{CliError, Exit};
use crate::config::{AgentsDocument, ImportSelection};
use crate::llm::{FoundServer, LocalServer, find_local_models};
use crate::system::environment;
use crate::view::text::{count_text, printable};

const AGENTS_FILE: &str = "agents.toml";
const PLAN_FILE: &str = "plan.yaml";
const AGENTS_SCHEMA: &str = "agents.schema.json";

/// The variables with the keys of providers, and a model of each.
const PROVIDER_KEYS: [(&str, &str, &str); 6] = [
    ("OPENAI_API_KEY", "openai", "gpt-5-mini"),
    ("ANTHROPIC_API_KEY", "anthropic", "claude-haiku-4-5"),
    ("GEMINI_API_KEY", "gemini", "gemini-2.5-flash"),
    ("MISTRAL_API_KEY", "mistral", "mistral-small-latest"),
    ("DEEPSEEK_API_KEY", "deepseek", "deepseek-chat"),
    ("OPENROUTER_API_KEY", "openrouter", "openai/gpt-5-mini"),
];

/// The maximum number of other models that are named.
const MAX_OTHER_MODELS: usize = 8;

/// The agents of the first plan.
const DEMO_AGENTS: &str = r#"
# Two agents that are a part of kapell, for plan.yaml. Remove them when you have a plan of your own.
[agents.demo-research]
command = "${KAPELL}"
args = ["demo-agent", "research"]

[agents.demo-archive]
command = "${KAPELL}"
args = ["demo-agent", "archive"]
"#;

const PLAN: &str = r#"# yaml-language-server: $schema=plan.schema.json
#
#   kapell run plan.yaml
#   kapell run plan.yaml --param topic=Kyoto
name: first
description: Finds books about a topic, and stores the list as a document

inputs:
  topic: { type: string, default: Lisbon, description: What to read about }

tasks:
  - id: read
    agent: demo-research
    tool: research
    with: { topic: "${{ inputs.topic }}" }

  # The reference to `read` makes this task wait for it.
  - id: store
    agent: demo-archive
    tool: store_document
    with: { title: "Books about ${{ inputs.topic }}", text: "${{ tasks.read.text }}" }

outputs:
  books: ${{ tasks.read.text }}
"#;

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Ask nothing: import all agents of other hosts, and use the first language model that is found
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn init(args: InitArgs) -> Result<Exit, CliError> {
    // A new agent is a program that kapell starts.
    speaks_for_a_person()?;
    // A link that leads nowhere stays, too.
    let has_agents = fs::symlink_metadata(AGENTS_FILE).is_ok();
    if has_agents {
        message!("{AGENTS_FILE} exists, and stays as it is; `kapell agents import` adds the agents of other hosts");
    } else {
        let (text, agents) = agents_text(&args).await?;
        write_new(AGENTS_FILE, &text)?;
        message!("wrote {AGENTS_FILE} with {}", count_text(agents, "agent"));
        if write_new(PLAN_FILE, PLAN)? {
            message!("wrote {PLAN_FILE}");
        }
    }
    for (file, format) in [(AGENTS_SCHEMA, SchemaFormat::Agents), (PLAN_SCHEMA, SchemaFormat::Plan)] {
        if write_new(file, &schema_text(format)?)? {
            message!("wrote {file}");
        }
    }
    message!("next: `kapell agents test` connects to the agents");
    if !has_agents {
        message!("      `kapell run {PLAN_FILE}` runs the plan; `kapell result` prints its result");
    }
    Ok(Exit::Success)
}

/// Returns the text of the agents file, and the number of its agents.
async fn agents_text(args: &InitArgs) -> Result<(String, usize), CliError> {
    let mut text = format!("#:schema {AGENTS_SCHEMA}\n\n{}", model_text(args).await);
    let ImportSources { files, broken } = read_places(None);
    broken.iter().for_each(show_diagnostics);
    let (mut selection, mut document) = (ImportSelection::default(), AgentsDocument::default());
    for source in &files {
        let title = source.host.map_or_else(String::new, |host| format!("{}, ", host.title));
        let names: Vec<&str> = source.agents.agents.iter().map(|agent| agent.name.as_str()).collect();
        message!("found {}{}: {}", title, source.path.display(), printable(&names.join(", ")));
        for agent in &source.agents.agents {
            selection.select(&document, &mut agent.clone());
        }
    }
    let found = selection.agents();
    let is_imported =
        !found.is_empty() && (args.yes || confirm(&format!("import {}?", count_text(found.len(), "agent"))).await);
    if is_imported {
        for source in &files {
            source.unpack()?;
        }
        for agent in found {
            document.add(&agent.name, &agent.entry);
            for variable in &agent.variables {
                message!("set the environment variable `{variable}` for agent `{}`", agent.name);
            }
        }
    } else if !found.is_empty() {
        message!("not imported; `kapell agents import` adds them later");
    }
    let imported = document.agent_names().len();
    text += &document.to_string();
    text += if imported == 0 { DEMO_AGENTS.trim_start() } else { DEMO_AGENTS };
    Ok((text, imported + 2))
}

/// A language model that was found, and its section of the agents file.
struct FoundModel {
    /// Where it was found.
    place: String,
    /// The name of the model.
    model: String,
    /// The keys of the section beside the name of the model.
    keys: String,
    /// Other models that could be used.
    others: Vec<String>,
}

/// Returns the section of a language model that was found and is wanted, or a comment that shows how to add one.
async fn model_text(args: &InitArgs) -> String {
    let example = "# A language model plans goals, and answers the sampling requests of agents:\n\
                   # [llm]\n# provider = \"ollama\"\n# model = \"qwen3:8b\"\n\n";
    let Some(found) = find_model().await else {
        message!("no language model was found; plans run without one, and `[llm]` in {AGENTS_FILE} adds one for goals");
        return example.to_owned();
    };
    message!("found {}: {}", found.place, printable(&found.model));
    if !found.others.is_empty() {
        message!("      also: {}", printable(&found.others.join(", ")));
    }
    if !args.yes && !confirm(&format!("use {} as the language model?", printable(&found.model))).await {
        message!("no language model is configured; `[llm]` in {AGENTS_FILE} adds one later");
        return example.to_owned();
    }
    message!("`{}` is the language model; to change it, edit `[llm]` in {AGENTS_FILE}", printable(&found.model));
    format!("[llm]\n{}model = {}\n\n", found.keys, Value::String(found.model))
}

/// Finds a model server on this machine, or else the key of a provider.
async fn find_model() -> Option<FoundModel> {
    let servers = find_local_models(LocalServer::usual()).await;
    let named = |FoundServer { server, models }: &FoundServer| {
        models.iter().map(|model| format!("{model} ({})", server.program)).collect::<Vec<_>>()
    };
    let mut others: Vec<String> = servers.iter().flat_map(named).skip(1).take(MAX_OTHER_MODELS).collect();
    let keys = PROVIDER_KEYS.into_iter().filter(|(variable, ..)| environment::variable(variable).is_some());
    let keys: Vec<(&str, &str, &str)> = keys.collect();
    let local = servers.into_iter().next().and_then(|FoundServer { server, models }| {
        let keys = match server.provider {
            Some(provider) => format!("provider = \"{provider}\"\n"),
            None => format!("base_url = \"{}\"\n", server.base_url),
        };
        Some(FoundModel {
            place: format!("{} at {}", server.program, server.base_url),
            model: models.into_iter().next()?,
            keys,
            others: Vec::new(),
        })
    });
    let key = |(variable, provider, model): &(&str, &str, &str)| FoundModel {
        place: format!("the key of {provider} in `{variable}`"),
        model: (*model).to_owned(),
        keys: format!("provider = \"{provider}\"\napi_key_env_var = \"{variable}\"\n"),
        others: Vec::new(),
    };
    let remaining = if local.is_some() { &keys[..] } else { keys.get(1..).unwrap_or_default() };
    others.extend(remaining.iter().map(|(variable, provider, _)| format!("{provider} (`{variable}`)")));
    let found = local.or_else(|| keys.first().map(key))?;
    Some(FoundModel { others, ..found })
}

/// Writes a file, unless it exists. Returns whether it was written.
fn write_new(path: &str, text: &str) -> Result<bool, CliError> {
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    match created.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            message!("{path} exists, and stays as it is");
            Ok(false)
        }
        Err(error) => {
            let place = std::env::current_dir().unwrap_or_default();
            let message = format!("cannot write `{path}` in `{}`: {error}", place.display());
            Err(CliError::usage("cli::unwritable", message, "run `kapell init` in a directory that you can write to"))
        }
    }
}
