//! Executes the decisions of the engine: one dispatcher drives all calls.

mod builder;
mod clock;
mod control;
mod discover;
mod dispatcher;
mod effects;
mod host;
mod host_error;
mod llm_replanner;
mod orphans;
mod replanner;
mod run_handle;
mod run_request;
pub mod shutdown;

use crate::model::{AttemptId, JsonObject, RunId};

pub use builder::{Host, HostBuilder, connect_options, jitter_seed, new_run_id};
pub use clock::RunClock;
use control::{forward_requests, read_inputs};
pub use discover::{AgentProbe, discover, probe_agents};
pub use dispatcher::{RuntimeError, Services, cancel, run};
pub use host::{HostReceiver, RuntimeHost};
pub use host_error::HostError;
pub use replanner::Replanner;
pub use run_handle::RunHandle;
pub use run_request::{ResumableRun, RunRequest};

/// The `_meta` key that identifies a call, so that an agent can distinguish a repetition from a new call.
pub const IDEMPOTENCY_KEY: &str = "kapell/idempotency-key";

/// Returns the `_meta` of a call, with the value `RUN/TASK/ATTEMPT`.
fn call_meta(run: &RunId, attempt: &AttemptId) -> JsonObject {
    let key = [run.as_str(), attempt.task.as_str(), &attempt.number.to_string()].join("/");
    JsonObject::from_iter([(IDEMPOTENCY_KEY.to_owned(), key.into())])
}

#[cfg(test)]
mod tests;
