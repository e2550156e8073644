//! Turns what went wrong on a connection into a failure that says precisely what is known of the request.
//! Never decides what follows from it.

use rmcp::{
    model::ErrorData,
    service::{ClientInitializeError, ServiceError},
    transport::{DynamicTransportError, streamable_http_client::StreamableHttpError},
};

use super::{LARGEST_MESSAGE, response::HttpError};
use crate::model::{AgentId, Failure, FailureKind};

/// Bytes of an agent's own words that a failure holds.
const LONGEST_WORDS: usize = 2_000;

/// What an agent said, cut to a length that a failure can hold.
pub(super) fn words(text: &str) -> String {
    let mut text = text.trim().to_owned();
    super::truncate(&mut text, LONGEST_WORDS);
    text
}

/// A result that is larger than what is read.
pub(super) fn too_large(agent: &AgentId) -> Failure {
    let limit = LARGEST_MESSAGE / (1024 * 1024);
    let message = format!("agent `{agent}` sent a message of more than {limit} MiB");
    Failure::new(FailureKind::ResultTooLarge, message).with_help("let the tool return a resource link, or less at once")
}

/// A JSON-RPC error as the answer to a call.
pub(super) fn rpc(agent: &AgentId, error: &ErrorData) -> Failure {
    let (kind, did) = match error.code.0 {
        -32600 | -32601 | -32602 | -32700 => (FailureKind::Refused, "refused the call"),
        _ => (FailureKind::ServerError, "failed"),
    };
    let said = words(&error.message);
    Failure::new(kind, format!("agent `{agent}` {did}: {said} (JSON-RPC {})", error.code.0))
}

/// An error of the service as the outcome of a call. `None`: the connection was lost, and the caller knows more of it.
pub(super) fn service(agent: &AgentId, error: &ServiceError) -> Option<Failure> {
    match error {
        ServiceError::McpError(error) => Some(rpc(agent, error)),
        ServiceError::TransportSend(error) => sending(agent, error),
        ServiceError::UnexpectedResponse => {
            let message = format!("agent `{agent}` answered with something that is no result of a tool");
            Some(Failure::new(FailureKind::InvalidResult, message))
        }
        _ => None,
    }
}

fn sending(agent: &AgentId, error: &DynamicTransportError) -> Option<Failure> {
    if let Some(error) = http(error) {
        return Some(request(agent, error));
    }
    // A line that was not written to its end is a line that the child has not read.
    let cause = error.error.downcast_ref::<std::io::Error>()?;
    Some(Failure::new(FailureKind::NotSent, format!("the call could not be written to agent `{agent}`: {cause}")))
}

fn http(error: &DynamicTransportError) -> Option<&HttpError> {
    match error.error.downcast_ref::<StreamableHttpError<HttpError>>()? {
        StreamableHttpError::Client(error) => Some(error),
        _ => None,
    }
}

/// What a failed HTTP request means.
pub(super) fn request(agent: &AgentId, error: &HttpError) -> Failure {
    let whole = |kind| Failure::new(kind, format!("agent `{agent}`: {error}"));
    match error {
        HttpError::Connect(_) => {
            whole(FailureKind::NotSent).with_help("is the server running, and is its `url` right?")
        }
        HttpError::Build(_) => {
            whole(FailureKind::AgentUnavailable).with_help(format!("check `url` and the headers of `[agents.{agent}]`"))
        }
        HttpError::Redirect(_) => {
            whole(FailureKind::Refused).with_help(format!("write the final address into `url` of `[agents.{agent}]`"))
        }
        HttpError::Broken(_) => whole(FailureKind::ConnectionLost),
        HttpError::TooLarge => too_large(agent),
        HttpError::NotMcp(_) => whole(FailureKind::InvalidResult)
            .with_help(format!("is `url` of `[agents.{agent}]` the server's MCP endpoint?")),
        HttpError::Status { status, error: rpc, retry_after, .. } => match status.as_u16() {
            401 | 403 => whole(FailureKind::Unauthorized).with_help(format!(
                "check the variables that `bearer_token_env_var` and `env_http_headers` of `[agents.{agent}]` name"
            )),
            429 => {
                let failure = whole(FailureKind::RateLimited);
                match retry_after {
                    Some(after) => failure.with_help(format!("the server asks to wait: `Retry-After: {after}`")),
                    None => failure,
                }
            }
            _ if error.forgot_session() => {
                Failure::new(FailureKind::SessionLost, format!("agent `{agent}` no longer knows the session ({error})"))
            }
            404 => whole(FailureKind::Refused)
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

/// Whether connecting failed because nobody listens (yet).
pub(super) fn nobody_listens(error: &ClientInitializeError) -> bool {
    match error {
        ClientInitializeError::TransportError { error, .. } => matches!(http(error), Some(HttpError::Connect(_))),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => nobody_listens(fallback),
        _ => false,
    }
}

/// An error of the handshake. `None`: the connection was closed, and the caller knows more of it.
pub(super) fn handshake(agent: &AgentId, error: &ClientInitializeError) -> Option<Failure> {
    let unavailable = |what: String| Failure::new(FailureKind::AgentUnavailable, format!("agent `{agent}` {what}"));
    match error {
        ClientInitializeError::TransportError { error, .. } => {
            let failure = request(agent, http(error)?);
            let kind = match failure.kind {
                kind @ (FailureKind::Unauthorized | FailureKind::RateLimited) => kind,
                _ => FailureKind::AgentUnavailable,
            };
            Some(Failure { kind, ..failure })
        }
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => handshake(agent, fallback),
        ClientInitializeError::ConnectionClosed(_) => None,
        ClientInitializeError::JsonRpcError(error) => {
            Some(unavailable(format!("refused the handshake: {} (JSON-RPC {})", words(&error.message), error.code.0)))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            let versions: Vec<_> = server_supported.iter().map(|version| version.as_str()).collect();
            let failure = unavailable(format!("speaks no protocol version of this host, only {}", versions.join(", ")));
            Some(failure.with_help(format!("try `protocol = \"legacy\"` in `[agents.{agent}]`")))
        }
        other => Some(unavailable(format!("broke the handshake: {}", words(&other.to_string())))),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

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
        request(&AgentId::from("a"), &error).kind
    }

    #[test]
    fn says_of_each_status_what_is_known_of_the_request() {
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
    fn tells_refusals_from_errors_of_the_tool() {
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
            assert_eq!(rpc(&AgentId::from("a"), &error).kind, expected, "{code}");
        }
    }
}
