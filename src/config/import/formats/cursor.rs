//! Cursor.

use super::common::MCP_SERVERS;
use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax};

/// `mcp.json`.
pub(in crate::config::import) static CURSOR: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: MCP_SERVERS,
    projects: None,
    fields: &[("auth", Field::OAuth)],
    references: ReferenceForms::Common,
    start: StartDirectory::Project,
};
