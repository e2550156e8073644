//! Finds out which host a file belongs to, and reads it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use toml_edit::DocumentMut;

use super::file_format::Syntax;
use super::host::{HOSTS, McpHost, On};
use super::host_file::{is_bare_section, read_host_file};
use super::imported_agents::{ImportContext, ImportedAgents};
use super::registry::{is_server, read_server};
use super::syntax::read_value;
use crate::config::diagnostics::diagnostic::Diagnostics;

/// Reads the agents of a file of any host, or of the registry, from its text.
///
/// # Errors
/// Returns the position of the first syntax error, or an error for a file without agents.
pub fn read_any_file(path: &Path, text: &str, context: &ImportContext<'_>) -> Result<ImportedAgents, Diagnostics> {
    let name = path.display().to_string();
    let root = read_value(syntax_of(path, text), &name, text)?;
    if is_server(&root) || root.get("server").is_some_and(is_server) {
        return read_server((&name, text), context);
    }
    match host_of_path(path).or_else(|| host_of_keys(&root, text)) {
        Some(host) => read_host_file(host, (&name, text), context),
        None => Err(Diagnostics::for_file(&name, "import::unknown_format", "the file has no agents of a known host")
            .with_help("name the host with `--from HOST`; `kapell agents import --help` lists the hosts")),
    }
}

fn syntax_of(path: &Path, text: &str) -> Syntax {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Syntax::Toml,
        Some("yaml" | "yml") => Syntax::Yaml,
        Some("json" | "jsonc") => Syntax::Json,
        _ if text.trim_start().starts_with(['{', '/']) => Syntax::Json,
        _ if text.parse::<DocumentMut>().is_ok() => Syntax::Toml,
        _ => Syntax::Yaml,
    }
}

/// Returns the directory of the project that a file belongs to, and whether it is the file of a project: one that no host
/// keeps for its user.
pub fn project_of_file(path: &Path) -> (PathBuf, bool) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let project_files = HOSTS.iter().flat_map(|host| host.project_files);
    let is_at = |file: &str| match (file.strip_suffix("/*"), path.parent()) {
        (Some(directory), Some(parent)) => parent.ends_with(directory),
        _ => path.ends_with(file),
    };
    let known = project_files.filter(|file| is_at(file));
    let parts = known.map(|file| Path::new(file).components().count()).max().unwrap_or(1);
    let project = path.ancestors().nth(parts).unwrap_or(&path).to_owned();
    let is_user_file = |(_, file): &(On, &str)| file.split_once('/').is_some_and(|(_, rest)| path.ends_with(rest));
    let in_home = HOSTS.iter().any(|host| host.user_files.iter().any(is_user_file));
    (project, parts > 1 || !in_home)
}

/// Returns the host whose files have this path, without their first directory. The longest path decides.
fn host_of_path(path: &Path) -> Option<&'static McpHost> {
    let files = |host: &'static McpHost| {
        let user = host.user_files.iter().filter_map(|(_, file)| file.split_once('/').map(|(_, rest)| rest));
        user.chain(host.project_files.iter().copied()).map(move |file| (host, file))
    };
    let matches = HOSTS.iter().flat_map(files).filter(|(_, file)| path.ends_with(file));
    // Several hosts use the file of Visual Studio Code in a project.
    matches.max_by_key(|(host, file)| (file.len(), host.name == "vscode")).map(|(host, _)| host)
}

/// Returns the host whose keys a file has.
fn host_of_keys(root: &Value, text: &str) -> Option<&'static McpHost> {
    let map = root.as_object()?;
    let name = if map.contains_key("mcp_servers") {
        "codex"
    } else if map.contains_key("extensions") {
        "goose"
    } else if map.contains_key("context_servers") {
        "zed"
    } else if map.get("mcpServers").is_some_and(Value::is_array) {
        "continue"
    } else if map.contains_key("servers") || map.get("mcp").is_some_and(|mcp| mcp.get("servers").is_some()) {
        "vscode"
    } else if let Some(agents) = map.get("mcp").and_then(Value::as_object) {
        let is_opencode = |agent: &Value| matches!(agent["type"].as_str(), Some("local" | "remote"));
        if agents.values().any(is_opencode) { "opencode" } else { "crush" }
    } else if text.contains("\"httpUrl\"") {
        "gemini"
    } else if text.contains("\"serverUrl\"") {
        "windsurf"
    } else if map.contains_key("mcpServers") || is_bare_section(root) {
        "claude"
    } else {
        return None;
    };
    McpHost::find(name)
}
