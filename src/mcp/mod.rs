//! Speaks MCP with the agents, in both protocol eras. The only module that uses rmcp as a client.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on has failed"))]

mod agents;
mod auth;
mod call;
mod checkpoint;
mod early_pool;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod host;
mod login;
mod message;
mod network;
mod options;
mod pool;
pub mod process;
mod relay_host;
mod requests;
#[cfg(test)]
mod samples;
mod scheduler;
mod session;
mod transport;

pub use agents::{Agents, CallContext, CallFuture, ResourceWatch};
pub use auth::pasted_redirect::{RedirectError, complete_login};
pub(crate) use call::guard::{CallGuard, CallStop};
pub use early_pool::{EarlyCall, EarlyCallEnd, EarlyPool};
pub use host::{ClientHost, NoopHost, ReportingHost};
pub use login::{LoginStart, PageLogin, begin_login, log_out, login_info};
pub(crate) use network::{build_client, client_builder, is_loopback};
pub use options::{LoginPolicy, Options, SamplingSupport, UnreachablePolicy};
pub use pool::Pool;
pub use session::validation::schema_warnings;
pub(crate) use transport::http_response::{HttpError, is_json, media_type};
