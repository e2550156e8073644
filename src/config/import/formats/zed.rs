//! Zed.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax, Unit};

/// `settings.json`. The command of older versions is a map. Agents of extensions have no command.
pub(in crate::config::import) static ZED: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: &[&["context_servers"]],
    projects: None,
    fields: &[
        ("source", Field::Kind),
        ("settings", Field::Ignored),
        ("remote", Field::Ignored),
        ("timeout", Field::ToolTimeout(Unit::Seconds)),
    ],
    references: ReferenceForms::Common,
    start: StartDirectory::Project,
};
