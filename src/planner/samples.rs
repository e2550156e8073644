//! Agents and tools for the tests of this module.

use serde_json::Value;

use crate::config::{AgentCatalog, AgentsFile};
use crate::model::samples::agent_spec;
use crate::model::{AgentId, AgentInfo, JsonObject, ToolInfo};

pub(super) fn object(value: Value) -> JsonObject {
    value.as_object().cloned().expect("an object")
}

/// Returns a tool with that input schema.
pub(super) fn tool(name: &str, schema: Value) -> ToolInfo {
    ToolInfo {
        name: name.to_owned(),
        title: None,
        description: None,
        input_schema: object(schema),
        output_schema: None,
        effect: None,
    }
}

/// Returns an agents file with these agents.
pub(super) fn agents(names: &[&str]) -> AgentsFile {
    let agents = names.iter().map(|name| (AgentId::from(*name), agent_spec(name))).collect();
    AgentsFile { agents, models: default_models(), ..AgentsFile::default() }
}

/// Returns a catalog with the agent `gone`, which did not answer, and `box`, which has these tools.
pub(super) fn catalog(tools: Vec<ToolInfo>) -> AgentCatalog {
    let info = AgentInfo { tools, ..AgentInfo::default() };
    AgentCatalog::from_iter([("gone".into(), Err("it does not answer".to_owned())), ("box".into(), Ok(info))])
}

/// Returns a model that receives no requests.
fn default_models() -> Vec<crate::model::LlmSpec> {
    let text = "[llm]\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n";
    let file = crate::config::parse_agents("agents.toml", text, &crate::config::ProcessEnvironment);
    file.unwrap_or_else(|mistakes| panic!("{mistakes}")).models
}
