//! OpenCode.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax, Unit};

/// `opencode.json`. A command is a list.
pub(in crate::config::import) static OPENCODE: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: &[&["mcp"]],
    projects: None,
    fields: &[("environment", Field::Env), ("timeout", Field::StartupTimeout(Unit::Milliseconds))],
    references: ReferenceForms::Braces,
    start: StartDirectory::Project,
};
