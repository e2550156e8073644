//! The agents file.

mod agent_section;
pub(crate) mod agents_file;
mod dotenv;
pub(crate) mod environment;
pub(crate) mod file;
pub(crate) mod host_section;
pub(crate) mod llm_section;
pub(crate) mod locations;
mod oauth_section;
pub(crate) mod providers;
pub(crate) mod redaction;
pub(crate) mod secret_collector;
mod section_reader;
