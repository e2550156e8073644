//! Reads `agents.toml` into what is known of each agent and of each language model.
//! Never connects, and never shows a header, a token or an environment value.

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
    diagnostic::Diagnostics,
    environment::{Environment, Expander, Port},
    findings::Findings,
    fingerprint,
    keys::{AGENT, AGENTS_FILE, LLM, PLANNER, SAMPLING},
    map::Map,
    model,
    read::read_text,
    secret_values::{SecretCollector, is_secret_name},
    secrets,
    shape::{self, Fields, Shape},
    source::{Extent, Source},
    tree::{Entry, Node, Tree},
};
use crate::model::{
    AgentId, AgentPolicy, AgentSpec, ChildProcess, Consent, LlmSpec, SamplingPolicy, Secrets, Span, Transport,
};

/// The agents file's name where none is given.
const FILE_NAME: &str = "agents.toml";
/// Most calls in flight on an agent that does not say otherwise: enough to keep it busy, few enough for a
/// server that starts a process for each.
const MAX_CONCURRENCY: usize = 8;
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);
const TOOL_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What an agents file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentsFile {
    /// The agents that may be used, in the order of the file.
    pub agents: IndexMap<AgentId, AgentSpec>,
    /// Those that are switched off by `enabled = false`.
    pub disabled: Vec<AgentId>,
    /// The language models, the default first: that of `[llm]`, else the first of `[models]`.
    pub models: Vec<LlmSpec>,
    /// How goals are planned.
    pub planner: PlannerSettings,
    /// The values that variables gave to keys, tokens, headers and other secrets, to be masked in what agents send.
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

/// How goals are planned.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannerSettings {
    /// The model that plans, by its name; the default one where absent.
    pub model: Option<String>,
    /// Limits the tokens of an answer; where absent, the limit grows after an answer that was cut off.
    pub max_tokens: Option<u32>,
    /// The temperature; the model's own where absent.
    pub temperature: Option<f32>,
    /// How much the model reasons; the model's own setting where absent.
    pub reasoning_effort: Option<String>,
    /// Limits how many tasks an answer may plan.
    pub max_tasks: usize,
}

impl PlannerSettings {
    /// More tasks than a goal in a sentence needs.
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

/// Where the agents file is: `chosen`, else `agents.toml` in the working directory, else in the platform's
/// configuration directory. The last is given when there is none at all.
pub fn agents_path(chosen: Option<&Path>) -> PathBuf {
    if let Some(chosen) = chosen {
        return chosen.to_owned();
    }
    let here = PathBuf::from(FILE_NAME);
    match directories::ProjectDirs::from("", "", "kapell") {
        Some(platform) if !here.exists() => platform.config_dir().join(FILE_NAME),
        _ => here,
    }
}

/// Reads the agents file at `path`.
///
/// # Errors
/// All its mistakes.
pub fn load_agents(path: &Path, environment: &dyn Environment) -> Result<AgentsFile, Diagnostics> {
    let text = read_text(path).map_err(|error| {
        error.with_help("name another file with `--agents PATH`, or write one: `kapell schema agents` describes it")
    })?;
    parse_agents(&path.display().to_string(), &text, environment)
}

/// Reads the text of an agents file that is called `name` in errors.
///
/// # Errors
/// All its mistakes.
pub fn parse_agents(name: &str, text: &str, environment: &dyn Environment) -> Result<AgentsFile, Diagnostics> {
    let mut findings = Findings::new("agents", Arc::new(Source::new(name, text.to_owned())));
    let environment = SecretCollector::new(environment);
    let mut file = read(text, &environment, &mut findings);
    file.secrets = environment.into_secrets();
    if findings.has_errors() { Err(findings.finish()) } else { Ok(file) }
}

fn read(text: &str, environment: &SecretCollector<'_>, findings: &mut Findings) -> AgentsFile {
    let mut file = AgentsFile::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().unwrap_or_default();
        let message = format!("this is no TOML: {}", error.message());
        findings.error("syntax", Extent { start: at.start, end: at.end }, message);
    }
    if findings.has_errors() {
        secrets::conceal_quoted(text, findings);
        // What follows from half a file would only be noise.
        return file;
    }
    let mut root = node(Tree::Map(table_map(table.get_ref())), &table.span());
    secrets::conceal(&root, findings);
    let sections = root.as_map().and_then(|root| root.get("agents")).and_then(|agents| agents.node.as_map());
    let fingerprints: HashMap<String, String> =
        sections.into_iter().flatten().map(|(name, entry)| (name.to_string(), fingerprint::of(&entry.node))).collect();
    expand(&mut root, environment, findings);
    shape::check(&root, &Shape::Section(&AGENTS_FILE), &"the file", findings);
    let fields = Fields::of(&root, &AGENTS_FILE);
    for (name, entry) in fields.node("agents").and_then(Node::as_map).into_iter().flatten() {
        let id = AgentId::from(&**name);
        let agent = Reader { fields: Fields::of(&entry.node, &AGENT), environment, at: entry.key };
        if agent.fields.flag("enabled") == Some(false) {
            file.disabled.push(id);
        } else if let Some(mut spec) = agent.agent(&id, findings) {
            spec.policy.fingerprint = fingerprints.get(&**name).cloned().unwrap_or_default();
            file.agents.insert(id, spec);
        }
    }
    if let Some(llm) = fields.node("llm") {
        let at = fields.key_extent("llm").unwrap_or(llm.extent);
        let spec = Reader { fields: Fields::of(llm, &LLM), environment, at }.model(LlmSpec::DEFAULT_NAME, findings);
        file.models.extend(spec);
    }
    for (name, entry) in fields.node("models").and_then(Node::as_map).into_iter().flatten() {
        if name == LlmSpec::DEFAULT_NAME {
            let message = format!("`{name}` is the name of the model of `[{name}]`");
            findings.error("duplicate_key", entry.key, message).help("give this one another name");
        }
        let model = Reader { fields: Fields::of(&entry.node, &LLM), environment, at: entry.key };
        file.models.extend(model.model(name, findings));
    }
    if let Some(planner) = fields.node("planner").map(|planner| Fields::of(planner, &PLANNER)) {
        let default = fields.has("llm").then_some(LlmSpec::DEFAULT_NAME);
        let further = fields.node("models").and_then(Node::as_map).into_iter().flatten().map(|(name, _)| &**name);
        let known = default.into_iter().chain(further);
        let model = planner.node("model").and_then(|node| model::named(node, known, findings));
        file.planner = model::planner(&planner, model);
        model::check_planner(&planner, &file, findings);
    }
    file
}

/// Expands every section for itself; those that are switched off may name variables that are not set.
fn expand(root: &mut Node<'_>, environment: &dyn Environment, findings: &mut Findings) {
    let Tree::Map(root) = &mut root.tree else { return };
    for (name, entry) in root.iter_mut() {
        let Tree::Map(sections) = &mut entry.node.tree else { continue };
        if name != "agents" {
            Expander::new(environment, Port::Meaningless).expand(&mut entry.node, findings);
            continue;
        }
        for section in sections.values_mut() {
            let fields = Fields::of(&section.node, &AGENT);
            if fields.flag("enabled") == Some(false) {
                continue;
            }
            let serves = fields.has("command") && fields.has("url");
            let port = if serves { Port::NotPicked } else { Port::Meaningless };
            Expander::new(environment, port).expand(&mut section.node, findings);
        }
    }
}

/// Reads one section.
pub(super) struct Reader<'n> {
    pub(super) fields: Fields<'n>,
    environment: &'n SecretCollector<'n>,
    /// The section's name in the file.
    pub(super) at: Extent,
}

impl Reader<'_> {
    fn agent(&self, id: &AgentId, findings: &mut Findings) -> Option<AgentSpec> {
        let fields = &self.fields;
        let transport = self.transport(findings);
        let duration = |name, default| fields.duration(name).map_or(default, |Span(duration)| duration);
        let tools = |name| fields.texts(name).into_iter().map(|(text, _)| text.to_owned()).collect::<Vec<_>>();
        let capabilities = if fields.node("capabilities").is_some_and(|node| node.as_map().is_some()) {
            fields.text_map("capabilities").map(|(name, _, tool)| (name.to_owned(), Some(tool.to_owned()))).collect()
        } else {
            tools("capabilities").into_iter().map(|name| (name, None)).collect()
        };
        Some(AgentSpec {
            id: id.clone(),
            transport: transport?,
            protocol: fields.choice("protocol").unwrap_or_default(),
            startup_timeout: duration("startup_timeout", STARTUP_TIMEOUT),
            max_processes: fields.whole("max_processes").unwrap_or(1),
            sampling: self.sampling(findings),
            check_results: fields.choice("check_results").unwrap_or_default(),
            policy: AgentPolicy {
                required: fields.flag("required").unwrap_or(false),
                max_concurrency: fields.whole("max_concurrency").unwrap_or(MAX_CONCURRENCY),
                tool_timeout: Span(duration("tool_timeout", TOOL_TIMEOUT)),
                effect: fields.choice("effect"),
                fingerprint: String::new(),
            },
            enabled_tools: fields.has("enabled_tools").then(|| tools("enabled_tools")),
            disabled_tools: tools("disabled_tools"),
            capabilities,
        })
    }

    fn transport(&self, findings: &mut Findings) -> Option<Transport> {
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
            if let Some(at) = fields.key_extent(key).filter(|_| !fields.has(needs)) {
                findings.error("useless_key", at, format!("`{key}` has no effect without `{needs}`"));
            }
        }
        if let Some(at) = fields.key_extent("max_processes").filter(|_| fields.has("url")) {
            findings.error("useless_key", at, "`max_processes` has no effect with `url`");
        }
        let child = fields.text("command").map(|command| self.child(command));
        if !fields.has("url") {
            if !fields.has("command") {
                let found = findings.error("no_transport", self.at, "the agent has neither `command` nor `url`");
                found.help("give `command` for a program to start, or `url` for a server to connect to");
            }
            return child.map(Transport::Stdio);
        }
        let url = fields.node("url")?;
        Some(Transport::Http {
            url: checked_url(url, "url", findings)?,
            headers: self.headers(findings),
            bearer_token: self.secret("bearer_token_env_var", findings),
            server: child,
        })
    }

    fn sampling(&self, findings: &mut Findings) -> SamplingPolicy {
        let Some(node) = self.fields.node("sampling") else { return SamplingPolicy::default() };
        if node.as_map().is_none() {
            let consent = self.fields.choice("sampling").unwrap_or_default();
            return SamplingPolicy { consent, ..SamplingPolicy::default() };
        }
        let fields = Fields::of(node, &SAMPLING);
        let consent = fields.choice("policy").unwrap_or_default();
        for cap in ["max_tokens", "max_requests"] {
            if let Some(at) = fields.key_extent(cap).filter(|_| consent == Consent::Deny) {
                findings.error("useless_key", at, format!("`{cap}` has no effect where `policy` is `deny`"));
            }
        }
        SamplingPolicy { consent, max_tokens: fields.whole("max_tokens"), max_requests: fields.whole("max_requests") }
    }

    fn child(&self, command: &str) -> ChildProcess {
        let fields = &self.fields;
        let mut env: IndexMap<String, String> = IndexMap::new();
        for (name, _) in fields.texts("env_vars") {
            if let Some(value) = self.environment.variable(name) {
                env.insert(name.to_owned(), value);
            }
        }
        for (name, node, value) in fields.text_map("env") {
            // A hidden value came from a variable.
            if node.hidden && is_secret_name(name) {
                self.environment.add(value);
            }
            env.insert(name.to_owned(), value.to_owned());
        }
        ChildProcess {
            command: command.to_owned(),
            args: fields.texts("args").into_iter().map(|(text, _)| text.to_owned()).collect(),
            env,
            cwd: fields.text("cwd").map(PathBuf::from),
        }
    }

    /// The headers that are written out and those that variables hold.
    pub(super) fn headers(&self, findings: &mut Findings) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (name, node, value) in self.fields.text_map("http_headers") {
            check_header((name, value), node.extent, findings);
            if node.hidden && is_secret_name(name) {
                self.environment.add_header(value);
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        for (name, node, variable) in self.fields.text_map("env_http_headers") {
            if let Some(value) = self.variable(variable, node, findings) {
                check_header((name, &value), node.extent, findings);
                if is_secret_name(name) {
                    self.environment.add_header(&value);
                }
                headers.push((name.to_owned(), value));
            }
        }
        headers
    }

    /// The value of the variable that the key `name` names.
    pub(super) fn secret(&self, name: &str, findings: &mut Findings) -> Option<String> {
        let node = self.fields.node(name)?;
        let value = self.variable(node.as_text()?, node, findings)?;
        self.environment.add(&value);
        if http::HeaderValue::from_str(&value).is_err() {
            let message = format!("the value of the variable that `{name}` names cannot be sent in a header");
            findings.error("header", node.extent, message).help("look for a line break at its end");
        }
        Some(value)
    }

    /// The value of the variable called `name`, which stands in `node`.
    fn variable(&self, name: &str, node: &Node<'_>, findings: &mut Findings) -> Option<String> {
        if !secrets::is_variable(name) {
            let found = findings.error("variable", node.extent, "this must be the name of an environment variable");
            found.help("put the secret itself into a variable, and the name of that here");
            return None;
        }
        let value = self.environment.variable(name).filter(|value| !value.is_empty());
        if value.is_none() {
            let message = format!("the environment variable `{name}` is not set");
            findings.error("variable", node.extent, message).help("set it, or leave this key out");
        }
        value
    }
}

fn check_header((name, value): (&str, &str), at: Extent, findings: &mut Findings) {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        findings.error("header", at, format!("`{name}` is no name of a header"));
    }
    if http::HeaderValue::from_str(value).is_err() {
        findings.error("header", at, format!("the value of the header `{name}` cannot be sent"));
    }
}

/// The URL that `node` holds, if it is one. It may hold secrets, so errors say only what is wrong with it.
pub(super) fn checked_url(node: &Node<'_>, name: &str, findings: &mut Findings) -> Option<String> {
    let text = node.as_text()?;
    let problem = match text.parse::<http::Uri>() {
        Err(_) => Some("is no URL"),
        Ok(uri) if !matches!(uri.scheme_str(), Some("http" | "https")) => Some("does not start with `http(s)://`"),
        Ok(uri) if uri.host().is_none_or(str::is_empty) => Some("names no host"),
        Ok(_) => None,
    };
    match problem {
        Some(problem) => {
            let found = findings.error("bad_url", node.extent, format!("`{name}` {problem}"));
            found.help("expected something like `http://127.0.0.1:8006/mcp`");
            None
        }
        None => Some(text.to_owned()),
    }
}

fn node<'t>(tree: Tree<'t>, span: &std::ops::Range<usize>) -> Node<'t> {
    Node::new(tree, Extent { start: span.start, end: span.end })
}

/// The tree of a TOML table, in the order of the file. As deep as the TOML parser lets it be.
fn table_map<'t>(table: &'t DeTable<'_>) -> Map<'t> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let span = key.span();
            let key_extent = Extent { start: span.start, end: span.end };
            (Cow::Borrowed(&**key.get_ref()), Entry { key: key_extent, node: value_node(value) })
        })
        .collect();
    entries.sort_by_key(|(_, entry)| entry.key);
    entries.into_iter().collect()
}

fn value_node<'t>(value: &'t Spanned<DeValue<'_>>) -> Node<'t> {
    let tree = match value.get_ref() {
        DeValue::String(text) => Tree::Text(Cow::Borrowed(text)),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(whole) => Tree::Number(whole.into()),
            Err(_) => Tree::Text(integer.to_string().into()),
        },
        DeValue::Float(float) => match float.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
            Some(number) => Tree::Number(number),
            None => Tree::Text(float.to_string().into()),
        },
        DeValue::Boolean(value) => Tree::Bool(*value),
        DeValue::Datetime(moment) => Tree::Text(moment.to_string().into()),
        DeValue::Array(values) => Tree::List(values.iter().map(value_node).collect()),
        DeValue::Table(table) => Tree::Map(table_map(table)),
    };
    node(tree, &value.span())
}
