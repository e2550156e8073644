//! Prints the resources and prompts of agents, for `kapell agents resources` and `kapell agents prompts`.

use serde_json::json;

use crate::cli::CliError;
use crate::cli::common::exit::print;
use crate::model::{AgentId, AgentInfo, JsonObject, PromptArgument};
use crate::view::text::printable;

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
    for resource in offers.resources.iter().flatten() {
        let summary = summary(&[&resource.title, &resource.name], &resource.description);
        print_address(agent, (&resource.uri, resource.mime_type.as_deref()), &summary)?;
    }
    for template in offers.resource_templates.iter().flatten() {
        let summary = summary(&[&template.title, &template.name], &template.description);
        print_address(agent, (&template.uri_template, template.mime_type.as_deref()), &summary)?;
    }
    Ok(())
}

fn print_address(agent: &AgentId, (uri, mime_type): (&str, Option<&str>), summary: &str) -> Result<(), CliError> {
    let mime_type = mime_type.map(|mime_type| format!("  {}", printable(mime_type))).unwrap_or_default();
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
