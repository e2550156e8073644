//! Codex.

use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax, Unit};

/// `config.toml`.
pub(in crate::config::import) static CODEX: FileFormat = FileFormat {
    syntax: Syntax::Toml,
    sections: &[&["mcp_servers"]],
    projects: None,
    fields: &[
        ("env_vars", Field::EnvNames),
        ("bearer_token_env_var", Field::BearerVariable),
        ("bearer_token", Field::BearerToken),
        ("http_headers", Field::Headers),
        ("env_http_headers", Field::EnvHeaders),
        ("startup_timeout_sec", Field::StartupTimeout(Unit::Seconds)),
        ("startup_timeout_ms", Field::StartupTimeout(Unit::Milliseconds)),
        ("tool_timeout_sec", Field::ToolTimeout(Unit::Seconds)),
        ("enabled_tools", Field::EnabledTools),
        ("disabled_tools", Field::DisabledTools),
        ("required", Field::Required),
        ("supports_parallel_tool_calls", Field::Parallel),
        ("scopes", Field::Scopes),
        ("oauth_resource", Field::Resource),
        ("auth", Field::Ignored),
        ("approval_mode", Field::Permission),
        ("default_tools_approval_mode", Field::Permission),
        ("tools", Field::Permission),
    ],
    references: ReferenceForms::Common,
    start: StartDirectory::Project,
};
