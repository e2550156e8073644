//! Crush.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax, Unit};

/// `crush.json`.
pub(in crate::config::import) static CRUSH: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: &[&["mcp"]],
    projects: None,
    fields: &[("timeout", Field::StartupTimeout(Unit::Seconds)), ("disabled_tools", Field::DisabledTools)],
    references: ReferenceForms::BareDollar,
    start: StartDirectory::Project,
};
