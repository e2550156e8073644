//! Agents and tools for the tests of this module.

use serde_json::Value;

use crate::config::{AgentCatalog, AgentsFile};
use crate::model::{
    AgentId, AgentInfo, AgentPolicy, AgentSpec, HumanDuration, JsonObject, LogLevel, NetworkSettings, OAuthSpec,
    Protocol, SchemaChecks, ToolInfo, Transport,
};

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
    let policy = AgentPolicy {
        required: false,
        max_concurrency: 1,
        tool_timeout: HumanDuration(std::time::Duration::ZERO),
        effect: None,
        fingerprint: String::new(),
    };
    let spec = |name: &&str| AgentSpec {
        id: AgentId::from(*name),
        transport: Transport::Http {
            url: String::new(),
            headers: Vec::new(),
            bearer_token: None,
            oauth: OAuthSpec::default(),
            server: None,
        },
        network: NetworkSettings::default(),
        roots: Vec::new(),
        protocol: Protocol::Auto,
        startup_timeout: std::time::Duration::ZERO,
        installation_timeout: std::time::Duration::ZERO,
        max_processes: 1,
        max_message_bytes: 0,
        log_level: LogLevel::default(),
        sampling: crate::model::SamplingPolicy::default(),
        policy: policy.clone(),
        check_arguments: SchemaChecks::default(),
        check_results: SchemaChecks::default(),
        enabled_tools: None,
        disabled_tools: Vec::new(),
        capabilities: indexmap::IndexMap::new(),
    };
    let agents = names.iter().map(spec).map(|spec| (spec.id.clone(), spec)).collect();
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
