//! The commands that check or start what runs need: agents and language models.

mod add;
mod agent_logs;
mod agent_offers;
pub(crate) mod agents;
mod agents_editor;
mod complete;
pub(crate) mod demo_agent;
pub(crate) mod doctor;
mod import;
pub(crate) mod init;
pub(crate) mod login;
pub(crate) mod packaging_files;
