//! Continue.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax, Unit};

/// `config.yaml`, and the files of `.continue/mcpServers`. The agents are a list.
pub(in crate::config::import) static CONTINUE: FileFormat = FileFormat {
    syntax: Syntax::Yaml,
    sections: &[&["mcpServers"]],
    projects: None,
    fields: &[
        ("connectionTimeout", Field::StartupTimeout(Unit::Milliseconds)),
        ("apiKey", Field::BearerToken),
        ("requestOptions", Field::Restriction),
    ],
    references: ReferenceForms::Secrets,
    start: StartDirectory::Project,
};
