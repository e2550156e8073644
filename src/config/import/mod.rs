//! Reads the agents of other hosts, of the MCP registry, and of bundles into sections of an agents file.

pub(crate) mod bundle;
mod conversion;
pub(crate) mod detect;
mod fields;
mod file_format;
mod formats;
pub(crate) mod host;
pub(crate) mod host_file;
pub(crate) mod imported_agents;
pub(crate) mod places;
mod references;
mod registry;
pub(crate) mod selection;
mod syntax;
