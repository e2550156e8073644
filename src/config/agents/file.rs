//! Reads `agents.toml` into the settings of agents and language models. Diagnostics never contain a header, a token, or
//! an environment value.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::agents_file::AgentsFile;
use super::dotenv::DotenvEnvironment;
use super::environment::{Environment, Expander, PortPlaceholder};
use super::locations::AgentsFiles;
use super::secret_collector::{SecretCollector, is_secret_name};
use super::section_reader::SectionReader;
use super::{host_section, llm_section, redaction};
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::{SourceFile, SourceSpan};
use crate::config::fingerprint;
use crate::config::schema::keys::{AGENT, AGENTS_FILE, PLANNER, PLANS, PlansKeys};
use crate::config::schema::table::{self, CheckedTable, ValueType};
use crate::config::yaml::document::{DocumentNode, Map, MapEntry, NodeValue};
use crate::config::yaml::read::read_text;
use crate::model::{AgentId, HOST_AGENT, LlmSpec};

/// Reads the agents files of a command. Agents and models of the project replace those of the user with the same names.
///
/// # Errors
/// Returns all diagnostics of the first file that has any, or an error that lists the places without a file.
pub fn load_agents_files(files: &AgentsFiles, environment: &dyn Environment) -> Result<AgentsFile, Diagnostics> {
    let project = files.project.as_deref().map(|path| load_agents(path, environment)).transpose()?;
    let user = files.user.as_deref().map(|path| load_agents(path, environment)).transpose()?;
    match (project, user) {
        (Some(project), Some(user)) => Ok(project.with_defaults(user)),
        (Some(only), None) | (None, Some(only)) => Ok(only),
        (None, None) => Err(Diagnostics::for_file("agents.toml", "file::no_agents_file", files.missing_message())),
    }
}

/// Reads the agents file at `path`, with the variables of the `.env` file beside it.
///
/// # Errors
/// Returns all diagnostics of the file.
pub fn load_agents(path: &Path, environment: &dyn Environment) -> Result<AgentsFile, Diagnostics> {
    let text = read_text(path).map_err(|error| {
        let similar = error.list().last().and_then(|error| error.help.as_ref()).map(|help| format!("{help} "));
        let help = "pass another file with `--agents PATH`, or create one: `kapell init`";
        error.clone().with_help(format!("{}{help}", similar.unwrap_or_default()))
    })?;
    parse_agents(&path.display().to_string(), &text, &DotenvEnvironment::beside(path, environment)?)
}

/// Parses the text of an agents file; diagnostics use `name` as the file name, and relative paths start at its directory.
///
/// # Errors
/// Returns all diagnostics of the file.
pub fn parse_agents(name: &str, text: &str, environment: &dyn Environment) -> Result<AgentsFile, Diagnostics> {
    let mut sink = DiagnosticSink::new("agents", Arc::new(SourceFile::new(name, text.to_owned())));
    let environment = SecretCollector::new(environment);
    environment.add_inherited_passwords();
    let base = std::path::absolute(name).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    let mut file = read_agents_file(text, (&environment, &base), &mut sink);
    file.secrets = environment.into_secrets();
    if sink.has_errors() { Err(sink.finish()) } else { Ok(file) }
}

fn read_agents_file(
    text: &str,
    (environment, base): (&SecretCollector<'_>, &Path),
    sink: &mut DiagnosticSink,
) -> AgentsFile {
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
    let unset = expand_variables(&mut root, environment, sink);
    let unset_of = |section: &str| RefCell::new(unset.get(section).cloned().unwrap_or_default());
    table::check_value(&root, &ValueType::Table(&AGENTS_FILE.table), &"the file", sink);
    let fields = CheckedTable::new(&root);
    for (name, entry) in fields.entries(&AGENTS_FILE.agents) {
        let id = AgentId::from(name);
        if name == HOST_AGENT {
            let message =
                format!("the name `{name}` is reserved for kapell itself, which runs `shell` and `http` tasks");
            sink.error("reserved_name", entry.key_span, message).help("choose another name for the agent");
        }
        let unset = unset_of(&format!("agents.{name}"));
        let fields = CheckedTable::new(&entry.node);
        let agent = SectionReader { fields, environment, base, span: entry.key_span, unset: &unset };
        if agent.fields.boolean(&AGENT.enabled) == Some(false) {
            file.disabled.push(id);
        } else if let Some(mut spec) = agent.read_agent(&id, sink) {
            spec.policy.fingerprint = fingerprints.get(name).cloned().unwrap_or_default();
            file.agents.insert(id, spec);
        }
    }
    if let Some(llm) = fields.node(&AGENTS_FILE.llm) {
        let at = fields.key_span(&AGENTS_FILE.llm).unwrap_or(llm.span);
        let (fields, unset) = (CheckedTable::new(llm), unset_of(AGENTS_FILE.llm.name));
        let model = SectionReader { fields, environment, base, span: at, unset: &unset };
        file.models.extend(model.read_model(LlmSpec::DEFAULT_NAME, sink));
    }
    for (name, entry) in fields.entries(&AGENTS_FILE.models) {
        if name == LlmSpec::DEFAULT_NAME {
            let message = format!("the name `{name}` is already used by `[{name}]`");
            sink.error("duplicate_key", entry.key_span, message).help("choose another name");
        }
        let (fields, unset) = (CheckedTable::new(&entry.node), unset_of(&format!("models.{name}")));
        let model = SectionReader { fields, environment, base, span: entry.key_span, unset: &unset };
        file.models.extend(model.read_model(name, sink));
    }
    if let Some(shell) = fields.node(&AGENTS_FILE.shell) {
        file.host.shell = host_section::read_shell(CheckedTable::new(shell));
    }
    if let Some(http) = fields.node(&AGENTS_FILE.http) {
        let (fields, unset) = (CheckedTable::new(http), RefCell::default());
        file.host.http = SectionReader { fields, environment, base, span: http.span, unset: &unset }.read_http(sink);
    }
    if let Some(planner) = fields.node(&AGENTS_FILE.planner).map(CheckedTable::new) {
        let default = fields.has(&AGENTS_FILE.llm).then_some(LlmSpec::DEFAULT_NAME);
        let known = default.into_iter().chain(fields.entries(&AGENTS_FILE.models).map(|(name, _)| name));
        let model = planner.node(&PLANNER.model).and_then(|node| llm_section::resolve_model(node, known, sink));
        file.planner = llm_section::read_planner(planner, model);
        llm_section::check_planner(planner, &file, sink);
    }
    if let Some(plans) = fields.node(&AGENTS_FILE.plans).map(CheckedTable::new) {
        file.plan_env = read_plan_env(plans, environment, sink);
    }
    file
}

/// Reads the environment variables that plans can use.
fn read_plan_env(
    plans: CheckedTable<'_, PlansKeys>,
    environment: &SecretCollector<'_>,
    sink: &mut DiagnosticSink,
) -> IndexMap<String, Option<String>> {
    let mut values = IndexMap::new();
    for (name, node) in plans.text_list(&PLANS.env) {
        if !redaction::is_variable_name(name) {
            let message = format!("`{name}` is not a valid variable name");
            sink.error("variable", node.span, message)
                .help("expected letters, digits, and `_`; patterns are not allowed");
        } else if is_secret_name(name) {
            let message = format!("`{name}` has the name of a secret, and the values of `env` are in the journal");
            let help = format!("in the plan, declare an input of the type `secret` with `from_env: {name}`");
            sink.error("secret_env", node.span, message).help(help);
        } else {
            values.insert(name.to_owned(), environment.variable(name));
        }
    }
    values
}

/// Reports the syntax errors of an agents file, each with its message and its position.
pub(crate) fn report_syntax(text: &str, errors: &[(&str, Option<Range<usize>>)], sink: &mut DiagnosticSink) {
    redaction::redact_quoted(text, sink);
    if let Some(start) = json_start(text) {
        let error = sink.error("syntax", SourceSpan { start, end: start + 1 }, "invalid TOML: this is JSON");
        error.help("`kapell agents import FILE` converts the agents of other hosts; with `-`, it reads standard input");
        return;
    }
    for (message, at) in errors {
        let at = at.clone().unwrap_or_default();
        sink.error("syntax", SourceSpan { start: at.start, end: at.end }, format!("invalid TOML: {message}"));
    }
}

/// Returns the start of agents in JSON: of the file, or of a block that was pasted.
fn json_start(text: &str) -> Option<usize> {
    let is_section = |(start, name): &(usize, &str)| text[start + name.len()..].trim_start().starts_with(':');
    let section = || text.match_indices("\"mcpServers\"").find(is_section).map(|(start, _)| start);
    text.find(|c: char| !c.is_whitespace()).filter(|start| text[*start..].starts_with('{')).or_else(section)
}

/// Expands each section separately, so that a disabled agent may refer to unset variables. Returns the variables that are
/// not set, by the name of their section.
fn expand_variables(
    root: &mut DocumentNode<'_>,
    environment: &dyn Environment,
    sink: &mut DiagnosticSink,
) -> HashMap<String, Vec<String>> {
    let mut unset = HashMap::new();
    let NodeValue::Map(root) = &mut root.value else { return unset };
    for (table, entry) in root.iter_mut() {
        let is_agents = table == AGENTS_FILE.agents.name;
        let mut expand = |name: String, node: &mut DocumentNode<'_>, port| {
            let mut expander = Expander::new(environment, port);
            expander.expand(node, sink);
            unset.insert(name, expander.into_unset());
        };
        match &mut entry.node.value {
            NodeValue::Map(sections) if is_agents || table == AGENTS_FILE.models.name => {
                for (name, section) in sections.iter_mut() {
                    let fields = CheckedTable::new(&section.node);
                    if is_agents && fields.boolean(&AGENT.enabled) == Some(false) {
                        continue;
                    }
                    let serves = is_agents && fields.has(&AGENT.command) && fields.has(&AGENT.url);
                    let port = if serves { PortPlaceholder::Unassigned } else { PortPlaceholder::Unavailable };
                    expand(format!("{table}.{name}"), &mut section.node, port);
                }
            }
            _ => expand(table.to_owned(), &mut entry.node, PortPlaceholder::Unavailable),
        }
        let is_deferred = is_agents || table == AGENTS_FILE.llm.name || table == AGENTS_FILE.models.name;
        for name in unset.get(table).into_iter().flatten().filter(|_| !is_deferred) {
            let message = format!("the environment variable `{name}` is not set");
            let help = format!("set it, or provide a default: `${{{name}:-default}}`");
            sink.error("variable", entry.key_span, message).help(help);
        }
    }
    unset
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
