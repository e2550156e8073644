//! Reads the manifest of an MCP bundle (`.mcpb`).

use std::path::PathBuf;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::conversion::{complete, valid_name};
use super::fields::{Draft, FieldReader};
use super::file_format::{ReferenceForms, StartDirectory, Syntax};
use super::formats::common::COMMON;
use super::imported_agents::{ImportContext, ImportedAgents};
use super::places::OperatingSystem;
use super::references::ReferenceConverter;
use super::syntax::read_value;
use crate::config::diagnostics::diagnostic::Diagnostics;

/// Reads the agent of a bundle from the text of its manifest. `directory` returns where a bundle of this name is unpacked.
///
/// # Errors
/// Returns the position of the first syntax error.
pub fn read_bundle_manifest(
    (file, text): (&str, &str),
    directory: impl FnOnce(&str) -> PathBuf,
    system: OperatingSystem,
) -> Result<(ImportedAgents, PathBuf), Diagnostics> {
    let root = read_value(Syntax::Json, file, text)?;
    let name = root.get("name").and_then(Value::as_str).unwrap_or("bundle");
    let unpacked = directory(&valid_name(name));
    let directory = unpacked.as_path();
    let mut imported = ImportedAgents::default();
    let context = ImportContext { project: directory, in_project: true };
    let agent = match launch_keys(&root, system) {
        Some(keys) => {
            let mut references = ReferenceConverter::new(ReferenceForms::Common, directory);
            references.bundle = Some(directory);
            references.defaults = defaults(&root);
            let reader = FieldReader { format: &COMMON, references: &mut references, draft: Draft::default() };
            let mut draft = reader.read(&keys);
            draft.report_references(&references, |id| {
                let input = root.get("user_config")?.get(id)?;
                input.get("description").or_else(|| input.get("title"))?.as_str().map(str::to_owned)
            });
            complete(name, draft, StartDirectory::Project, &context)
        }
        None => Err("its manifest has no `server.mcp_config`".to_owned()),
    };
    imported.push(name, agent);
    Ok((imported, unpacked))
}

/// Returns the keys that start the server, with those of the system.
fn launch_keys(root: &Value, system: OperatingSystem) -> Option<Map<String, Value>> {
    let mut keys = root.get("server")?.get("mcp_config")?.as_object()?.clone();
    let platform = match system {
        OperatingSystem::Linux => "linux",
        OperatingSystem::Mac => "darwin",
        OperatingSystem::Windows => "win32",
    };
    if let Some(Value::Object(mut overrides)) = keys.remove("platform_overrides")
        && let Some(Value::Object(own)) = overrides.remove(platform)
    {
        keys.extend(own);
    }
    Some(keys)
}

/// Returns the defaults of the settings that the host asks for. An optional setting without one is empty.
fn defaults(root: &Value) -> IndexMap<String, String> {
    let settings = root.get("user_config").and_then(Value::as_object).into_iter().flatten();
    let default = |setting: &Value| match setting.get("default") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(Value::Bool(value)) => Some(value.to_string()),
        _ => (setting.get("required").and_then(Value::as_bool) != Some(true)).then(String::new),
    };
    settings.filter_map(|(id, setting)| Some((id.clone(), default(setting)?))).collect()
}
