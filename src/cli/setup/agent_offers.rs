//! Prints the tools, resources, and prompts of agents, for the commands below `kapell agents`.

use serde_json::json;

use crate::cli::CliError;
use crate::cli::common::exit::{output_width, print, wrapped};
use crate::model::{AgentId, AgentInfo, Effect, JsonObject, PromptArgument, ResourceDetails, ToolInfo};
use crate::ui::tool_signature::{tool_arguments, tool_signature};
use crate::view::text::printable;

/// Returns the tools, and the instructions of the server.
pub(super) fn tools_json(info: &AgentInfo) -> JsonObject {
    JsonObject::from_iter([
        ("instructions".to_owned(), json!(info.instructions)),
        ("tools".to_owned(), json!(info.tools)),
    ])
}

/// Prints the tools of an agent, each with its signature and the first line of its description.
pub(super) fn print_tools(agent: &AgentId, info: &AgentInfo) -> Result<(), CliError> {
    for tool in &info.tools {
        let description = tool.description.as_deref().or(tool.title.as_deref()).unwrap_or_default();
        let summary = printable(description.lines().next().unwrap_or_default());
        print_wrapped(&format!("{agent}.{}{}\n    {summary}\n", printable(&tool_signature(tool)), effect_text(tool)))?;
    }
    Ok(())
}

/// Prints everything about one tool.
pub(super) fn print_tool(agent: &AgentId, tool: &ToolInfo) -> Result<(), CliError> {
    let mut text = format!("{agent}.{}{}\n", printable(&tool_signature(tool)), effect_text(tool));
    for part in [&tool.title, &tool.description].into_iter().flatten() {
        text += &format!("\n{}\n", indented(part));
    }
    let arguments = tool_arguments(tool);
    if !arguments.is_empty() {
        text += "\narguments\n";
    }
    for argument in arguments {
        let description = argument.description.map(|text| format!("\n{}", indented(&indented(text))));
        text += &format!("{}{}\n", indented(&argument.text()), description.unwrap_or_default());
    }
    if let Some(schema) = &tool.output_schema {
        let schema = serde_json::to_string_pretty(schema).unwrap_or_default();
        text += &format!("\nschema of the result\n{}\n", indented(&schema));
    }
    print_wrapped(&text)
}

/// Prints text, wrapped at words on a terminal.
fn print_wrapped(text: &str) -> Result<(), CliError> {
    print(&wrapped(text, output_width()))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}").trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn effect_text(tool: &ToolInfo) -> &'static str {
    match tool.effect {
        Some(Effect::ReadOnly) => "  read_only",
        Some(Effect::Idempotent) => "  idempotent",
        Some(Effect::AtMostOnce) | None => "",
    }
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
    print_wrapped(&format!("{agent}  {}{mime_type}\n    {summary}\n", printable(uri)))
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
        print_wrapped(&format!("{agent}.{name}({})\n    {summary}\n", printable(&arguments)))?;
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
