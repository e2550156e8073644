//! Provides values for the tests of all rooms.

use std::time::Duration;

use indexmap::IndexMap;

use super::{
    AgentPolicy, AgentSpec, HumanDuration, LogLevel, NetworkSettings, OAuthSpec, Protocol, SamplingPolicy,
    SchemaChecks, Transport,
};

/// Returns a minimal agent.
pub(crate) fn agent_spec(id: &str) -> AgentSpec {
    AgentSpec {
        id: id.into(),
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
        startup_timeout: Duration::ZERO,
        installation_timeout: Duration::ZERO,
        max_processes: 1,
        max_message_bytes: 1024 * 1024,
        log_level: LogLevel::default(),
        sampling: SamplingPolicy::default(),
        policy: AgentPolicy {
            required: false,
            max_concurrency: 1,
            tool_timeout: HumanDuration(Duration::ZERO),
            effect: None,
            fingerprint: String::new(),
        },
        check_arguments: SchemaChecks::default(),
        check_results: SchemaChecks::default(),
        enabled_tools: None,
        disabled_tools: Vec::new(),
        capabilities: IndexMap::new(),
        unset_variables: Vec::new(),
    }
}
