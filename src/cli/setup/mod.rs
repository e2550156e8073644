//! The commands that check or start what runs need: agents and language models.

pub(crate) mod agents;
pub(crate) mod demo_agent;
pub(crate) mod doctor;
