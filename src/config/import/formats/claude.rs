//! Claude Desktop and Claude Code.

use super::common::MCP_SERVERS;
use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax};

/// `claude_desktop_config.json`. Claude Desktop starts programs in the home directory.
pub(in crate::config::import) static CLAUDE_DESKTOP: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: MCP_SERVERS,
    projects: None,
    fields: &[],
    references: ReferenceForms::Common,
    start: StartDirectory::Home,
};

/// `.claude.json`, which also has the agents of single projects, and `.mcp.json`.
pub(in crate::config::import) static CLAUDE_CODE: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: MCP_SERVERS,
    projects: Some("projects"),
    fields: &[("headersHelper", Field::Restriction)],
    references: ReferenceForms::Common,
    start: StartDirectory::Project,
};
