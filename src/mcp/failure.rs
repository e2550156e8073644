//! Converts errors of a connection into failures that state precisely what is known about the request.

use http::StatusCode;
use rmcp::{
    model::{ErrorData, ProtocolVersion},
    service::{ClientInitializeError, ServiceError},
    transport::{DynamicTransportError, streamable_http_client::StreamableHttpError},
};

use super::{
    MAX_MESSAGE_BYTES, message::codec::UNREADABLE, session::handshakes::ConnectErrorKind,
    transport::http_response::HttpError,
};
use crate::model::{AgentId, AgentSpec, Failure, FailureKind, HumanDuration, Protocol, text::truncate_bytes};

/// The maximum length of an agent's own message in a failure, in bytes.
const MAX_AGENT_MESSAGE_BYTES: usize = 2_000;

/// Returns the trimmed message of an agent, truncated to the length that a failure can hold.
pub(super) fn agent_message(text: &str) -> String {
    let mut text = text.trim().to_owned();
    truncate_bytes(&mut text, MAX_AGENT_MESSAGE_BYTES);
    text
}

/// Returns the failure for a message that exceeds the size limit.
pub(super) fn message_too_large(agent: &AgentId) -> Failure {
    let limit = MAX_MESSAGE_BYTES / (1024 * 1024);
    let message = format!("agent `{agent}` sent a message of more than {limit} MiB");
    Failure::new(FailureKind::ResultTooLarge, message).with_help("let the tool return a resource link, or less at once")
}

/// Returns the failure for an unreadable response. The `reason` includes an excerpt.
pub(super) fn unreadable_response(agent: &AgentId, reason: &str) -> Failure {
    let message = format!("agent `{agent}` sent an answer that cannot be read: {}", agent_message(reason));
    Failure::new(FailureKind::InvalidResult, message)
}

/// Returns the failure for a call that was answered with a JSON-RPC error.
pub(super) fn from_rpc(agent: &AgentId, error: &ErrorData) -> Failure {
    if error.code == UNREADABLE {
        return unreadable_response(agent, &error.message);
    }
    let (kind, did) = match error.code.0 {
        -32600 | -32601 | -32602 | -32700 => (FailureKind::Refused, "refused the call"),
        _ => (FailureKind::ServerError, "failed"),
    };
    let said = agent_message(&error.message);
    Failure::new(kind, format!("agent `{agent}` {did}: {said} (JSON-RPC {})", error.code.0))
}

/// Converts an error of rmcp's service into the failure of a call. `None` means that the connection was lost; the
/// caller knows the details.
pub(super) fn from_service(agent: &AgentId, error: &ServiceError) -> Option<Failure> {
    match error {
        ServiceError::McpError(error) => Some(from_rpc(agent, error)),
        ServiceError::TransportSend(error) => from_send_error(agent, error),
        ServiceError::UnexpectedResponse => {
            let message = format!("agent `{agent}` answered with something that is no result of a tool");
            Some(Failure::new(FailureKind::InvalidResult, message))
        }
        _ => None,
    }
}

fn from_send_error(agent: &AgentId, error: &DynamicTransportError) -> Option<Failure> {
    if let Some(error) = as_http_error(error) {
        return Some(from_http(agent, error));
    }
    // A child has not read a line that was written only in part.
    let cause = error.error.downcast_ref::<std::io::Error>()?;
    Some(Failure::new(FailureKind::NotSent, format!("the call could not be written to agent `{agent}`: {cause}")))
}

fn as_http_error(error: &DynamicTransportError) -> Option<&HttpError> {
    match error.error.downcast_ref::<StreamableHttpError<HttpError>>()? {
        StreamableHttpError::Client(error) => Some(error),
        _ => None,
    }
}

/// Converts the error of an HTTP request. The `Retry-After` header is kept for any status.
pub(super) fn from_http(agent: &AgentId, error: &HttpError) -> Failure {
    let failure = Failure { retry_after: error.retry_after().map(HumanDuration), ..classify_http(agent, error) };
    match failure.retry_after {
        Some(wait) => failure.with_additional_help(format!("the server asks to wait {wait} (`Retry-After`)")),
        None => failure,
    }
}

fn classify_http(agent: &AgentId, error: &HttpError) -> Failure {
    let whole = |kind| Failure::new(kind, format!("agent `{agent}`: {error}"));
    match error {
        HttpError::Connect(_) => {
            whole(FailureKind::NotSent).with_help("is the server running, and is its `url` right?")
        }
        HttpError::Tls(_) => whole(FailureKind::AgentUnavailable).with_help(
            "if the certificate is signed by an authority of your own, set `SSL_CERT_FILE` to a PEM file that holds the \
             authority's certificate",
        ),
        HttpError::HttpSse => whole(FailureKind::AgentUnavailable).with_help(format!(
            "if the server also speaks Streamable HTTP, write that address into `url` of `[agents.{agent}]` (most servers \
             use `/mcp`); otherwise put a bridge such as mcp-proxy in front of it"
        )),
        HttpError::Build(_) => {
            whole(FailureKind::AgentUnavailable).with_help(format!("check `url` and the headers of `[agents.{agent}]`"))
        }
        HttpError::Redirect(_) => {
            whole(FailureKind::Refused).with_help(format!("write the new address into `url` of `[agents.{agent}]`"))
        }
        HttpError::Disconnected(_) => whole(FailureKind::ConnectionLost),
        HttpError::TooLarge => message_too_large(agent),
        HttpError::NotMcp(_) => whole(FailureKind::InvalidResult)
            .with_help(format!("is `url` of `[agents.{agent}]` the server's MCP endpoint?")),
        HttpError::Status { status, error: rpc, .. } => match status.as_u16() {
            401 | 403 => whole(FailureKind::Unauthorized).with_help(format!(
                "check the variables that `bearer_token_env_var` and `env_http_headers` of `[agents.{agent}]` name"
            )),
            429 => whole(FailureKind::RateLimited),
            _ if error.is_session_expired() => {
                Failure::new(FailureKind::SessionLost, format!("agent `{agent}` no longer knows the session ({error})"))
            }
            404 | 405 => whole(FailureKind::Refused)
                .with_help(format!("is the path in `url` of `[agents.{agent}]` right? most servers use `/mcp`")),
            500.. if rpc.is_some() => whole(FailureKind::ServerError),
            500.. => Failure::new(
                FailureKind::ConnectionLost,
                format!("agent `{agent}`: {error}; whether it handled the call is not known"),
            ),
            _ => whole(FailureKind::Refused),
        },
    }
}

/// Classifies an error of the handshake.
pub(super) fn handshake_error_kind(error: &ClientInitializeError) -> ConnectErrorKind {
    match error {
        ClientInitializeError::TransportError { error, .. } => match as_http_error(error) {
            Some(error) => http_error_kind(error),
            // The child no longer reads.
            None => ConnectErrorKind::Exited,
        },
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
pub(super) fn service_error_kind(error: &ServiceError) -> ConnectErrorKind {
    match error {
        ServiceError::TransportSend(error) => match as_http_error(error) {
            Some(error) => http_error_kind(error),
            None => ConnectErrorKind::Exited,
        },
        ServiceError::TransportClosed => ConnectErrorKind::Exited,
        _ => ConnectErrorKind::Final,
    }
}

fn http_error_kind(error: &HttpError) -> ConnectErrorKind {
    match error {
        HttpError::Connect(_) => ConnectErrorKind::NotListening,
        HttpError::Disconnected(_) => ConnectErrorKind::NotReady,
        HttpError::Status { status, .. } if is_transient(*status) => ConnectErrorKind::NotReady,
        HttpError::Status { status, .. } if !matches!(status.as_u16(), 401 | 403) => ConnectErrorKind::Handshake,
        HttpError::NotMcp(_) => ConnectErrorKind::Handshake,
        HttpError::Tls(_)
        | HttpError::Build(_)
        | HttpError::Redirect(_)
        | HttpError::HttpSse
        | HttpError::TooLarge
        | HttpError::Status { .. } => ConnectErrorKind::Final,
    }
}

/// Returns whether the same request may succeed a moment later, according to its HTTP status.
pub(super) fn is_transient(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 425 | 429 => true,
        // Not implemented, and version not supported.
        501 | 505 => false,
        status => status >= 500,
    }
}

/// Converts an error of the handshake. `None` means that the connection was closed; the caller knows the details.
pub(super) fn from_handshake(spec: &AgentSpec, error: &ClientInitializeError) -> Option<Failure> {
    let agent = &spec.id;
    let unavailable = |what: String| Failure::new(FailureKind::AgentUnavailable, format!("agent `{agent}` {what}"));
    match error {
        ClientInitializeError::TransportError { error, .. } => {
            let error = as_http_error(error)?;
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
            Some(Failure { kind, message, ..failure })
        }
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => from_handshake(spec, fallback),
        ClientInitializeError::ConnectionClosed(_) => None,
        ClientInitializeError::JsonRpcError(error) if error.code == UNREADABLE => Some(unavailable(format!(
            "sent an answer to the handshake that cannot be read: {}",
            agent_message(&error.message)
        ))),
        ClientInitializeError::JsonRpcError(error) => {
            let said = agent_message(&error.message);
            let failure = unavailable(format!("refused the handshake: {said} (JSON-RPC {})", error.code.0));
            Some(with_era_help(spec, failure))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            let versions: Vec<_> = server_supported.iter().map(|version| version.as_str()).collect();
            let failure = unavailable(format!("speaks no protocol version of this host, only {}", versions.join(", ")));
            Some(with_era_help(spec, failure))
        }
        ClientInitializeError::ExpectedInitResponse(_) | ClientInitializeError::ExpectedInitResult(_) => {
            Some(unavailable("answered the handshake with something else than its result".to_owned()))
        }
        ClientInitializeError::ConflictInitResponseId(expected, received)
        | ClientInitializeError::UncorrelatedErrorResponse { expected, received } => {
            Some(unavailable(format!("answered the handshake, request `{expected}`, under the id `{received}`")))
        }
        _ => Some(unavailable("did not complete the handshake".to_owned())),
    }
}

/// Adds a help text if the `protocol` key forbids the other era.
fn with_era_help(spec: &AgentSpec, failure: Failure) -> Failure {
    let set = match spec.protocol {
        Protocol::Auto => return failure,
        Protocol::Legacy => "legacy",
        Protocol::Modern => "modern",
    };
    failure.with_help(format!("remove `protocol = \"{set}\"` from `[agents.{}]`, so that both eras are tried", spec.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str, in_session: bool) -> FailureKind {
        let error = serde_json::from_str::<serde_json::Value>(body)
            .ok()
            .and_then(|body| serde_json::from_value(body.get("error")?.clone()).ok().map(Box::new));
        let error = HttpError::Status {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_owned(),
            error,
            in_session,
            retry_after: None,
        };
        from_http(&AgentId::from("a"), &error).kind
    }

    #[test]
    fn http_statuses_map_to_failure_kinds() {
        let rpc = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session"}}"#;
        for (status, body, in_session, expected) in [
            (401, "", false, FailureKind::Unauthorized),
            (403, "", true, FailureKind::Unauthorized),
            (429, "", true, FailureKind::RateLimited),
            (404, "", true, FailureKind::SessionLost),
            (404, "", false, FailureKind::Refused),
            (400, rpc, true, FailureKind::SessionLost),
            (400, "what?", true, FailureKind::Refused),
            (400, rpc, false, FailureKind::Refused),
            (422, "", true, FailureKind::Refused),
            (500, rpc, true, FailureKind::ServerError),
            (502, "<html>", true, FailureKind::ConnectionLost),
        ] {
            assert_eq!(kind(status, body, in_session), expected, "{status} {body}");
        }
    }

    #[test]
    fn rpc_codes_map_to_failure_kinds() {
        for (code, expected) in [
            (-32600, FailureKind::Refused),
            (-32601, FailureKind::Refused),
            (-32602, FailureKind::Refused),
            (-32700, FailureKind::Refused),
            (-32603, FailureKind::ServerError),
            (-32000, FailureKind::ServerError),
            (7, FailureKind::ServerError),
        ] {
            let error = ErrorData::new(rmcp::model::ErrorCode(code), "no", None);
            assert_eq!(from_rpc(&AgentId::from("a"), &error).kind, expected, "{code}");
        }
    }
}
