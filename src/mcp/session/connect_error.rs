//! Classifies the errors of connection attempts, and converts them into failures.

use rmcp::model::ProtocolVersion;
use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::DynamicTransportError;

use crate::mcp::auth::error::AuthorizationError;
use crate::mcp::message::failure::agent_message;
use crate::mcp::message::service_result::UNREADABLE;
use crate::mcp::transport::http_response::HttpError;
use crate::mcp::transport::request_failure::{as_http_error, from_http, is_transient};
use crate::model::{AgentId, AgentSpec, Failure, FailureKind, Protocol};

/// The kind of a failed connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectErrorKind {
    /// No server listens at the address, which may change while a server starts.
    NotListening,
    /// The server cannot respond at the moment: HTTP 5xx, 429, or a broken connection.
    NotReady,
    /// The child exited, or closed its output.
    Exited,
    /// The handshake failed, possibly because of its era or its transport.
    Handshake,
    /// The server speaks HTTP+SSE of 2024-11-05.
    HttpSse,
    /// The session of an earlier process no longer exists.
    SessionLost,
    /// A person has to log in first.
    LoginRequired,
    /// Another attempt would fail in the same way.
    Final,
}

/// The reason that a connection attempt failed.
pub(crate) struct ConnectError {
    pub(crate) failure: Failure,
    pub(crate) kind: ConnectErrorKind,
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        Self { failure, kind: ConnectErrorKind::Final }
    }
}

impl ConnectError {
    /// Converts an error of the handshake.
    pub(crate) fn from_handshake(spec: &AgentSpec, error: &ClientInitializeError) -> Self {
        Self { failure: handshake_failure(spec, error), kind: handshake_error_kind(error) }
    }

    /// Converts an error of HTTP before or during the handshake.
    pub(crate) fn from_http(spec: &AgentSpec, error: &HttpError) -> Self {
        Self { failure: http_failure(&spec.id, error), kind: http_error_kind(error) }
    }
}

fn handshake_error_kind(error: &ClientInitializeError) -> ConnectErrorKind {
    match error {
        ClientInitializeError::TransportError { error, .. } => transport_error_kind(error),
        ClientInitializeError::ConnectionClosed(_) => ConnectErrorKind::Exited,
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => handshake_error_kind(fallback),
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. }
            if !server_supported.iter().any(ProtocolVersion::has_initialize) =>
        {
            ConnectErrorKind::Final
        }
        _ => ConnectErrorKind::Handshake,
    }
}

/// Classifies an error after the handshake, before the connection is used.
pub(crate) fn service_error_kind(error: &ServiceError) -> ConnectErrorKind {
    match error {
        ServiceError::TransportSend(error) => transport_error_kind(error),
        ServiceError::TransportClosed => ConnectErrorKind::Exited,
        _ => ConnectErrorKind::Final,
    }
}

fn transport_error_kind(error: &DynamicTransportError) -> ConnectErrorKind {
    // Without an HTTP error, a child no longer reads.
    as_http_error(error).map_or(ConnectErrorKind::Exited, http_error_kind)
}

fn http_error_kind(error: &HttpError) -> ConnectErrorKind {
    match error {
        HttpError::Connect(_) => ConnectErrorKind::NotListening,
        HttpError::Disconnected(_) | HttpError::Authorization(AuthorizationError::Unavailable(_)) => {
            ConnectErrorKind::NotReady
        }
        HttpError::Authorization(AuthorizationError::LoginRequired(_)) => ConnectErrorKind::LoginRequired,
        HttpError::Status { status, .. } if is_transient(*status) => ConnectErrorKind::NotReady,
        HttpError::Status { status, .. } if !matches!(status.as_u16(), 401 | 403) => ConnectErrorKind::Handshake,
        HttpError::NotMcp(_) => ConnectErrorKind::Handshake,
        HttpError::HttpSse => ConnectErrorKind::HttpSse,
        HttpError::Tls(_)
        | HttpError::Build(_)
        | HttpError::Redirect(_)
        | HttpError::TooLarge { .. }
        | HttpError::Authorization(AuthorizationError::Refused { .. })
        | HttpError::Status { .. } => ConnectErrorKind::Final,
    }
}

/// Returns the failure of a handshake over HTTP.
fn http_failure(agent: &AgentId, error: &HttpError) -> Failure {
    let failure = from_http(agent, error);
    let kind = match failure.kind {
        kind @ (FailureKind::Unauthorized | FailureKind::RateLimited) => kind,
        _ => FailureKind::AgentUnavailable,
    };
    // A handshake has no effects that could be unknown.
    let message = match failure.kind {
        FailureKind::ConnectionLost => format!("agent `{agent}`: {error}"),
        _ => failure.message.clone(),
    };
    Failure { kind, message, ..failure }
}

fn handshake_failure(spec: &AgentSpec, error: &ClientInitializeError) -> Failure {
    let agent = &spec.id;
    let unavailable = |what: String| Failure::new(FailureKind::AgentUnavailable, format!("agent `{agent}` {what}"));
    let closed = || unavailable("closed the connection during the handshake".to_owned());
    match error {
        ClientInitializeError::TransportError { error, .. } => {
            as_http_error(error).map_or_else(closed, |error| http_failure(agent, error))
        }
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => handshake_failure(spec, fallback),
        ClientInitializeError::ConnectionClosed(_) => closed(),
        ClientInitializeError::JsonRpcError(error) if error.code == UNREADABLE => {
            unavailable(format!("sent an invalid response to the handshake: {}", agent_message(&error.message)))
        }
        ClientInitializeError::JsonRpcError(error) => {
            let message = agent_message(&error.message);
            let failure = unavailable(format!("refused the handshake: {message} (JSON-RPC {})", error.code.0));
            with_era_help(spec, failure)
        }
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            let versions: Vec<_> = server_supported.iter().map(|version| version.as_str()).collect();
            let failure =
                unavailable(format!("supports no protocol version of this host, only {}", versions.join(", ")));
            with_era_help(spec, failure)
        }
        ClientInitializeError::ExpectedInitResponse(_) | ClientInitializeError::ExpectedInitResult(_) => {
            unavailable("sent a response to the handshake that is not its result".to_owned())
        }
        ClientInitializeError::ConflictInitResponseId(expected, received)
        | ClientInitializeError::UncorrelatedErrorResponse { expected, received } => {
            unavailable(format!("answered the handshake (request `{expected}`) with the ID `{received}`"))
        }
        _ => unavailable("did not complete the handshake".to_owned()),
    }
}

/// Adds a help text if the `protocol` key forbids the other era.
fn with_era_help(spec: &AgentSpec, failure: Failure) -> Failure {
    let set = match spec.protocol {
        Protocol::Auto => return failure,
        Protocol::Legacy => "legacy",
        Protocol::Modern => "modern",
    };
    failure.with_help(format!("remove `protocol = \"{set}\"` from `[agents.{}]`, to try both eras", spec.id))
}
