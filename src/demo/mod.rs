//! Provides the demo agents: deterministic MCP servers for both protocol eras and both transports. They never access
//! the network or other modules of kapell.

mod agent;
mod agents;
mod call;
mod effects;
mod error;
mod fingerprint;
mod serve;
mod server;
#[cfg(test)]
mod tests;
mod transport;

pub use agent::{DIRECTORY_VARIABLE, DemoAgent, DemoSettings, EFFECTS_VARIABLE};
pub use error::DemoError;
pub use serve::{DemoTransport, serve};
