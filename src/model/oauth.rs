//! The OAuth settings of an agent (from `agents.toml`), and the stored login.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// The OAuth settings of an agent. By default, the host registers itself and a person logs in.
#[derive(Clone, Default, PartialEq)]
pub struct OAuthSpec {
    /// The way to obtain tokens.
    pub grant: OAuthGrant,
    /// The client ID: that of a client which was registered in advance, or the HTTPS URL of a client ID metadata
    /// document.
    pub client_id: Option<String>,
    /// The secret of the client: never logged.
    pub client_secret: Option<String>,
    /// The PEM file with the private key of the client, instead of a secret.
    pub private_key_file: Option<PathBuf>,
    /// The scopes to request, instead of those that the server names.
    pub scopes: Vec<String>,
    /// The resource that tokens are requested for, instead of the one that the server names. It has the origin of the
    /// server.
    pub resource: Option<String>,
}

impl fmt::Debug for OAuthSpec {
    /// Omits the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthSpec")
            .field("grant", &self.grant)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// The way to obtain tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OAuthGrant {
    /// A person logs in with a browser.
    #[default]
    AuthorizationCode,
    /// The host authenticates itself, without a person.
    ClientCredentials,
}

/// The stored login of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoginInfo {
    /// The issuer of the token, if the authorization server states it.
    pub issuer: Option<String>,
    /// The granted scopes.
    pub scopes: Vec<String>,
    /// The end of the token, if it is limited.
    pub expires_at: Option<Timestamp>,
    /// True if the host can renew the token without a person.
    pub is_renewable: bool,
}
