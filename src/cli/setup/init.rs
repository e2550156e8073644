//! `kapell init`: writes a first agents file, a first plan, and the schemas that editors check both with.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::import_sources::{ImportSources, read_places};
use crate::cli::common::confirm::confirm;
use crate::cli::common::exit::show_diagnostics;
use crate::cli::common::run_options::speaks_for_a_person;
use crate::cli::plans::schema::{SchemaFormat, schema_text};
use crate::cli::{CliError, Exit};
use crate::config::{AgentsDocument, ImportSelection};
use crate::system::environment;
use crate::view::text::{count_text, printable};

const AGENTS_FILE: &str = "agents.toml";
const PLAN_FILE: &str = "plan.yaml";
const AGENTS_SCHEMA: &str = "agents.schema.json";
const PLAN_SCHEMA: &str = "plan.schema.json";

/// The time for the list of models of an endpoint on this machine.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// The maximum size of that list.
const MAX_LIST_BYTES: usize = 1024 * 1024;

/// The usual addresses of model servers on this machine, with the provider that names their settings.
const LOCAL_ENDPOINTS: [(&str, u16, Option<&str>); 4] = [
    ("Ollama", 11434, Some("ollama")),
    ("llama.cpp", 8080, Some("llama.cpp")),
    ("LM Studio", 1234, None),
    ("vLLM", 8000, Some("vllm")),
];

/// The variables with the keys of providers, and a model of each.
const PROVIDER_KEYS: [(&str, &str, &str); 6] = [
    ("OPENAI_API_KEY", "openai", "gpt-5-mini"),
    ("ANTHROPIC_API_KEY", "anthropic", "claude-haiku-4-5"),
    ("GEMINI_API_KEY", "gemini", "gemini-2.5-flash"),
    ("MISTRAL_API_KEY", "mistral", "mistral-small-latest"),
    ("DEEPSEEK_API_KEY", "deepseek", "deepseek-chat"),
    ("OPENROUTER_API_KEY", "openrouter", "openai/gpt-5-mini"),
];

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
    let has_agents = Path::new(AGENTS_FILE).exists();
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
        message!("      `kapell run {PLAN_FILE}` runs the plan, and `kapell result` shows its result again");
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

/// Returns the section of a language model that was found and is wanted, or a comment that shows how to add one.
async fn model_text(args: &InitArgs) -> String {
    let Some((found, section)) = find_model().await else {
        return "# A language model plans goals, and answers the sampling requests of agents:\n\
                # [llm]\n# provider = \"ollama\"\n# model = \"qwen3:8b\"\n\n"
            .to_owned();
    };
    message!("found {found}");
    match args.yes || confirm("use it as the language model?").await {
        true => section + "\n",
        false => String::new(),
    }
}

/// Finds a model server on this machine, or the key of a provider. Returns its description and its section.
async fn find_model() -> Option<(String, String)> {
    let client = reqwest::Client::builder().no_proxy().timeout(PROBE_TIMEOUT).tls_certs_only([]).build().ok()?;
    for (name, port, provider) in LOCAL_ENDPOINTS {
        if let Some(model) = first_model(&client, port).await {
            let place = match provider {
                Some(provider) => format!("provider = \"{provider}\""),
                None => format!("base_url = \"http://127.0.0.1:{port}/v1\""),
            };
            let model = Value::String(model);
            let section = format!("[llm]\n{place}\nmodel = {model}\n");
            return Some((format!("{name} with the model {}", printable(&model.to_string())), section));
        }
    }
    let (variable, provider, model) =
        PROVIDER_KEYS.into_iter().find(|(variable, ..)| environment::variable(variable).is_some())?;
    let section = format!("[llm]\nprovider = \"{provider}\"\nmodel = \"{model}\"\napi_key_env_var = \"{variable}\"\n");
    Some((format!("the key of {provider} in `{variable}`"), section))
}

/// Returns the first model of an OpenAI-compatible server on this machine.
async fn first_model(client: &reqwest::Client, port: u16) -> Option<String> {
    let response = client.get(format!("http://127.0.0.1:{port}/v1/models")).send().await.ok()?;
    let is_list = response.status().is_success()
        && response.content_length().is_none_or(|length| length <= MAX_LIST_BYTES as u64);
    let body = if is_list { response.bytes().await.ok()? } else { return None };
    let list: Value = serde_json::from_slice(body.get(..body.len().min(MAX_LIST_BYTES))?).ok()?;
    Some(list.pointer("/data/0/id")?.as_str()?.to_owned())
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
        Err(error) => Err(CliError::failed("cli::unwritable", format!("cannot write `{path}`"), error)),
    }
}
