//! Builds connection states and agents for the tests of this module.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::host::NoopHost;
use super::message::limits::MAX_PARAMS_BYTES;
use super::options::SamplingSupport;
use super::requests::connection_state::{AgentShared, ConnectionState};
use super::requests::sampling_quota::SamplingQuota;
use super::requests::session_state::Session;
use super::scheduler::ProcessScheduler;
use crate::model::{
    AgentPolicy, AgentSpec, HumanDuration, LogLevel, NetworkSettings, OAuthSpec, Protocol, SamplingPolicy,
    SchemaChecks, Transport,
};

/// Returns the state of a connection to agent `a`. Its next request has the ID 0.
pub(super) fn connection_state() -> Arc<ConnectionState> {
    let shared = AgentShared {
        max_message_bytes: MAX_PARAMS_BYTES,
        log_level: LogLevel::default(),
        trace: None,
        sampling: SamplingSupport::Off,
        sampling_quota: SamplingQuota::new(SamplingPolicy::default()),
        roots: Vec::new(),
        scheduler: ProcessScheduler::new(1),
        is_suspended: AtomicBool::new(false),
    };
    ConnectionState::new(Session::without_id("a".into(), Arc::new(NoopHost)), Arc::new(shared))
}

/// Returns a minimal agent `a`.
pub(super) fn agent_spec() -> AgentSpec {
    AgentSpec {
        id: "a".into(),
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
        max_message_bytes: MAX_PARAMS_BYTES,
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
        capabilities: indexmap::IndexMap::new(),
    }
}
