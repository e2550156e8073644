//! Visual Studio Code.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax};

/// `mcp.json`, and the `mcp` key of older settings.
pub(in crate::config::import) static VSCODE: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: &[&["servers"], &["mcp", "servers"]],
    projects: None,
    fields: &[
        ("sandbox", Field::Restriction),
        ("sandboxEnabled", Field::Restriction),
        ("dev", Field::Ignored),
        ("gallery", Field::Ignored),
        ("version", Field::Ignored),
    ],
    references: ReferenceForms::Common,
    start: StartDirectory::Project,
};
