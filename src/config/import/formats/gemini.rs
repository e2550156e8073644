//! Gemini CLI.

use super::common::MCP_SERVERS;
use crate::config::import::file_format::{Field, FileFormat, ReferenceForms, StartDirectory, Syntax};

/// `settings.json`. `httpUrl` is Streamable HTTP, and `url` is HTTP+SSE.
pub(in crate::config::import) static GEMINI: FileFormat = FileFormat {
    syntax: Syntax::Json,
    sections: MCP_SERVERS,
    projects: None,
    fields: &[
        ("httpUrl", Field::Url),
        ("url", Field::SseUrl),
        ("includeTools", Field::EnabledTools),
        ("excludeTools", Field::DisabledTools),
        ("authProviderType", Field::Restriction),
    ],
    references: ReferenceForms::BareDollar,
    start: StartDirectory::Project,
};
