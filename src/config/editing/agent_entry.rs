//! The section of an agent, as it is written to an agents file.

use indexmap::IndexMap;
use serde::Serialize;
use toml_edit::{DocumentMut, Table};

use crate::model::{HumanDuration, Protocol};

/// The section of an agent, as it is written to an agents file. Its texts may contain `${VAR}`. The fields are keys of
/// the section, in the order in which they are written.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AgentEntry {
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its variables.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub env: IndexMap<String, String>,
    /// The variables of the host that it inherits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_vars: Vec<String>,
    /// Its working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The address of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The variable with the bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_env_var: Option<String>,
    /// Headers, and the variables with their values.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub env_http_headers: IndexMap<String, String>,
    /// Headers with their values.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub http_headers: IndexMap<String, String>,
    /// The OAuth settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuthEntry>,
    /// The protocol era, if it is not detected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Whether the agent is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether a run fails if the agent is unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// The maximum number of concurrent calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// The timeout for connecting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_timeout: Option<HumanDuration>,
    /// The idle timeout of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_timeout: Option<HumanDuration>,
    /// The only tools that can be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled_tools: Option<Vec<String>>,
    /// Tools that cannot be called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disabled_tools: Vec<String>,
    /// Lines of a comment above the section.
    #[serde(skip)]
    pub comments: Vec<String>,
}

/// The OAuth settings of an agent, as they are written to an agents file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OAuthEntry {
    /// The ID of a client that was registered in advance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The variable with the secret of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_env_var: Option<String>,
    /// The scopes to request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The resource that tokens are requested for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl AgentEntry {
    /// Returns the table of the section, with its comment.
    pub(crate) fn to_table(&self) -> Table {
        let document = toml_edit::ser::to_document(self).unwrap_or_else(|_| DocumentMut::new());
        let mut table = document.into_table();
        let comments = self.comments.iter().flat_map(|comment| comment.lines());
        let comments = comments.map(|line| format!("# {}\n", line.replace(char::is_control, " ").trim()));
        table.decor_mut().set_prefix(format!("\n{}", comments.collect::<String>()));
        table
    }
}
