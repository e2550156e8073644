//! Executes the decisions of the engine: one dispatcher drives all calls.

mod builder;
mod clock;
mod content;
mod control;
mod discovery;
mod dispatcher;
mod early_calls;
mod effects;
mod health;
mod host;
mod host_agent;
mod host_error;
mod llm_replanner;
mod orphans;
mod replanner;
mod run_handle;
mod run_request;
pub mod schedules;
pub mod shutdown;
mod watches;

#[cfg(feature = "otel")]
pub use builder::trace_of_run;
pub use builder::{Host, HostBuilder, agent_stderr, connect_options, jitter_seed, new_run_id};
pub use clock::RunClock;
pub use content::{CachedResult, CallCache, ContentStore};
use control::{forward_requests, read_inputs};
pub use discovery::{AgentProbe, Discovery, Freshness, OffersCache, complete};
pub use dispatcher::{RuntimeError, Services, cancel, run};
pub use early_calls::{CallPlace, KeptCalls, UnsettledCalls};
pub use effects::IDEMPOTENCY_KEY;
pub use health::{InstalledParts, check_installation};
pub use host::{HostReceiver, RuntimeHost};
pub use host_error::HostError;
pub use replanner::Replanner;
pub use run_handle::RunHandle;
pub use run_request::{ResumableRun, RunRequest};

#[cfg(test)]
mod tests;
