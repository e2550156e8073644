//! Prints the tools, resources, and prompts of agents, for the commands below `kapell agents`.

use serde_json::{Value, json};

use crate::cli::CliError;
use crate::cli::common::exit::print;
use crate::model::{AgentId, AgentInfo, Effect, Failure, JsonObject, PromptArgument, ResourceDetails};
use crate::view::text::printable;

/// Describes the failure of an agent.
pub(super) fn failure_text(agent: &str, failure: &Failure) -> String {
    let help = failure.help.iter().map(|help| format!("\n    help: {}", printable(help)));
    format!("{agent}  failed  {}{}", printable(&failure.message), help.collect::<String>())
}

/// Returns the tools, and the instructions of the server.
pub(super) fn tools_json(info: &AgentInfo) -> JsonObject {
    JsonObject::from_iter([
        ("instructions".to_owned(), json!(info.instructions)),
        ("tools".to_owned(), json!(info.tools)),
    ])
}

/// Prints the tools of an agent.
pub(super) fn print_tools(agent: &AgentId, info: &AgentInfo) -> Result<(), CliError> {
    for tool in &info.tools {
        let effect = match tool.effect {
            Some(Effect::ReadOnly) => "  read_only",
            Some(Effect::Idempotent) => "  idempotent",
            Some(Effect::AtMostOnce) | None => "",
        };
        let description = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
        let summary = printable(description.lines().next().unwrap_or_default());
        let properties = tool.input_schema.get("properties").and_then(Value::as_object);
        let arguments: Vec<&str> = properties.into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
        let (name, arguments) = (printable(&tool.name), arguments.join(", "));
        print(&format!("{agent}.{name}({}){effect}\n    {summary}\n", printable(&arguments)))?;
    }
    Ok(())
}

/// Returns the resources and resource templates; null if the agent refused to list them.
pub(super) fn resources_json(info: &AgentInfo) -> JsonObject {
    let offers = info.offers.as_deref();
    JsonObject::from_iter([
        ("resources".to_owned(), json!(offers.and_then(|offers| offers.resources.as_ref()))),
        ("resource_templates".to_owned(), json!(offers.and_then(|offers| offers.resource_templates.as_ref()))),
    ])
}

/// Prints the resources and resource templates of an agent.
pub(super) fn print_resources(agent: &AgentId, info: &AgentInfo) -> Result<(), CliError> {
    let Some(offers) = &info.offers else { return Ok(()) };
    let resources = offers.resources.iter().flatten().map(|resource| (&resource.uri, &resource.details));
    let templates =
        offers.resource_templates.iter().flatten().map(|template| (&template.uri_template, &template.details));
    resources.chain(templates).try_for_each(|(uri, details)| print_resource(agent, uri, details))
}

fn print_resource(agent: &AgentId, uri: &str, details: &ResourceDetails) -> Result<(), CliError> {
    let summary = summary(&[&details.title, &details.name], &details.description);
    let mime_type = details.mime_type.as_deref().map(|mime_type| format!("  {}", printable(mime_type)));
    let mime_type = mime_type.unwrap_or_default();
    print(&format!("{agent}  {}{mime_type}\n    {summary}\n", printable(uri)))
}

/// Returns the prompts; null if the agent refused to list them.
pub(super) fn prompts_json(info: &AgentInfo) -> JsonObject {
    let prompts = info.offers.as_deref().and_then(|offers| offers.prompts.as_ref());
    JsonObject::from_iter([("prompts".to_owned(), json!(prompts))])
}

/// Prints the prompts of an agent. Optional arguments have a question mark.
pub(super) fn print_prompts(agent: &AgentId, info: &AgentInfo) -> Result<(), CliError> {
    let prompts = info.offers.as_deref().and_then(|offers| offers.prompts.as_deref());
    for prompt in prompts.unwrap_or_default() {
        let argument =
            |argument: &PromptArgument| format!("{}{}", argument.name, if argument.required { "" } else { "?" });
        let arguments: Vec<String> = prompt.arguments.iter().map(argument).collect();
        let (name, arguments) = (printable(&prompt.name), arguments.join(", "));
        let summary = summary(&[&prompt.title], &prompt.description);
        print(&format!("{agent}.{name}({})\n    {summary}\n", printable(&arguments)))?;
    }
    Ok(())
}

/// Returns the first name, and the first line of the description.
fn summary(names: &[&Option<String>], description: &Option<String>) -> String {
    let name = names.iter().find_map(|name| name.as_deref());
    let line = description.as_deref().and_then(|text| text.lines().next());
    let parts: Vec<&str> = name.into_iter().chain(line).filter(|part| !part.trim().is_empty()).collect();
    printable(&parts.join(": ")).into_owned()
}
