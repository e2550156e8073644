//! Reads the section of an agent.

use std::path::Path;
use std::time::Duration;

use indexmap::IndexMap;

use super::environment::Environment as _;
use super::secret_collector::is_secret_name;
use super::section_reader::{SectionReader, absolute_from, parse_url};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{AGENT, AgentKeys, SAMPLING};
use crate::config::schema::table::CheckedTable;
use crate::model::{
    AgentId, AgentPolicy, AgentRoot, AgentSpec, ChildProcess, Consent, HumanDuration, NetworkSettings, SamplingPolicy,
    Transport,
};

/// The default limit of concurrent calls to an agent. It keeps the agent busy without overloading a server that starts
/// a process for each call.
const DEFAULT_MAX_CONCURRENCY: usize = 8;
/// The default limit of the size of one message: far more than a model can read.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
const DEFAULT_STARTUP_TIMEOUT: Duration = Duration::from_secs(30);
/// The additional time of a command that may install a package first.
const INSTALLATION_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const DEFAULT_TOOL_TIMEOUT: Duration = Duration::from_secs(5 * 60);

impl SectionReader<'_, AgentKeys> {
    /// Reads the agent `id`. Returns `None` if its command or URL is missing or invalid.
    pub(super) fn read_agent(&self, id: &AgentId, sink: &mut DiagnosticSink) -> Option<AgentSpec> {
        let fields = self.fields;
        let mut transport = self.read_transport(sink);
        let unset_variables = self.unset.borrow().clone();
        if !unset_variables.is_empty() {
            // The agent is never started or contacted.
            let nothing = ChildProcess { command: String::new(), args: Vec::new(), env: IndexMap::new(), cwd: None };
            transport = transport.or(Some(Transport::Stdio(nothing)));
        }
        let installs = transport.as_ref().and_then(Transport::child_process).and_then(ChildProcess::installation);
        // A configured timeout limits the whole start.
        let installation_timeout = match (installs, fields.has(&AGENT.startup_timeout)) {
            (Some(_), false) => INSTALLATION_TIMEOUT,
            _ => Duration::ZERO,
        };
        let duration = |key, default| fields.duration(key).map_or(default, |HumanDuration(duration)| duration);
        let tools = |key| fields.text_list(key).into_iter().map(|(text, _)| text.to_owned()).collect::<Vec<_>>();
        let capabilities = if fields.node(&AGENT.capabilities).is_some_and(|node| node.as_map().is_some()) {
            fields
                .text_map(&AGENT.capabilities)
                .map(|(name, _, tool)| (name.to_owned(), Some(tool.to_owned())))
                .collect()
        } else {
            tools(&AGENT.capabilities).into_iter().map(|name| (name, None)).collect()
        };
        Some(AgentSpec {
            id: id.clone(),
            transport: transport?,
            network: self.read_network(sink),
            roots: self.read_roots(sink),
            protocol: fields.choice(&AGENT.protocol).unwrap_or_default(),
            startup_timeout: duration(&AGENT.startup_timeout, DEFAULT_STARTUP_TIMEOUT),
            installation_timeout,
            max_processes: fields.integer(&AGENT.max_processes).unwrap_or(1),
            max_message_bytes: fields.integer(&AGENT.max_message_bytes).unwrap_or(DEFAULT_MAX_MESSAGE_BYTES),
            log_level: fields.choice(&AGENT.log_level).unwrap_or_default(),
            sampling: self.read_sampling(sink),
            check_arguments: fields.choice(&AGENT.check_arguments).unwrap_or_default(),
            check_results: fields.choice(&AGENT.check_results).unwrap_or_default(),
            policy: AgentPolicy {
                required: fields.boolean(&AGENT.required).unwrap_or(false),
                max_concurrency: fields.integer(&AGENT.max_concurrency).unwrap_or(DEFAULT_MAX_CONCURRENCY),
                tool_timeout: HumanDuration(duration(&AGENT.tool_timeout, DEFAULT_TOOL_TIMEOUT)),
                effect: fields.choice(&AGENT.effect),
                fingerprint: String::new(),
            },
            enabled_tools: fields.has(&AGENT.enabled_tools).then(|| tools(&AGENT.enabled_tools)),
            disabled_tools: tools(&AGENT.disabled_tools),
            capabilities,
            unset_variables,
        })
    }

    fn read_transport(&self, sink: &mut DiagnosticSink) -> Option<Transport> {
        let fields = self.fields;
        if !fields.has(&AGENT.command) {
            let keys = [&AGENT.args, &AGENT.env, &AGENT.env_vars, &AGENT.cwd];
            fields.report_useless(&keys, "without `command`", sink);
        }
        if fields.has(&AGENT.url) {
            fields.report_useless(&[&AGENT.max_processes], "with `url`", sink);
        } else {
            let keys = [
                &AGENT.http_headers,
                &AGENT.env_http_headers,
                &AGENT.bearer_token_env_var,
                &AGENT.ca_file,
                &AGENT.client_cert_file,
                &AGENT.proxy,
                &AGENT.oauth,
            ];
            fields.report_useless(&keys, "without `url`", sink);
        }
        let child = fields.text(&AGENT.command).map(|command| self.read_child_process(command));
        if !fields.has(&AGENT.url) {
            if !fields.has(&AGENT.command) {
                let error = sink.error("no_transport", self.span, "the agent must have `command` or `url`");
                error.help("set `command` to start a program, or `url` to connect to a server");
            }
            return child.map(Transport::Stdio);
        }
        // Read in any case, so that all variables that are not set are known.
        let headers = self.read_headers((&AGENT.http_headers, &AGENT.env_http_headers), sink);
        let bearer_token = self.read_secret(&AGENT.bearer_token_env_var, sink);
        let oauth = self.read_oauth(sink);
        let url = parse_url(fields.node(&AGENT.url)?, &AGENT.url, sink)?;
        Some(Transport::Http { url, headers, bearer_token, oauth, server: child })
    }

    fn read_roots(&self, sink: &mut DiagnosticSink) -> Vec<AgentRoot> {
        let mut roots = Vec::new();
        for (text, node) in self.fields.text_list(&AGENT.roots) {
            match parse_root(self.base, text) {
                Some(root) => roots.push(root),
                None => {
                    let error = sink.error("bad_root", node.span, "the root is neither a path nor a `file://` URI");
                    error.help("expected a path such as `.`, or a URI such as `file:///home/me/notes`");
                }
            }
        }
        roots
    }

    fn read_network(&self, sink: &mut DiagnosticSink) -> NetworkSettings {
        let fields = self.fields;
        let proxy = fields.node(&AGENT.proxy).and_then(|node| parse_url(node, &AGENT.proxy, sink));
        if let Some(proxy) = &proxy {
            self.environment.add_url_password(proxy);
        }
        NetworkSettings {
            ca_file: self.read_path(&AGENT.ca_file),
            client_cert_file: self.read_path(&AGENT.client_cert_file),
            proxy,
        }
    }

    fn read_sampling(&self, sink: &mut DiagnosticSink) -> SamplingPolicy {
        let Some(node) = self.fields.node(&AGENT.sampling) else { return SamplingPolicy::default() };
        if node.as_map().is_none() {
            let consent = self.fields.choice(&AGENT.sampling).unwrap_or_default();
            return SamplingPolicy { consent, ..SamplingPolicy::default() };
        }
        let fields = CheckedTable::new(node);
        let consent = fields.choice(&SAMPLING.policy).unwrap_or_default();
        if consent == Consent::Deny {
            fields.report_useless(&[&SAMPLING.max_tokens, &SAMPLING.max_requests], "with `policy = \"deny\"`", sink);
        }
        SamplingPolicy {
            consent,
            max_tokens: fields.integer(&SAMPLING.max_tokens),
            max_requests: fields.integer(&SAMPLING.max_requests),
        }
    }

    /// Returns the path of a program, or its name, which is looked up in `PATH`.
    fn resolve_command(&self, command: &str) -> String {
        if !command.contains('/') {
            return command.to_owned();
        }
        absolute_from(self.base, command).to_str().map_or_else(|| command.to_owned(), str::to_owned)
    }

    fn read_child_process(&self, command: &str) -> ChildProcess {
        let fields = self.fields;
        let mut env: IndexMap<String, String> = IndexMap::new();
        for (name, _) in fields.text_list(&AGENT.env_vars) {
            if let Some(value) = self.environment.variable(name) {
                env.insert(name.to_owned(), value);
            }
        }
        for (name, node, value) in fields.text_map(&AGENT.env) {
            // A secret node contains the value of a variable.
            if node.is_secret && is_secret_name(name) {
                self.environment.add(value);
            }
            env.insert(name.to_owned(), value.to_owned());
        }
        ChildProcess {
            command: self.resolve_command(command),
            args: fields.text_list(&AGENT.args).into_iter().map(|(text, _)| text.to_owned()).collect(),
            env,
            cwd: self.read_path(&AGENT.cwd),
        }
    }
}

/// Returns the root for a path, which starts at `base` if it is relative, or for a `file://` URI.
fn parse_root(base: &Path, text: &str) -> Option<AgentRoot> {
    let url = if text.contains("://") {
        url::Url::parse(text).ok().filter(|url| url.scheme() == "file")?
    } else {
        // A server compares the paths of files with the root, so symbolic links are resolved.
        let path = absolute_from(base, text);
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        url::Url::from_file_path(path).ok()?
    };
    let name = url.path_segments().and_then(|segments| segments.rev().find(|segment| !segment.is_empty()));
    let name = name.map_or("/".into(), |name| percent_encoding::percent_decode_str(name).decode_utf8_lossy());
    Some(AgentRoot { name: name.into_owned(), uri: url.into() })
}
