//! Reads `agents.toml` into the settings of agents and language models. Diagnostics never contain a header, a token, or
//! an environment value.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    environment::{Environment, Expander, PortPlaceholder},
    llm_section, redaction,
    secret_collector::{SecretCollector, is_secret_name},
};
use crate::{
    config::{
        diagnostics::{
            diagnostic::Diagnostics,
            sink::DiagnosticSink,
            source::{SourceFile, SourceSpan},
        },
        fingerprint,
        schema::{
            keys::{AGENT, AGENTS_FILE, LLM, PLANNER, SAMPLING},
            table::{self, CheckedTable, ValueType},
        },
        yaml::{
            document::{DocumentNode, MapEntry, NodeValue},
            map::Map,
            read::read_text,
        },
    },
    model::{
        AgentId, AgentPolicy, AgentSpec, ChildProcess, Consent, HumanDuration, LlmSpec, SamplingPolicy, Secrets,
        Transport,
    },
};

/// The default name of the agents file.
const DEFAULT_FILE_NAME: &str = "agents.toml";
/// The default limit of concurrent calls to an agent. It keeps the agent busy without overloading a server that starts
/// a process for each call.
const DEFAULT_MAX_CONCURRENCY: usize = 8;
const DEFAULT_STARTUP_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_TOOL_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The contents of an agents file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentsFile {
    /// The enabled agents, in the order of the file.
    pub agents: IndexMap<AgentId, AgentSpec>,
    /// The agents with `enabled = false`.
    pub disabled: Vec<AgentId>,
    /// The language models, the default first: the one of `[llm]`, or else the first of `[models]`.
    pub models: Vec<LlmSpec>,
    /// The settings of the planner.
    pub planner: PlannerSettings,
    /// The values of keys, tokens, headers, and other secrets from variables. They are masked in what agents send.
    pub secrets: Secrets,
}

impl AgentsFile {
    /// Returns the model that plans goals.
    pub fn planner_model(&self) -> Option<&LlmSpec> {
        match &self.planner.model {
            Some(name) => self.models.iter().find(|spec| spec.name == *name),
            None => self.models.first(),
        }
    }
}

/// The settings of the planner.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannerSettings {
    /// The name of the planning model. The default model is used if it is absent.
    pub model: Option<String>,
    /// The maximum tokens of a reply. If it is absent, the limit grows after a reply that was cut off.
    pub max_tokens: Option<u32>,
    /// The temperature. The model's own default is used if it is absent.
    pub temperature: Option<f32>,
    /// The reasoning effort. The model's own default is used if it is absent.
    pub reasoning_effort: Option<String>,
    /// The maximum number of tasks in a plan.
    pub max_tasks: usize,
}

impl PlannerSettings {
    /// More tasks than a goal in one sentence needs.
    pub const DEFAULT_MAX_TASKS: usize = 16;
}

impl Default for PlannerSettings {
    fn default() -> Self {
        Self {
            model: None,
            max_tokens: None,
            temperature: None,
            reasoning_effort: None,
            max_tasks: Self::DEFAULT_MAX_TASKS,
        }
    }
}

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
        error.with_help("name another file with `--agents PATH`, or write one: `kapell schema agents` describes it")
    })?;
    parse_agents(&path.display().to_string(), &text, environment)
}

/// Parses the text of an agents file; diagnostics use `name` as the file name.
///
/// # Errors
/// Returns all diagnostics of the file.
pub fn parse_agents(name: &str, text: &str, environment: &dyn Environment) -> Result<AgentsFile, Diagnostics> {
    let mut findings = DiagnosticSink::new("agents", Arc::new(SourceFile::new(name, text.to_owned())));
    let environment = SecretCollector::new(environment);
    let mut file = read_agents_file(text, &environment, &mut findings);
    file.secrets = environment.into_secrets();
    if findings.has_errors() { Err(findings.finish()) } else { Ok(file) }
}

fn read_agents_file(text: &str, environment: &SecretCollector<'_>, findings: &mut DiagnosticSink) -> AgentsFile {
    let mut file = AgentsFile::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().unwrap_or_default();
        let message = format!("this is no TOML: {}", error.message());
        findings.error("syntax", SourceSpan { start: at.start, end: at.end }, message);
    }
    if findings.has_errors() {
        redaction::redact_quoted(text, findings);
        // Further diagnostics of an incomplete file would only be noise.
        return file;
    }
    let mut root = node_at(NodeValue::Map(map_from_table(table.get_ref())), &table.span());
    redaction::redact(&root, findings);
    let sections = root.as_map().and_then(|root| root.get("agents")).and_then(|agents| agents.node.as_map());
    let fingerprints: HashMap<String, String> = sections
        .into_iter()
        .flatten()
        .map(|(name, entry)| (name.to_string(), fingerprint::fingerprint_of_section(&entry.node)))
        .collect();
    expand_variables(&mut root, environment, findings);
    table::check_value(&root, &ValueType::Table(&AGENTS_FILE), &"the file", findings);
    let fields = CheckedTable::new(&root, &AGENTS_FILE);
    for (name, entry) in fields.node("agents").and_then(DocumentNode::as_map).into_iter().flatten() {
        let id = AgentId::from(&**name);
        let agent = SectionReader { fields: CheckedTable::new(&entry.node, &AGENT), environment, span: entry.key_span };
        if agent.fields.boolean("enabled") == Some(false) {
            file.disabled.push(id);
        } else if let Some(mut spec) = agent.read_agent(&id, findings) {
            spec.policy.fingerprint = fingerprints.get(&**name).cloned().unwrap_or_default();
            file.agents.insert(id, spec);
        }
    }
    if let Some(llm) = fields.node("llm") {
        let at = fields.key_span("llm").unwrap_or(llm.span);
        let spec = SectionReader { fields: CheckedTable::new(llm, &LLM), environment, span: at }
            .read_model(LlmSpec::DEFAULT_NAME, findings);
        file.models.extend(spec);
    }
    for (name, entry) in fields.node("models").and_then(DocumentNode::as_map).into_iter().flatten() {
        if name == LlmSpec::DEFAULT_NAME {
            let message = format!("`{name}` is the name of the model of `[{name}]`");
            findings.error("duplicate_key", entry.key_span, message).help("give this one another name");
        }
        let model = SectionReader { fields: CheckedTable::new(&entry.node, &LLM), environment, span: entry.key_span };
        file.models.extend(model.read_model(name, findings));
    }
    if let Some(planner) = fields.node("planner").map(|planner| CheckedTable::new(planner, &PLANNER)) {
        let default = fields.has("llm").then_some(LlmSpec::DEFAULT_NAME);
        let further =
            fields.node("models").and_then(DocumentNode::as_map).into_iter().flatten().map(|(name, _)| &**name);
        let known = default.into_iter().chain(further);
        let model = planner.node("model").and_then(|node| llm_section::resolve_model(node, known, findings));
        file.planner = llm_section::read_planner(&planner, model);
        llm_section::check_planner(&planner, &file, findings);
    }
    file
}

/// Expands each section separately, so that a disabled agent may refer to unset variables.
fn expand_variables(root: &mut DocumentNode<'_>, environment: &dyn Environment, findings: &mut DiagnosticSink) {
    let NodeValue::Map(root) = &mut root.value else { return };
    for (name, entry) in root.iter_mut() {
        let NodeValue::Map(sections) = &mut entry.node.value else { continue };
        if name != "agents" {
            Expander::new(environment, PortPlaceholder::Unavailable).expand(&mut entry.node, findings);
            continue;
        }
        for section in sections.values_mut() {
            let fields = CheckedTable::new(&section.node, &AGENT);
            if fields.boolean("enabled") == Some(false) {
                continue;
            }
            let serves = fields.has("command") && fields.has("url");
            let port = if serves { PortPlaceholder::Unassigned } else { PortPlaceholder::Unavailable };
            Expander::new(environment, port).expand(&mut section.node, findings);
        }
    }
}

/// A reader of one section.
pub(crate) struct SectionReader<'n> {
    pub(crate) fields: CheckedTable<'n>,
    environment: &'n SecretCollector<'n>,
    /// The position of the section's name.
    pub(crate) span: SourceSpan,
}

impl SectionReader<'_> {
    fn read_agent(&self, id: &AgentId, findings: &mut DiagnosticSink) -> Option<AgentSpec> {
        let fields = &self.fields;
        let transport = self.read_transport(findings);
        let duration = |name, default| fields.duration(name).map_or(default, |HumanDuration(duration)| duration);
        let tools = |name| fields.text_list(name).into_iter().map(|(text, _)| text.to_owned()).collect::<Vec<_>>();
        let capabilities = if fields.node("capabilities").is_some_and(|node| node.as_map().is_some()) {
            fields.text_map("capabilities").map(|(name, _, tool)| (name.to_owned(), Some(tool.to_owned()))).collect()
        } else {
            tools("capabilities").into_iter().map(|name| (name, None)).collect()
        };
        Some(AgentSpec {
            id: id.clone(),
            transport: transport?,
            protocol: fields.choice("protocol").unwrap_or_default(),
            startup_timeout: duration("startup_timeout", DEFAULT_STARTUP_TIMEOUT),
            max_processes: fields.integer("max_processes").unwrap_or(1),
            sampling: self.read_sampling(findings),
            check_results: fields.choice("check_results").unwrap_or_default(),
            policy: AgentPolicy {
                required: fields.boolean("required").unwrap_or(false),
                max_concurrency: fields.integer("max_concurrency").unwrap_or(DEFAULT_MAX_CONCURRENCY),
                tool_timeout: HumanDuration(duration("tool_timeout", DEFAULT_TOOL_TIMEOUT)),
                effect: fields.choice("effect"),
                fingerprint: String::new(),
            },
            enabled_tools: fields.has("enabled_tools").then(|| tools("enabled_tools")),
            disabled_tools: tools("disabled_tools"),
            capabilities,
        })
    }

    fn read_transport(&self, findings: &mut DiagnosticSink) -> Option<Transport> {
        let fields = &self.fields;
        for (key, needs) in [
            ("args", "command"),
            ("env", "command"),
            ("env_vars", "command"),
            ("cwd", "command"),
            ("http_headers", "url"),
            ("env_http_headers", "url"),
            ("bearer_token_env_var", "url"),
        ] {
            if let Some(at) = fields.key_span(key).filter(|_| !fields.has(needs)) {
                findings.error("useless_key", at, format!("`{key}` has no effect without `{needs}`"));
            }
        }
        if let Some(at) = fields.key_span("max_processes").filter(|_| fields.has("url")) {
            findings.error("useless_key", at, "`max_processes` has no effect with `url`");
        }
        let child = fields.text("command").map(|command| self.read_child_process(command));
        if !fields.has("url") {
            if !fields.has("command") {
                let found = findings.error("no_transport", self.span, "the agent has neither `command` nor `url`");
                found.help("give `command` for a program to start, or `url` for a server to connect to");
            }
            return child.map(Transport::Stdio);
        }
        let url = fields.node("url")?;
        Some(Transport::Http {
            url: parse_url(url, "url", findings)?,
            headers: self.read_headers(findings),
            bearer_token: self.read_secret("bearer_token_env_var", findings),
            server: child,
        })
    }

    fn read_sampling(&self, findings: &mut DiagnosticSink) -> SamplingPolicy {
        let Some(node) = self.fields.node("sampling") else { return SamplingPolicy::default() };
        if node.as_map().is_none() {
            let consent = self.fields.choice("sampling").unwrap_or_default();
            return SamplingPolicy { consent, ..SamplingPolicy::default() };
        }
        let fields = CheckedTable::new(node, &SAMPLING);
        let consent = fields.choice("policy").unwrap_or_default();
        for cap in ["max_tokens", "max_requests"] {
            if let Some(at) = fields.key_span(cap).filter(|_| consent == Consent::Deny) {
                findings.error("useless_key", at, format!("`{cap}` has no effect where `policy` is `deny`"));
            }
        }
        SamplingPolicy {
            consent,
            max_tokens: fields.integer("max_tokens"),
            max_requests: fields.integer("max_requests"),
        }
    }

    fn read_child_process(&self, command: &str) -> ChildProcess {
        let fields = &self.fields;
        let mut env: IndexMap<String, String> = IndexMap::new();
        for (name, _) in fields.text_list("env_vars") {
            if let Some(value) = self.environment.variable(name) {
                env.insert(name.to_owned(), value);
            }
        }
        for (name, node, value) in fields.text_map("env") {
            // A secret node contains the value of a variable.
            if node.is_secret && is_secret_name(name) {
                self.environment.add(value);
            }
            env.insert(name.to_owned(), value.to_owned());
        }
        ChildProcess {
            command: command.to_owned(),
            args: fields.text_list("args").into_iter().map(|(text, _)| text.to_owned()).collect(),
            env,
            cwd: fields.text("cwd").map(PathBuf::from),
        }
    }

    /// Returns the headers with literal values and those with values from variables.
    pub(crate) fn read_headers(&self, findings: &mut DiagnosticSink) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (name, node, value) in self.fields.text_map("http_headers") {
            check_header((name, value), node.span, findings);
            if node.is_secret && is_secret_name(name) {
                self.environment.add_header(value);
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        for (name, node, variable) in self.fields.text_map("env_http_headers") {
            if let Some(value) = self.read_variable(variable, node, findings) {
                check_header((name, &value), node.span, findings);
                if is_secret_name(name) {
                    self.environment.add_header(&value);
                }
                headers.push((name.to_owned(), value));
            }
        }
        headers
    }

    /// Returns the value of the variable that the key `name` refers to.
    pub(crate) fn read_secret(&self, name: &str, findings: &mut DiagnosticSink) -> Option<String> {
        let node = self.fields.node(name)?;
        let value = self.read_variable(node.as_text()?, node, findings)?;
        self.environment.add(&value);
        if http::HeaderValue::from_str(&value).is_err() {
            let message = format!("the value of the variable that `{name}` names cannot be sent in a header");
            findings.error("header", node.span, message).help("look for a line break at its end");
        }
        Some(value)
    }

    /// Returns the value of the variable `name`, which is the text of `node`.
    fn read_variable(&self, name: &str, node: &DocumentNode<'_>, findings: &mut DiagnosticSink) -> Option<String> {
        if !redaction::is_variable_name(name) {
            let found = findings.error("variable", node.span, "this must be the name of an environment variable");
            found.help("put the secret itself into a variable, and the name of that here");
            return None;
        }
        let value = self.environment.variable(name).filter(|value| !value.is_empty());
        if value.is_none() {
            let message = format!("the environment variable `{name}` is not set");
            findings.error("variable", node.span, message).help("set it, or leave this key out");
        }
        value
    }
}

fn check_header((name, value): (&str, &str), at: SourceSpan, findings: &mut DiagnosticSink) {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        findings.error("header", at, format!("`{name}` is no name of a header"));
    }
    if http::HeaderValue::from_str(value).is_err() {
        findings.error("header", at, format!("the value of the header `{name}` cannot be sent"));
    }
}

/// Returns the URL in `node`, if it is valid. Errors do not repeat the URL, because it may contain secrets.
pub(crate) fn parse_url(node: &DocumentNode<'_>, name: &str, findings: &mut DiagnosticSink) -> Option<String> {
    let text = node.as_text()?;
    let problem = match text.parse::<http::Uri>() {
        Err(_) => Some("is no URL"),
        Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => Some("does not start with `http(s)://`"),
        Ok(uri) if uri.host().is_none_or(str::is_empty) => Some("names no host"),
        Ok(_) => None,
    };
    match problem {
        Some(problem) => {
            let found = findings.error("bad_url", node.span, format!("`{name}` {problem}"));
            found.help("expected something like `http://127.0.0.1:8006/mcp`");
            None
        }
        None => Some(text.to_owned()),
    }
}

fn node_at<'t>(tree: NodeValue<'t>, span: &std::ops::Range<usize>) -> DocumentNode<'t> {
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
            Ok(whole) => NodeValue::Number(whole.into()),
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
