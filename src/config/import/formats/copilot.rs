//! GitHub Copilot CLI.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax};

/// `mcp-config.json`, and the file of Visual Studio Code in a project.
pub(in crate::config::import) static COPILOT: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: &[&["mcpServers"], &["servers"]],
    projects: None,
    fields: &[("tools", Field::EnabledTools)],
    references: ReferenceForms::BareDollar,
    start: StartDirectory::Project,
};
