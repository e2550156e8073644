//! What is known of an agent: how to reach it (from `agents.toml`) and what it offers (from itself).
//! Never holds a connection.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgentId, AgentPolicy, Effect, JsonObject};

/// An agent of `agents.toml`, variables expanded.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentSpec {
    /// The section's name.
    pub id: AgentId,
    /// How it is reached.
    pub transport: Transport,
    /// Which protocol era to speak.
    pub protocol: Protocol,
    /// How long connecting may take, the handshake included.
    pub startup_timeout: std::time::Duration,
    /// Most processes of it that run at once, where it is spoken with over their pipes; at least 1. More than one is
    /// started only for an agent that asks back over a connection that does not say which call asks.
    pub max_processes: usize,
    /// Whether and how much it may ask the language model.
    pub sampling: SamplingPolicy,
    /// What the engine needs of the section.
    pub policy: AgentPolicy,
    /// What becomes of results that break the schema of their tool.
    pub check_results: ResultChecks,
    /// The only tools that may be called; all where absent.
    pub enabled_tools: Option<Vec<String>>,
    /// Tools that may not be called.
    pub disabled_tools: Vec<String>,
    /// Capabilities that the agent serves, each with the tool that does so (none: the task names it).
    pub capabilities: IndexMap<String, Option<String>>,
}

impl AgentSpec {
    /// Whether the agents file lets `tool` be called.
    pub fn is_tool_allowed(&self, tool: &str) -> bool {
        self.enabled_tools.as_ref().is_none_or(|tools| tools.iter().any(|name| name == tool))
            && !self.disabled_tools.iter().any(|name| name == tool)
    }
}

/// Whether and how much an agent may ask the language model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SamplingPolicy {
    /// Whether it may ask at all.
    pub consent: Consent,
    /// Most tokens that its requests may use in a run, prompts and replies together.
    pub max_tokens: Option<u64>,
    /// Most requests that it may make in a run.
    pub max_requests: Option<u64>,
}

/// Whether an agent may do something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// It may.
    #[default]
    Allow,
    /// A person is asked each time.
    Ask,
    /// It may not, and is not told that it could.
    Deny,
}

/// How an agent is reached.
#[derive(Clone, PartialEq)]
pub enum Transport {
    /// A child process that speaks over its standard input and output.
    Stdio(ChildProcess),
    /// Streamable HTTP.
    Http {
        /// The endpoint, `http` or `https`.
        url: String,
        /// Headers of every request, secrets included: never logged.
        headers: Vec<(String, String)>,
        /// The token of the `Authorization: Bearer` header: never logged.
        bearer_token: Option<String>,
        /// A server that the host starts first and ends with the run.
        server: Option<ChildProcess>,
    },
}

impl Transport {
    /// The program that the host starts for it, if it does.
    pub fn child_process(&self) -> Option<&ChildProcess> {
        match self {
            Self::Stdio(child) => Some(child),
            Self::Http { server, .. } => server.as_ref(),
        }
    }
}

impl std::fmt::Debug for Transport {
    /// Leaves out every header and token, and what of the URL may be a secret too.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdio(child) => f.debug_tuple("Stdio").field(&child.command).finish(),
            Self::Http { url, .. } => {
                f.debug_struct("Http").field("url", &super::redact_url(url)).finish_non_exhaustive()
            }
        }
    }
}

/// A program to start, with all that it is given.
#[derive(Clone, PartialEq)]
pub struct ChildProcess {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, on top of the minimal base; may hold secrets: never logged.
    pub env: IndexMap<String, String>,
    /// Its working directory; the host's own where absent.
    pub cwd: Option<std::path::PathBuf>,
}

/// Which protocol era to speak with an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Probe for 2026-07-28, then fall back to the `initialize` handshake.
    #[default]
    Auto,
    /// The `initialize` handshake: 2025-11-25 and before.
    Legacy,
    /// 2026-07-28 and later: no handshake.
    Modern,
}

/// What becomes of a result that breaks the `outputSchema` of its tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResultChecks {
    /// The call fails.
    #[default]
    Strict,
    /// The result is taken as it is, with a warning.
    Warn,
    /// The result is not checked.
    Off,
}

/// A tool as an agent described it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolInfo {
    /// Its name on that agent.
    pub name: String,
    /// What a person reads instead of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it does, in the agent's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    pub input_schema: JsonObject,
    /// The JSON Schema of its structured content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<JsonObject>,
    /// What its annotations claim of a repeated call: a hint, used only where no person said more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What a connected agent said of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// The negotiated protocol revision, such as `2025-11-25`.
    pub protocol: String,
    /// The server's name and version, if it gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Its tools, as the agents file lets them be used.
    pub tools: Vec<ToolInfo>,
    /// The defects of what it says of itself, each with what follows from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The tools that it lists and that cannot be used, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, String>,
}

impl AgentInfo {
    /// The tool of that name.
    pub fn tool(&self, name: &str) -> Option<&ToolInfo> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

/// A progress notification of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// How far it is, in the agent's own unit.
    pub progress: f64,
    /// What `progress` ends at, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// What it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A log message that an agent sent over the protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogMessage {
    /// MCP's level: `debug`, `info`, `notice`, `warning`, `error`, `critical`, `alert` or `emergency`.
    pub level: String,
    /// The agent's own logger, if named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logger: Option<String>,
    /// Text or any other JSON.
    pub data: Value,
}
