//! Builds connection states and agents for the tests of this module.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::host::NoopHost;
use super::message::limits::MAX_PARAMS_BYTES;
use super::options::SamplingSupport;
use super::requests::connection_state::{AgentShared, ConnectionState};
use super::requests::sampling_quota::SamplingQuota;
use super::requests::session_state::Session;
use super::scheduler::ProcessScheduler;
use crate::model::{LogLevel, SamplingPolicy};

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
