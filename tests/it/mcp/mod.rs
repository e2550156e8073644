//! The `mcp` module against real agents, most of which misbehave.

mod agents;
mod calls;
mod http;
mod sampling;
mod sessions;
