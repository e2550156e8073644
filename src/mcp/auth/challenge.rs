//! Reads what a server requires when it refuses a request: HTTP 401, or HTTP 403 for a missing scope.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};
use reqwest::Url;
use rmcp::transport::auth::WWWAuthenticateParams;

/// The requirement of a server that refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) kind: ChallengeKind,
    /// The `WWW-Authenticate` header, if there is one.
    pub(crate) header: Option<String>,
    /// The scopes that the server names.
    pub(crate) scopes: Vec<String>,
}

/// The reason that a server refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChallengeKind {
    /// The token is missing, or the server does not accept it.
    InvalidToken,
    /// The token does not permit the request.
    InsufficientScope,
}

impl Challenge {
    /// Reads the challenge in a response of `server`. Returns `None` if another token would not change the response.
    pub(crate) fn read(status: StatusCode, headers: &HeaderMap, server: &Url) -> Option<Self> {
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return None;
        }
        let texts: Vec<_> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let is_bearer = |text: &&str| text.trim_start().to_ascii_lowercase().starts_with("bearer");
        let header = texts.iter().copied().find(is_bearer).or_else(|| texts.first().copied());
        let params = header.map(|header| WWWAuthenticateParams::parse(header, server)).unwrap_or_default();
        let kind = match status {
            StatusCode::UNAUTHORIZED => ChallengeKind::InvalidToken,
            // Some servers name the scopes without the error.
            _ if params.is_insufficient_scope() || params.error.is_none() && params.scope.is_some() => {
                ChallengeKind::InsufficientScope
            }
            _ => return None,
        };
        let scopes = params.scope.as_deref().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        Some(Self { kind, header: header.map(str::to_owned), scopes })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(status: u16, values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        Challenge::read(StatusCode::from_u16(status).unwrap(), &headers, &"https://a.test/mcp".parse().unwrap())
    }

    fn challenge(kind: ChallengeKind, header: Option<&str>, scopes: &[&str]) -> Option<Challenge> {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Some(Challenge { kind, header: header.map(str::to_owned), scopes })
    }

    #[test]
    fn challenges_name_what_is_missing() {
        let bearer = "Bearer error=\"invalid_token\", scope=\"a b\"";
        assert_eq!(
            read(401, &["Basic realm=\"x\"", bearer]),
            challenge(ChallengeKind::InvalidToken, Some(bearer), &["a", "b"])
        );
        assert_eq!(read(401, &[]), challenge(ChallengeKind::InvalidToken, None, &[]));
        let step_up = "bearer scope=\"files:write\", error=\"insufficient_scope\"";
        assert_eq!(read(403, &[step_up]), challenge(ChallengeKind::InsufficientScope, Some(step_up), &["files:write"]));
        let without_error = "Bearer scope=\"files:write\"";
        assert_eq!(
            read(403, &[without_error]),
            challenge(ChallengeKind::InsufficientScope, Some(without_error), &["files:write"])
        );
    }

    #[test]
    fn other_refusals_are_no_challenges() {
        for (status, values) in [
            (403, &[][..]),
            (403, &["Bearer error=\"invalid_token\", scope=\"a\""]),
            (403, &["Bearer"]),
            (200, &["Bearer"]),
            (404, &["Bearer"]),
        ] {
            assert_eq!(read(status, values), None, "{status} {values:?}");
        }
    }
}
