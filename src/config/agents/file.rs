//! Reads `agents.toml` into the settings of agents and language models. Diagnostics never contain a header, a token, or
//! an environment value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::agents_file::AgentsFile;
use super::environment::{Environment, Expander, PortPlaceholder};
use super::secret_collector::SecretCollector;
use super::section_reader::SectionReader;
use super::{llm_section, redaction};
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::{SourceFile, SourceSpan};
use crate::config::fingerprint;
use crate::config::schema::keys::{AGENT, AGENTS_FILE, PLANNER};
use crate::config::schema::table::{self, CheckedTable, ValueType};
use crate::config::yaml::document::{DocumentNode, Map, MapEntry, NodeValue};
use crate::config::yaml::read::read_text;
use crate::model::{AgentId, LlmSpec};

/// The default name of the agents file.
const DEFAULT_FILE_NAME: &str = "agents.toml";

/// Returns the path of the agents file: `chosen`, or else `agents.toml` in the working directory if it exists, or else
/// in the platform's configuration directory.
pub fn agents_path(chosen: Option<&Path>) -> PathBuf {
    if let Some(chosen) = chosen {
        return chosen.to_owned();
    }
    let here = PathBuf::from(DEFAULT_FILE_NAME);
    match directories::ProjectDirs::from("", "", "kapell") {
        Some(platform) if !here.exists() => platform.config_dir().join(DEFAULT_FILE_NAME),
        _ => here,
    }
}

/// Reads the agents file at `path`.
///
/// # Errors
/// Returns all diagnostics of the file.
pub fn load_agents(path: &Path, environment: &dyn Environment) -> Result<AgentsFile, Diagnostics> {
    let text = read_text(path).map_err(|error| {
        error.with_help(
            "pass another file with `--agents PATH`, or create one: `kapell schema agents` prints its schema",
        )
    })?;
    parse_agents(&path.display().to_string(), &text, environment)
}

/// Parses the text of an agents file; diagnostics use `name` as the file name.
///
/// # Errors
/// Returns all diagnostics of the file.
pub fn parse_agents(name: &str, text: &str, environment: &dyn Environment) -> Result<AgentsFile, Diagnostics> {
    let mut sink = DiagnosticSink::new("agents", Arc::new(SourceFile::new(name, text.to_owned())));
    let environment = SecretCollector::new(environment);
    environment.add_inherited_passwords();
    let mut file = read_agents_file(text, &environment, &mut sink);
    file.secrets = environment.into_secrets();
    if sink.has_errors() { Err(sink.finish()) } else { Ok(file) }
}

fn read_agents_file(text: &str, environment: &SecretCollector<'_>, sink: &mut DiagnosticSink) -> AgentsFile {
    let mut file = AgentsFile::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let errors: Vec<_> = errors.iter().map(|error| (error.message(), error.span())).collect();
        report_syntax(text, &errors, sink);
        // Further diagnostics of an incomplete file would only be noise.
        return file;
    }
    let mut root = node_at(NodeValue::Map(map_from_table(table.get_ref())), &table.span());
    redaction::redact(&root, sink);
    let sections = CheckedTable::new(&root).entries(&AGENTS_FILE.agents);
    let fingerprints: HashMap<String, String> =
        sections.map(|(name, entry)| (name.to_owned(), fingerprint::fingerprint_of_section(&entry.node))).collect();
    expand_variables(&mut root, environment, sink);
    table::check_value(&root, &ValueType::Table(&AGENTS_FILE.table), &"the file", sink);
    let fields = CheckedTable::new(&root);
    for (name, entry) in fields.entries(&AGENTS_FILE.agents) {
        let id = AgentId::from(name);
        let agent = SectionReader { fields: CheckedTable::new(&entry.node), environment, span: entry.key_span };
        if agent.fields.boolean(&AGENT.enabled) == Some(false) {
            file.disabled.push(id);
        } else if let Some(mut spec) = agent.read_agent(&id, sink) {
            spec.policy.fingerprint = fingerprints.get(name).cloned().unwrap_or_default();
            file.agents.insert(id, spec);
        }
    }
    if let Some(llm) = fields.node(&AGENTS_FILE.llm) {
        let at = fields.key_span(&AGENTS_FILE.llm).unwrap_or(llm.span);
        let spec = SectionReader { fields: CheckedTable::new(llm), environment, span: at }
            .read_model(LlmSpec::DEFAULT_NAME, sink);
        file.models.extend(spec);
    }
    for (name, entry) in fields.entries(&AGENTS_FILE.models) {
        if name == LlmSpec::DEFAULT_NAME {
            let message = format!("the name `{name}` is already used by `[{name}]`");
            sink.error("duplicate_key", entry.key_span, message).help("choose another name");
        }
        let model = SectionReader { fields: CheckedTable::new(&entry.node), environment, span: entry.key_span };
        file.models.extend(model.read_model(name, sink));
    }
    if let Some(planner) = fields.node(&AGENTS_FILE.planner).map(CheckedTable::new) {
        let default = fields.has(&AGENTS_FILE.llm).then_some(LlmSpec::DEFAULT_NAME);
        let known = default.into_iter().chain(fields.entries(&AGENTS_FILE.models).map(|(name, _)| name));
        let model = planner.node(&PLANNER.model).and_then(|node| llm_section::resolve_model(node, known, sink));
        file.planner = llm_section::read_planner(planner, model);
        llm_section::check_planner(planner, &file, sink);
    }
    file
}

/// Reports the syntax errors of an agents file, each with its message and its position.
pub(crate) fn report_syntax(text: &str, errors: &[(&str, Option<Range<usize>>)], sink: &mut DiagnosticSink) {
    for (message, at) in errors {
        let at = at.clone().unwrap_or_default();
        sink.error("syntax", SourceSpan { start: at.start, end: at.end }, format!("invalid TOML: {message}"));
    }
    redaction::redact_quoted(text, sink);
}

/// Expands each section separately, so that a disabled agent may refer to unset variables.
fn expand_variables(root: &mut DocumentNode<'_>, environment: &dyn Environment, sink: &mut DiagnosticSink) {
    let NodeValue::Map(root) = &mut root.value else { return };
    for (name, entry) in root.iter_mut() {
        let NodeValue::Map(sections) = &mut entry.node.value else { continue };
        if name != AGENTS_FILE.agents.name {
            Expander::new(environment, PortPlaceholder::Unavailable).expand(&mut entry.node, sink);
            continue;
        }
        for section in sections.values_mut() {
            let fields = CheckedTable::new(&section.node);
            if fields.boolean(&AGENT.enabled) == Some(false) {
                continue;
            }
            let serves = fields.has(&AGENT.command) && fields.has(&AGENT.url);
            let port = if serves { PortPlaceholder::Unassigned } else { PortPlaceholder::Unavailable };
            Expander::new(environment, port).expand(&mut section.node, sink);
        }
    }
}

fn node_at<'t>(tree: NodeValue<'t>, span: &Range<usize>) -> DocumentNode<'t> {
    DocumentNode::new(tree, SourceSpan { start: span.start, end: span.end })
}

/// Converts a TOML table to a map in the order of the file. The TOML parser bounds the recursion.
fn map_from_table<'t>(table: &'t DeTable<'_>) -> Map<'t> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let span = key.span();
            let key_extent = SourceSpan { start: span.start, end: span.end };
            (Cow::Borrowed(&**key.get_ref()), MapEntry { key_span: key_extent, node: node_from_value(value) })
        })
        .collect();
    entries.sort_by_key(|(_, entry)| entry.key_span);
    entries.into_iter().collect()
}

fn node_from_value<'t>(value: &'t Spanned<DeValue<'_>>) -> DocumentNode<'t> {
    let tree = match value.get_ref() {
        DeValue::String(text) => NodeValue::Text(Cow::Borrowed(text)),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => NodeValue::Number(integer.into()),
            Err(_) => NodeValue::Text(integer.to_string().into()),
        },
        DeValue::Float(float) => match float.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
            Some(number) => NodeValue::Number(number),
            None => NodeValue::Text(float.to_string().into()),
        },
        DeValue::Boolean(value) => NodeValue::Bool(*value),
        DeValue::Datetime(moment) => NodeValue::Text(moment.to_string().into()),
        DeValue::Array(values) => NodeValue::List(values.iter().map(node_from_value).collect()),
        DeValue::Table(table) => NodeValue::Map(map_from_table(table)),
    };
    node_at(tree, &value.span())
}
