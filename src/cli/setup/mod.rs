//! The commands that check or start what runs need: agents and language models.

mod agent_offers;
pub(crate) mod agents;
mod complete;
pub(crate) mod demo_agent;
pub(crate) mod doctor;
pub(crate) mod login;
