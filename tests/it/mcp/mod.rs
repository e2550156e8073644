//! The `mcp` module against real agents. Many of them misbehave.

mod agents;
mod calls;
mod features;
mod http;
mod http_sse;
mod resources;
mod sampling;
mod sessions;
