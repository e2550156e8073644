//! Windsurf and Antigravity.

use super::common::MCP_SERVERS;
use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax};

/// `mcp_config.json`.
pub(in crate::config::import) static WINDSURF: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: MCP_SERVERS,
    projects: None,
    fields: &[("serverUrl", Field::Url)],
    references: ReferenceForms::Common,
    start: StartDirectory::Project,
};
