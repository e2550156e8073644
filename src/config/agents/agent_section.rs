//! Reads the section of an agent.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use super::environment::Environment as _;
use super::secret_collector::is_secret_name;
use super::section_reader::{SectionReader, parse_url};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::SAMPLING;
use crate::config::schema::table::CheckedTable;
use crate::model::{AgentId, AgentPolicy, AgentSpec, ChildProcess, Consent, HumanDuration, SamplingPolicy, Transport};

/// The default limit of concurrent calls to an agent. It keeps the agent busy without overloading a server that starts
/// a process for each call.
const DEFAULT_MAX_CONCURRENCY: usize = 8;
const DEFAULT_STARTUP_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_TOOL_TIMEOUT: Duration = Duration::from_secs(5 * 60);

impl SectionReader<'_> {
    /// Reads the agent `id`. Returns `None` if its command or URL is missing or invalid.
    pub(super) fn read_agent(&self, id: &AgentId, findings: &mut DiagnosticSink) -> Option<AgentSpec> {
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
                let found = findings.error("no_transport", self.span, "the agent must have `command` or `url`");
                found.help("set `command` to start a program, or `url` to connect to a server");
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
                findings.error("useless_key", at, format!("`{cap}` has no effect with `policy = \"deny\"`"));
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
}
