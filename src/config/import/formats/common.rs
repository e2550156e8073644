//! The format that came with Claude Desktop, which many hosts share.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax, Unit};

/// The keys of an agent that mean the same at all hosts that know them.
pub(in crate::config::import) const FIELDS: &[(&str, Field)] = &[
    ("command", Field::Command),
    ("args", Field::Args),
    ("cwd", Field::Cwd),
    ("env", Field::Env),
    ("envFile", Field::EnvFile),
    ("url", Field::Url),
    ("type", Field::Kind),
    ("transport", Field::Kind),
    ("headers", Field::Headers),
    ("disabled", Field::Disabled),
    ("enabled", Field::Enabled),
    ("timeout", Field::ToolTimeout(Unit::Milliseconds)),
    ("disabledTools", Field::DisabledTools),
    ("alwaysAllow", Field::Permission),
    ("autoApprove", Field::Permission),
    ("trust", Field::Permission),
    ("oauth", Field::OAuth),
    ("description", Field::Ignored),
    ("name", Field::Ignored),
];

/// The section of the format.
pub(super) const MCP_SERVERS: &[&[&str]] = &[&["mcpServers"]];

/// The format itself, also of Kiro.
pub(in crate::config::import) static COMMON: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: MCP_SERVERS,
    projects: None,
    fields: &[],
    references: ReferenceForms::Common,
    start: StartDirectory::Project,
};
