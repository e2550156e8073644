//! Defines why a request cannot be authorized, and converts the errors of rmcp.

use rmcp::transport::auth::AuthError;

use crate::model::text::root_cause;
use crate::model::{AgentId, Failure, FailureKind};

/// The reason that a request cannot be authorized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorizationError {
    /// A person has to log in.
    #[error("a login is required: {0}")]
    LoginRequired(String),
    /// The authorization server cannot be used at the moment.
    #[error("no token could be obtained: {0}")]
    Unavailable(String),
    /// Another attempt would fail in the same way.
    #[error("no token could be obtained: {message}")]
    Refused {
        message: String,
        /// The key or the command that fixes the problem.
        help: Option<String>,
    },
}

impl AuthorizationError {
    /// Returns a final error without help.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), help: None }
    }

    /// Converts an error of rmcp. Errors of the network and of files can be temporary.
    pub(crate) fn from_rmcp(error: &AuthError) -> Self {
        match error {
            AuthError::DiscoveryRequestFailed { url, source } => {
                Self::Unavailable(format!("`{url}` cannot be read: {}", root_cause(&**source)))
            }
            AuthError::TokenRefreshFailed(_)
            | AuthError::HttpError(_)
            | AuthError::CredentialStoreError(_)
            | AuthError::AuthorizationServersUnavailable { .. } => Self::Unavailable(error.to_string()),
            _ => Self::refused(error.to_string()),
        }
    }

    /// Converts the error to the failure of a request to `agent`, which was not handled.
    pub(crate) fn to_failure(&self, agent: &AgentId) -> Failure {
        let failure = |kind| Failure::new(kind, format!("agent `{agent}`: {self}"));
        match self {
            Self::LoginRequired(_) => failure(FailureKind::Unauthorized).with_help(format!(
                "run `kapell agents login {agent}`; for a server with a fixed token, set `bearer_token_env_var` in \
                 `[agents.{agent}]`"
            )),
            Self::Unavailable(_) => failure(FailureKind::NotSent),
            Self::Refused { help: Some(help), .. } => failure(FailureKind::Unauthorized).with_help(help.clone()),
            Self::Refused { help: None, .. } => {
                failure(FailureKind::Unauthorized).with_help(format!("check `[agents.{agent}.oauth]`"))
            }
        }
    }
}
