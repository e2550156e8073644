//! Cline.

use super::common::MCP_SERVERS;
use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax, Unit};

/// `cline_mcp_settings.json`.
pub(in crate::config::import) static CLINE: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: MCP_SERVERS,
    projects: None,
    fields: &[
        ("timeout", Field::ToolTimeout(Unit::Seconds)),
        ("transportType", Field::Kind),
        ("remoteConfigured", Field::Ignored),
    ],
    references: ReferenceForms::Common,
    start: StartDirectory::Project,
};
