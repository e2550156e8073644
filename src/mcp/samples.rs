//! Builds links and agents for the tests of the room.
//! Never reaches an agent or a host.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{
    Nobody, Sampling,
    allowance::Allowance,
    link::{Common, Link},
    session::Session,
    turns::Turns,
};
use crate::model::{AgentPolicy, AgentSpec, Protocol, ResultChecks, SamplingPolicy, Span, Transport};

/// A link to agent `a`, whose next request has the number 0.
pub(super) fn link() -> Arc<Link> {
    let common = Common {
        sampling: Sampling::Off,
        allowance: Allowance::new(SamplingPolicy::default()),
        turns: Turns::new(1),
        left: AtomicBool::new(false),
    };
    Link::new(Session::none("a".into(), Arc::new(Nobody)), Arc::new(common))
}

/// An agent `a` with everything at its simplest.
pub(super) fn agent() -> AgentSpec {
    AgentSpec {
        id: "a".into(),
        transport: Transport::Http { url: String::new(), headers: Vec::new(), bearer_token: None, server: None },
        protocol: Protocol::Auto,
        startup_timeout: Duration::ZERO,
        max_processes: 1,
        sampling: SamplingPolicy::default(),
        policy: AgentPolicy {
            required: false,
            max_concurrency: 1,
            tool_timeout: Span(Duration::ZERO),
            effect: None,
            fingerprint: String::new(),
        },
        check_results: ResultChecks::default(),
        enabled_tools: None,
        disabled_tools: Vec::new(),
        capabilities: indexmap::IndexMap::new(),
    }
}
