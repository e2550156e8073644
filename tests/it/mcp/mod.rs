//! The `mcp` module against real agents. Many of them misbehave.

mod agents;
mod calls;
mod http;
mod sampling;
mod sessions;
