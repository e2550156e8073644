//! goose.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax, Unit};

/// `config.yaml`. Most of its extensions are parts of goose.
pub(in crate::config::import) static GOOSE: FileFormat = FileFormat {
    syntax: Syntax::Yaml,
    sections: &[&["extensions"]],
    projects: None,
    fields: &[
        ("cmd", Field::Command),
        ("envs", Field::Env),
        ("env_keys", Field::KeyringNames),
        ("uri", Field::Url),
        ("timeout", Field::ToolTimeout(Unit::Seconds)),
        ("available_tools", Field::EnabledTools),
        ("bundled", Field::Ignored),
        ("display_name", Field::Ignored),
    ],
    references: ReferenceForms::BareDollar,
    start: StartDirectory::Project,
};
