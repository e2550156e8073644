//! Speaks MCP with the agents, in both protocol eras. The only module that uses rmcp as a client.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on has failed"))]

mod agents;
mod call;
mod checkpoint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod host;
mod message;
mod options;
mod pool;
pub mod process;
mod requests;
#[cfg(test)]
mod samples;
mod scheduler;
mod session;
mod transport;

pub use agents::{Agents, CallContext, CallFuture};
pub use host::{ClientHost, NoopHost, ReportingHost};
pub use options::{Options, SamplingSupport, UnreachablePolicy};
pub use pool::Pool;
pub use session::validation::schema_warnings;
