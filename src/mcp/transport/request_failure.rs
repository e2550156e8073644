//! Converts errors of requests, over HTTP or through rmcp's service, into failures.

use http::StatusCode;
use rmcp::service::ServiceError;
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::http_response::HttpError;
use crate::mcp::message::failure::{from_rpc, message_too_large};
use crate::model::{AgentId, Failure, FailureKind, HumanDuration};

/// Converts an error of rmcp's service into the failure of a call. `None` means that the connection was lost; the
/// caller knows the details.
pub(crate) fn from_service(agent: &AgentId, error: &ServiceError) -> Option<Failure> {
    match error {
        ServiceError::McpError(error) => Some(from_rpc(agent, error)),
        ServiceError::TransportSend(error) => match as_http_error(error) {
            Some(error) => Some(from_http(agent, error)),
            None => {
                // A child has not read a line that was written only in part.
                let cause = error.error.downcast_ref::<std::io::Error>()?;
                let message = format!("the call could not be written to agent `{agent}`: {cause}");
                Some(Failure::new(FailureKind::NotSent, message))
            }
        },
        ServiceError::UnexpectedResponse => {
            let message = format!("agent `{agent}` sent a response that is not a tool result");
            Some(Failure::new(FailureKind::InvalidResult, message))
        }
        _ => None,
    }
}

/// Returns the HTTP error in a transport error, if it is one.
pub(crate) fn as_http_error(error: &DynamicTransportError) -> Option<&HttpError> {
    match error.error.downcast_ref::<StreamableHttpError<HttpError>>()? {
        StreamableHttpError::Client(error) => Some(error),
        _ => None,
    }
}

/// Converts the error of an HTTP request. The `Retry-After` header is kept for any status.
pub(crate) fn from_http(agent: &AgentId, error: &HttpError) -> Failure {
    let failure = classify_http(agent, error);
    match error {
        HttpError::Status { retry_after: Some(delay), .. } => {
            let delay = HumanDuration(*delay);
            let help = format!("the server requests a delay of {delay} (`Retry-After`)");
            Failure { retry_after: Some(delay), ..failure }.with_additional_help(help)
        }
        _ => failure,
    }
}

fn classify_http(agent: &AgentId, error: &HttpError) -> Failure {
    let failure_of = |kind| Failure::new(kind, format!("agent `{agent}`: {error}"));
    match error {
        HttpError::Connect(_) => {
            failure_of(FailureKind::NotSent).with_help("check that the server is running and that its `url` is right")
        }
        HttpError::Tls(_) => failure_of(FailureKind::AgentUnavailable).with_help(format!(
            "if a private authority signed the certificate, set `ca_file` in `[agents.{agent}]` or the environment \
             variable `SSL_CERT_FILE` to a PEM file with the certificate of the authority"
        )),
        HttpError::HttpSse => failure_of(FailureKind::AgentUnavailable),
        HttpError::Build(_) => failure_of(FailureKind::AgentUnavailable)
            .with_help(format!("check `url` and the headers in `[agents.{agent}]`")),
        HttpError::Redirect(_) => {
            failure_of(FailureKind::Refused).with_help(format!("set `url` in `[agents.{agent}]` to the new address"))
        }
        HttpError::Authorization(error) => error.to_failure(agent),
        HttpError::Disconnected(_) => failure_of(FailureKind::ConnectionLost),
        HttpError::TooLarge { max_bytes } => message_too_large(agent, *max_bytes),
        HttpError::NotMcp(_) => failure_of(FailureKind::InvalidResult)
            .with_help(format!("check that `url` in `[agents.{agent}]` is the MCP endpoint of the server")),
        HttpError::Status { status, body, error: rpc, .. } => match status.as_u16() {
            403 if names_origin(body) => failure_of(FailureKind::Unauthorized).with_help(format!(
                "the server checks the host or the origin of requests: set `url` in `[agents.{agent}]` to the address \
                 that it names, such as `localhost` instead of `127.0.0.1`"
            )),
            401 | 403 => failure_of(FailureKind::Unauthorized).with_help(format!(
                "check `bearer_token_env_var` and `env_http_headers` in `[agents.{agent}]` and the variables that \
                 they name"
            )),
            429 => failure_of(FailureKind::RateLimited),
            _ if error.is_session_expired() => {
                Failure::new(FailureKind::SessionLost, format!("agent `{agent}` no longer knows the session ({error})"))
            }
            404 | 405 => failure_of(FailureKind::Refused)
                .with_help(format!("check the path of `url` in `[agents.{agent}]`: most servers use `/mcp`")),
            500.. if rpc.is_some() => failure_of(FailureKind::ServerError),
            500.. => Failure::new(
                FailureKind::ConnectionLost,
                format!("agent `{agent}`: {error}; it is unknown whether the agent handled the call"),
            ),
            _ => failure_of(FailureKind::Refused),
        },
    }
}

/// Returns whether the body of an error is about the host or the origin of the request.
fn names_origin(body: &str) -> bool {
    let body = body.to_ascii_lowercase();
    ["host", "origin"].iter().any(|word| body.contains(word))
}

/// Returns whether the same request may succeed a moment later, according to its HTTP status.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 425 | 429 => true,
        // Not implemented, and version not supported.
        501 | 505 => false,
        status => status >= 500,
    }
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
    fn refused_hosts_and_missing_tokens_have_different_help() {
        let help = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let body = body.to_owned();
            let error = HttpError::Status { status, body, error: None, in_session: false, retry_after: None };
            from_http(&AgentId::from("a"), &error).help.unwrap()
        };
        assert!(help(403, "Access is only allowed at localhost:8931").contains("`localhost`"));
        assert!(help(403, "Invalid Origin header").contains("`url`"));
        assert!(help(403, "forbidden").contains("`bearer_token_env_var`"));
        assert!(help(401, "no host").contains("`bearer_token_env_var`"));
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
}
