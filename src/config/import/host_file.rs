//! Reads the configuration file of a host.

use std::path::Path;

use serde_json::{Map, Value};

use super::conversion::complete;
use super::fields::{Draft, FieldReader};
use super::file_format::FileFormat;
use super::host::McpHost;
use super::imported_agents::{ImportContext, ImportedAgent, ImportedAgents};
use super::references::ReferenceConverter;
use super::syntax::read_value;
use crate::config::diagnostics::diagnostic::Diagnostics;

/// Reads the agents of a host from the text of a file; diagnostics use `file` as the file name.
///
/// # Errors
/// Returns the position of the first syntax error.
pub fn read_host_file(
    host: &McpHost,
    (file, text): (&str, &str),
    context: &ImportContext<'_>,
) -> Result<ImportedAgents, Diagnostics> {
    let root = read_value(host.format.syntax, file, text)?;
    let mut imported = ImportedAgents::default();
    for section in sections(&root, host.format, context) {
        let reader = HostFileReader { root: &root, format: host.format, context: &section.context };
        reader.read_section(section.agents, &mut imported);
    }
    Ok(imported)
}

/// A part of a file with agents.
struct HostFileSection<'v> {
    agents: &'v Value,
    context: ImportContext<'v>,
}

/// Returns the sections with agents, also those of the projects that contain the project of `context`.
fn sections<'v>(root: &'v Value, format: &FileFormat, context: &ImportContext<'v>) -> Vec<HostFileSection<'v>> {
    let projects = format.projects.and_then(|key| root.get(key)?.as_object()).into_iter().flatten();
    let projects = projects.filter(|(directory, _)| context.project.starts_with(directory));
    let projects = projects
        .map(|(directory, value)| (value, ImportContext { project: Path::new(directory.as_str()), in_project: true }));
    let mut found = Vec::new();
    for (root, context) in std::iter::once((root, *context)).chain(projects) {
        let paths = format.sections.iter();
        let agents = paths.filter_map(|path| path.iter().try_fold(root, |value, key| value.get(key)));
        found.extend(agents.map(|agents| HostFileSection { agents, context }));
    }
    if found.is_empty() && is_bare_section(root) {
        found.push(HostFileSection { agents: root, context: *context });
    }
    found
}

/// Returns whether all values are agents: a block that was copied from a document may lack the name of its section.
pub(super) fn is_bare_section(root: &Value) -> bool {
    let is_agent = |value: &Value| value.get("command").or_else(|| value.get("url")).is_some();
    root.as_object().is_some_and(|map| !map.is_empty() && map.values().all(is_agent))
}

/// A file of a host that is being read.
struct HostFileReader<'a> {
    root: &'a Value,
    format: &'static FileFormat,
    context: &'a ImportContext<'a>,
}

impl HostFileReader<'_> {
    /// Reads a map of agents, or a list of agents with names.
    fn read_section(&self, section: &Value, imported: &mut ImportedAgents) {
        let named = |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or("agent").to_owned();
        let agents: Vec<(String, &Value)> = match section {
            Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
            Value::Array(list) => list.iter().map(|value| (named(value), value)).collect(),
            _ => Vec::new(),
        };
        for (name, value) in agents {
            let agent = match value.as_object() {
                Some(keys) => self.read_agent(&name, keys),
                None => Err("its settings are not a map".to_owned()),
            };
            imported.push(&name, agent);
        }
    }

    fn read_agent(&self, name: &str, keys: &Map<String, Value>) -> Result<ImportedAgent, String> {
        let mut references = ReferenceConverter::new(self.format.references, self.context.project);
        let reader = FieldReader { format: self.format, references: &mut references, draft: Draft::default() };
        let mut draft = reader.read(keys);
        draft.report_references(&references, |id| self.input_description(id));
        complete(name, draft, self.format.start, self.context)
    }

    /// Returns the description of something that the host asks a person for.
    fn input_description(&self, id: &str) -> Option<String> {
        let inputs = self.root.get("inputs")?.as_array()?;
        let input = inputs.iter().find(|input| input.get("id").and_then(Value::as_str) == Some(id))?;
        input.get("description")?.as_str().map(str::to_owned)
    }
}
