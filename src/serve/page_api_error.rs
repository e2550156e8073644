//! The errors of the API.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;

use super::serve_error::ServeError;
use crate::journal::JournalError;

/// A request that cannot be served.
#[derive(Debug)]
pub(super) struct PageApiError {
    status: StatusCode,
    code: String,
    message: String,
    help: Option<String>,
}

impl PageApiError {
    pub(super) fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), help: None }
    }

    #[must_use]
    pub(super) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    pub(super) fn forbidden(code: &str, message: &str, help: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message).with_help(help)
    }

    pub(super) fn bad_request(code: &str, message: impl Into<String>, help: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).with_help(help)
    }

    pub(super) fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// Returns the refusal of a request without a valid cookie or token.
    pub(super) fn no_session() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "serve::no_session", "the request has no valid session or token")
            .with_help("open the address that `kapell serve` printed, or send `Authorization: Bearer TOKEN`")
    }

    /// Returns the error of something that failed here.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "serve::failed", error.to_string())
    }

    /// Returns whether a command refused what it was asked for, and has not failed.
    pub(super) fn is_refusal(&self) -> bool {
        self.code.starts_with("cli::")
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &str {
        &self.code
    }
}

impl std::fmt::Display for PageApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl From<JournalError> for PageApiError {
    fn from(error: JournalError) -> Self {
        let (status, code) = match &error {
            JournalError::UnknownRun { .. } => (StatusCode::NOT_FOUND, "serve::unknown_run"),
            JournalError::AmbiguousRun { .. } => (StatusCode::NOT_FOUND, "serve::unknown_run"),
            JournalError::Missing { .. } => (StatusCode::NOT_FOUND, "serve::unknown_run"),
            JournalError::RunEnded { .. } => (StatusCode::CONFLICT, "journal::ended"),
            JournalError::AlreadyAnswered { .. } => (StatusCode::CONFLICT, "serve::already_answered"),
            JournalError::Driven { .. } => (StatusCode::CONFLICT, "journal::driven"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "serve::journal"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<ServeError> for PageApiError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Journal(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl IntoResponse for PageApiError {
    fn into_response(self) -> Response<Body> {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(help) = self.help {
            error["help"] = help.into();
        }
        let mut response = Response::new(Body::from(json!({"error": error}).to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
