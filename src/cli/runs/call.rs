//! `kapell call`: calls one tool, as a run of its own.

use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::common::execute::{KnownAgents, execute, start_guard};
use crate::cli::common::files;
use crate::cli::common::run_context::{RunContext, interruptible, unused_run_id};
use crate::cli::common::run_options::{Interaction, RunOptions};
use crate::cli::common::tool_target::ToolTarget;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::config::{self, AgentsFile};
use crate::engine::NewRun;
use crate::expression::closest_match;
use crate::model::{AgentId, Answer, JsonObject, Plan, RunSource, ToolInfo};
use crate::runtime::{Freshness, jitter_seed};
use crate::ui::forms::form::FormSchema;
use crate::ui::forms::form_prompt::parse_fields;
use crate::ui::human::HumanResponse;

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The agent and the tool; `kapell agents tools` lists them
    #[arg(value_name = "AGENT.TOOL", add = completion::tools())]
    target: String,
    /// An argument; the schema of the tool decides about its type
    #[arg(value_name = "KEY=VALUE", add = completion::tool_arguments())]
    arguments: Vec<String>,
    /// Arguments as a JSON object; `KEY=VALUE` has precedence
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    json: Option<JsonObject>,
    #[command(flatten)]
    options: RunOptions,
}

/// Parses a JSON object of a command line.
pub(super) fn parse_object(text: &str) -> Result<JsonObject, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a JSON object: {error}"))
}

pub(crate) async fn call(args: CallArgs) -> Result<Exit, CliError> {
    args.options.check_speaker()?;
    let target = ToolTarget::load(&args.options.agents, &args.target)?;
    if target.agent.transport.child_process().is_some() {
        start_guard()?;
    }
    let agents_files = args.options.agents.files(None);
    let tool = target.find_tool(Freshness::Cached).await?;
    let ToolTarget { agent, file: agents, .. } = target;
    let context = RunContext::new(unused_run_id(&args.options.journal)?, &args.options, Interaction::Terminal)?;
    let mut given = args.json.unwrap_or_default();
    given.extend(parse_arguments(&args.target, &tool, &args.arguments)?);
    let given = match ask_for_missing(&context, &args.target, &tool, given).await? {
        Ok(given) => given,
        Err(exit) => return Ok(exit),
    };
    let (plan, plan_hash) = call_plan(&agent.id, &tool, &given, &agents)?;
    let inputs = Arc::new(json!({"arguments": given}));
    let (agents_path, user_agents) = files::agents_source(&agents_files);
    let source = RunSource { plan: None, plan_hash, agents: agents_path, user_agents, params: None };
    let seed = jitter_seed(&context.run);
    let new_run =
        NewRun { plan: Arc::new(plan), inputs, seed, planning: None, source: Some(Arc::new(source)), id: None };
    execute(context, agents, KnownAgents::default(), new_run.into()).await
}

/// Parses arguments of the form `KEY=VALUE`, as the schema of the tool types them.
///
/// # Errors
/// Names the argument that is unknown or does not fit, and what is expected.
pub(super) fn parse_arguments(target: &str, tool: &ToolInfo, given: &[String]) -> Result<JsonObject, CliError> {
    let invalid = |message: String, help: String| CliError::usage("cli::invalid_argument", message, help);
    let properties = tool.input_schema.get("properties").and_then(Value::as_object);
    let names = || properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str));
    let has_other_properties =
        tool.input_schema.get("additionalProperties").is_some_and(|others| *others != json!(false));
    for pair in given {
        let name = pair.split_once('=').map_or(pair.as_str(), |(name, _)| name);
        if properties.is_some_and(|properties| !properties.contains_key(name)) && !has_other_properties {
            let help = match (closest_match(name, names()), names().collect::<Vec<_>>()) {
                (Some(similar), _) => format!("did you mean `{similar}`?"),
                (None, names) if names.is_empty() => "it has no arguments".to_owned(),
                (None, names) => format!("it has {}", names.join(", ")),
            };
            return Err(invalid(format!("tool `{target}` has no argument `{name}`"), help));
        }
    }
    let form = FormSchema::parse_schema(&tool.input_schema);
    parse_fields(&form, given)
        .map_err(|problem| invalid(problem, format!("`kapell agents tools {target}` describes the arguments")))
}

/// Asks a person for required arguments that are missing. Returns the exit code if the person dismisses the form.
///
/// # Errors
/// Fails if arguments are missing and a person cannot be asked.
async fn ask_for_missing(
    context: &RunContext,
    target: &str,
    tool: &ToolInfo,
    mut given: JsonObject,
) -> Result<Result<JsonObject, Exit>, CliError> {
    let required = tool.input_schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let properties = tool.input_schema.get("properties").and_then(Value::as_object);
    // The default of a required property is filled in when the tool is called.
    let has_default =
        |name: &str| properties.is_some_and(|map| map.get(name).is_some_and(|it| it.get("default").is_some()));
    let missing: Vec<&str> =
        required.filter_map(Value::as_str).filter(|name| !given.contains_key(*name) && !has_default(name)).collect();
    if missing.is_empty() {
        return Ok(Ok(given));
    }
    if context.human.is_person_here() {
        let form = form_for(&tool.input_schema, &missing);
        match interruptible(&context.screen, async { Ok(context.human.fill_form(target, &form).await) }).await? {
            HumanResponse::Answered { answer: Answer::Accept { content }, .. } => {
                given.extend(content.and_then(|content| content.as_object().cloned()).unwrap_or_default());
                return Ok(Ok(given));
            }
            HumanResponse::Answered { .. } | HumanResponse::AllApproved { .. } => return Ok(Err(Exit::Denied)),
            HumanResponse::Deferred { .. } => {}
        }
    }
    let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
    Err(CliError::usage(
        "cli::missing_argument",
        format!("tool `{target}` requires {}", names.join(", ")),
        format!("pass {}=VALUE, or an object with `--json`", missing[0]),
    ))
}

/// Returns the schema of a form for some properties. It keeps the definitions that they may refer to.
fn form_for(schema: &JsonObject, names: &[&str]) -> JsonObject {
    let mut form = schema.clone();
    form.insert("required".to_owned(), json!(names));
    if let Some(Value::Object(properties)) = form.get_mut("properties") {
        properties.retain(|name, _| names.contains(&name.as_str()));
    }
    form
}

/// Returns the plan of the run, and a hash of its text. The plan is one task, whose arguments are an input, so that
/// nothing in them is an expression.
fn call_plan(
    agent: &AgentId,
    tool: &ToolInfo,
    arguments: &JsonObject,
    agents: &AgentsFile,
) -> Result<(Plan, String), CliError> {
    let name = format!("{agent}.{}", tool.name);
    let with: JsonObject = arguments
        .keys()
        .map(|key| (key.clone(), format!("${{{{ inputs.arguments[{}] }}}}", json!(key)).into()))
        .collect();
    let id = if config::is_name(&tool.name) { tool.name.as_str() } else { "call" };
    let plan = json!({
        "name": name,
        "inputs": {"arguments": {"type": "object", "required": true}},
        "tasks": [{"id": id, "agent": agent, "tool": tool.name, "with": with}],
    });
    let text = plan.to_string();
    Ok((config::load_plan(&name, &text, agents, None)?.plan, config::fingerprint_of(&text)))
}
