//! Does what plans have the host itself do, as the agent `host`: it runs shell commands, and sends HTTP requests.

mod agents;
mod command;
mod payload;
mod request;
mod response;
mod sending;
mod tool;

pub(super) use agents::RunAgents;
pub(super) use tool::HostTools;
