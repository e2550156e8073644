//! The configuration of an agent (from `agents.toml`) and the capabilities that it reports.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgentId, AgentOffers, AgentPolicy, Consent, Effect, Failure, FailureKind, JsonObject, OAuthSpec};

/// An agent of `agents.toml`, variables expanded.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSpec {
    /// The section's name.
    pub id: AgentId,
    /// The transport.
    pub transport: Transport,
    /// The settings of connections over HTTP.
    pub network: NetworkSettings,
    /// The directories and files that the agent is allowed to use.
    pub roots: Vec<AgentRoot>,
    /// The protocol era.
    pub protocol: Protocol,
    /// The timeout for connecting, handshake included.
    pub startup_timeout: std::time::Duration,
    /// The additional time of a command that may install a package before the server starts; zero for all others.
    pub installation_timeout: std::time::Duration,
    /// The maximum number of concurrent processes of a stdio agent; at least 1. More than one is started only for an
    /// agent that sends requests to the host over a connection that does not identify the call.
    pub max_processes: usize,
    /// The maximum size of one message from the agent, in bytes.
    pub max_message_bytes: usize,
    /// The least severe log messages that it is asked to send.
    pub log_level: LogLevel,
    /// The limits on its requests to the language model.
    pub sampling: SamplingPolicy,
    /// The settings that the engine needs.
    pub policy: AgentPolicy,
    /// The handling of arguments that break the input schema of their tool.
    pub check_arguments: SchemaChecks,
    /// The handling of results that break the output schema of their tool.
    pub check_results: SchemaChecks,
    /// The only tools that may be called; all if absent.
    pub enabled_tools: Option<Vec<String>>,
    /// Tools that must not be called.
    pub disabled_tools: Vec<String>,
    /// Capabilities that the agent serves, each with its tool. Without one, the task names the tool.
    pub capabilities: IndexMap<String, Option<String>>,
    /// The environment variables that its section needs and that are not set. With any, the agent is unavailable.
    pub unset_variables: Vec<String>,
}

impl AgentSpec {
    /// Returns the maximum duration of connecting, with the time for an installation.
    pub fn max_startup(&self) -> std::time::Duration {
        self.startup_timeout + self.installation_timeout
    }

    /// Returns the failure of an agent whose section needs variables that are not set.
    pub fn unset_variables_failure(&self) -> Option<Failure> {
        let variables = describe_unset(&self.unset_variables)?;
        let message = format!("agent `{}` cannot be used: {variables}", self.id);
        let help =
            format!("set it in the environment or in `.env` beside the agents file; `[agents.{}]` needs it", self.id);
        Some(Failure::new(FailureKind::AgentUnavailable, message).with_help(help))
    }

    /// Returns whether the agents file allows calls of `tool`.
    pub fn is_tool_allowed(&self, tool: &str) -> bool {
        self.enabled_tools.as_ref().is_none_or(|tools| tools.iter().any(|name| name == tool))
            && !self.disabled_tools.iter().any(|name| name == tool)
    }
}

/// Describes environment variables that are not set. Returns `None` if there are none.
pub fn describe_unset(variables: &[String]) -> Option<String> {
    let names: Vec<String> = variables.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => None,
        [name] => Some(format!("the environment variable {name} is not set")),
        names => Some(format!("the environment variables {} are not set", names.join(", "))),
    }
}

/// Limits on an agent's requests to the language model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SamplingPolicy {
    /// The permission to make requests.
    pub consent: Consent,
    /// The maximum number of tokens of its requests in a run, prompts and replies together.
    pub max_tokens: Option<u64>,
    /// The maximum number of its requests in a run.
    pub max_requests: Option<u64>,
}

/// The transport of an agent.
#[derive(Clone, PartialEq)]
pub enum Transport {
    /// A child process that communicates over its standard input and output.
    Stdio(ChildProcess),
    /// Streamable HTTP.
    Http {
        /// The endpoint, `http` or `https`.
        url: String,
        /// Headers of every request, secrets included: never logged.
        headers: Vec<(String, String)>,
        /// The token of the `Authorization: Bearer` header: never logged.
        bearer_token: Option<String>,
        /// The OAuth settings, for a server that requires a login. Unused with a bearer token.
        oauth: OAuthSpec,
        /// A server that the host starts first and ends with the run.
        server: Option<ChildProcess>,
    },
}

impl Transport {
    /// Returns the child process that the host starts for the agent, if any.
    pub fn child_process(&self) -> Option<&ChildProcess> {
        match self {
            Self::Stdio(child) => Some(child),
            Self::Http { server, .. } => server.as_ref(),
        }
    }
}

impl std::fmt::Debug for Transport {
    /// Omits all headers and tokens, and redacts the URL, which may contain secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdio(child) => f.debug_tuple("Stdio").field(&child.command).finish(),
            Self::Http { url, .. } => {
                f.debug_struct("Http").field("url", &super::redact_url(url)).finish_non_exhaustive()
            }
        }
    }
}

/// A directory or file that an agent may use: a root of MCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRoot {
    /// A `file://` URI.
    pub uri: String,
    /// The display name.
    pub name: String,
}

/// The settings of connections to an agent over HTTP.
#[derive(Clone, Default, PartialEq)]
pub struct NetworkSettings {
    /// A PEM file with certificates of authorities, trusted in addition to those of the system.
    pub ca_file: Option<std::path::PathBuf>,
    /// A PEM file with the client's certificate and its private key.
    pub client_cert_file: Option<std::path::PathBuf>,
    /// The URL of the proxy, which may contain a password. The environment decides if it is absent.
    pub proxy: Option<String>,
}

impl std::fmt::Debug for NetworkSettings {
    /// Redacts the URL of the proxy.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkSettings")
            .field("ca_file", &self.ca_file)
            .field("client_cert_file", &self.client_cert_file)
            .field("proxy", &self.proxy.as_deref().map(super::redact_url))
            .finish()
    }
}

/// A program to start, with its arguments and environment.
#[derive(Clone, PartialEq)]
pub struct ChildProcess {
    /// The program: a path, or a name to look up in `PATH`.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment variables, added to the minimal base. They may contain secrets: never logged.
    pub env: IndexMap<String, String>,
    /// Its working directory; the host's own if absent.
    pub cwd: Option<std::path::PathBuf>,
}

/// A package or image that a command installs before its first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installation<'c> {
    /// The program that installs.
    pub program: &'c str,
    /// The package, if the arguments name it in a recognizable way.
    pub package: Option<&'c str>,
}

impl ChildProcess {
    /// Returns what the command may install before it starts the server, such as `npx -y PACKAGE`.
    pub fn installation(&self) -> Option<Installation<'_>> {
        let program = self.command.rsplit('/').next().unwrap_or_default();
        let words: Vec<&str> = self.args.iter().map(String::as_str).filter(|arg| !arg.starts_with('-')).collect();
        let package = match (program, words.as_slice()) {
            ("npx" | "pnpx" | "bunx" | "uvx" | "dnx", [package, ..]) => Some(*package),
            ("npm", ["exec" | "x", package, ..])
            | ("pnpm" | "yarn", ["dlx", package, ..])
            | ("bun", ["x", package, ..])
            | ("pipx", ["run", package, ..])
            | ("uv", ["tool", "run", package, ..]) => Some(*package),
            // Options with values precede the name of the image, and those of `uv run` the name of the program.
            ("docker" | "podman" | "nerdctl" | "uv", ["run", ..]) => None,
            _ => return None,
        };
        Some(Installation { program, package })
    }
}

/// The protocol era of an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Probe for 2026-07-28, then fall back to the `initialize` handshake.
    #[default]
    Auto,
    /// Protocol versions up to 2025-11-25, with an `initialize` handshake.
    Legacy,
    /// Protocol versions 2026-07-28 and later, without a handshake.
    Modern,
}

/// The transport of a connection, as it was detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionTransport {
    /// The pipes of a child process.
    Stdio,
    /// Streamable HTTP, since 2025-03-26.
    StreamableHttp,
    /// HTTP+SSE of 2024-11-05.
    HttpSse,
}

impl ConnectionTransport {
    /// Returns the name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::StreamableHttp => "Streamable HTTP",
            Self::HttpSse => "HTTP+SSE",
        }
    }
}

/// A property of a server that changes how the host connects to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerQuirk {
    /// Its library refuses elicitation and sampling on modern connections, so the legacy era is used.
    RefusesModernRequests,
}

impl ServerQuirk {
    /// Returns a description for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::RefusesModernRequests => {
                "elicitation and sampling fail on modern connections, so kapell connects in the legacy era"
            }
        }
    }
}

/// A severity of log messages, as MCP and syslog (RFC 5424) name them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Details for debugging.
    Debug,
    /// Normal steps.
    #[default]
    Info,
    /// Significant but normal events.
    Notice,
    /// Something may be wrong.
    Warning,
    /// Something failed.
    Error,
    /// A part of the agent failed.
    Critical,
    /// Someone has to act at once.
    Alert,
    /// The agent is unusable.
    Emergency,
}

impl LogLevel {
    /// Returns the level with this name in MCP.
    pub fn from_name(name: &str) -> Option<Self> {
        serde_json::from_value(Value::String(name.to_owned())).ok()
    }
}

/// The handling of arguments or results that break a schema of their tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaChecks {
    /// The call fails.
    #[default]
    Strict,
    /// They are accepted with a warning.
    Warn,
    /// They are not checked.
    Off,
}

/// A tool, as described by an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolInfo {
    /// Its name on that agent.
    pub name: String,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The description from the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    pub input_schema: JsonObject,
    /// The JSON Schema of its structured content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<JsonObject>,
    /// The effect of a repeated call according to the annotations: a hint, used only if no person configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// The self-description of a connected agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// The negotiated protocol revision, such as `2025-11-25`.
    pub protocol: String,
    /// The server's name and version, if reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The transport of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<ConnectionTransport>,
    /// The properties of the server that were learned from calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quirks: Vec<ServerQuirk>,
    /// The server's instructions for using it, if reported: untrusted text for a language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The tools that the agents file allows.
    pub tools: Vec<ToolInfo>,
    /// Defects of the self-description, each with its consequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Listed tools that cannot be used, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unusable_tools: BTreeMap<String, String>,
    /// The resources and prompts, if they were listed. Runs do not list them: each read is current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offers: Option<Box<AgentOffers>>,
}

impl AgentInfo {
    /// Returns the tool with this name.
    pub fn tool(&self, name: &str) -> Option<&ToolInfo> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

/// A progress notification of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The progress so far, in the agent's own unit.
    pub progress: f64,
    /// The value of `progress` at completion, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// The current activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Progress {
    /// Returns the progress in percent, if the agent reported the total.
    pub fn percent(&self) -> Option<f64> {
        let total = self.total.filter(|total| *total > 0.0)?;
        Some((self.progress / total * 100.0).clamp(0.0, 100.0))
    }
}

/// The logger of messages about an agent that the host itself writes.
const HOST_LOGGER: &str = "kapell";

/// A log message that an agent sent over the protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogMessage {
    /// MCP's level: `debug`, `info`, `notice`, `warning`, `error`, `critical`, `alert` or `emergency`.
    pub level: String,
    /// The agent's logger, if named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logger: Option<String>,
    /// Text or any other JSON.
    pub data: Value,
}

impl LogMessage {
    /// Returns a message about an agent that the host itself writes.
    pub fn from_host(level: &str, text: String) -> Self {
        Self { level: level.to_owned(), logger: Some(HOST_LOGGER.to_owned()), data: Value::String(text) }
    }

    /// Returns the text of a message that the host itself wrote.
    pub fn host_text(&self) -> Option<&str> {
        self.data.as_str().filter(|_| self.logger.as_deref() == Some(HOST_LOGGER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_install_are_recognized() {
        let installation = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let command = words.next().unwrap_or_default();
            let process = ChildProcess { command, args: words.collect(), env: IndexMap::new(), cwd: None };
            let found = process.installation();
            found.map(|found| (found.program.to_owned(), found.package.map(str::to_owned)))
        };
        for (line, program, package) in [
            ("npx -y @acme/server /notes", "npx", Some("@acme/server")),
            ("/usr/bin/uvx server@1.2", "uvx", Some("server@1.2")),
            ("npm exec --yes server", "npm", Some("server")),
            ("pnpm dlx server", "pnpm", Some("server")),
            ("bun x server", "bun", Some("server")),
            ("pipx run server", "pipx", Some("server")),
            ("uv tool run server", "uv", Some("server")),
            ("uv run server.py", "uv", None),
            ("docker run -i --rm -e KEY acme/server", "docker", None),
        ] {
            assert_eq!(installation(line), Some((program.to_owned(), package.map(str::to_owned))), "{line}");
        }
        for line in ["python3 server.py", "node npx", "npm start", "docker exec box server", "npx -y", "uv"] {
            assert_eq!(installation(line), None, "{line}");
        }
    }
}
