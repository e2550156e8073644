//! Decides which requests are served: the name of the host, the origin, and the secret.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;

use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};

use super::page_api_error::PageApiError;

/// The name of the cookie of a session.
const COOKIE_NAME: &str = "kapell_session";
/// The number of random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// The minimum length of a token that a person chose.
pub(super) const MIN_TOKEN_CHARS: usize = 16;

/// The secret that gives access to all runs.
#[derive(Clone, PartialEq, Eq)]
pub struct PageToken(String);

impl std::fmt::Debug for PageToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageToken(***)")
    }
}

impl PageToken {
    /// Returns a new token.
    ///
    /// # Errors
    /// Returns an error if the system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(hexadecimal(&bytes)))
    }

    /// Returns a token that a person chose.
    ///
    /// # Errors
    /// Describes what is wrong with it.
    pub fn chosen(token: &str) -> Result<Self, String> {
        let is_valid = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        if token.chars().count() < MIN_TOKEN_CHARS {
            return Err(format!("it must have at least {MIN_TOKEN_CHARS} characters"));
        }
        match token.chars().all(is_valid) {
            true => Ok(Self(token.to_owned())),
            false => Err("it may have letters, digits, `-`, `_`, `.`, and `~` only".to_owned()),
        }
    }

    /// Returns the token as text, for the address that a person opens.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a text is the token. Takes as long for any text of the same length.
    pub(super) fn matches(&self, text: &str) -> bool {
        is_equal(&self.0, text)
    }

    /// Returns the value of the cookie, from which the token cannot be computed.
    fn session(&self) -> String {
        hexadecimal(&Sha256::new().chain_update("kapell session ").chain_update(&self.0).finalize())
    }
}

/// The way in which a request is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// By the token, which only programs send.
    Bearer,
    /// By the cookie of a page.
    Session,
}

/// The rules for requests.
#[derive(Debug)]
pub(super) struct AccessRules {
    token: PageToken,
    session: String,
    /// The names of this server, with its port.
    hosts: Vec<String>,
}

impl AccessRules {
    /// Returns the rules of a server at `address` that `names` are further names of.
    pub(super) fn new(token: PageToken, address: SocketAddr, names: &[String]) -> Self {
        let port = address.port();
        let own = (!address.ip().is_unspecified()).then(|| address.to_string());
        let local = ["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{port}"));
        let named = names.iter().flat_map(|name| [name.to_lowercase(), format!("{}:{port}", name.to_lowercase())]);
        let hosts = local.into_iter().chain(own).chain(named).collect();
        Self { session: token.session(), token, hosts }
    }

    /// Checks what holds for every request: the name of the host, and that no secret is in the address.
    ///
    /// # Errors
    /// Returns the refusal.
    pub(super) fn check_every(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), PageApiError> {
        let host =
            headers.get(HOST).and_then(|host| host.to_str().ok()).or_else(|| uri.authority().map(|a| a.as_str()));
        if !host.is_some_and(|host| self.hosts.contains(&host.to_lowercase())) {
            return Err(PageApiError::forbidden(
                "serve::unknown_host",
                "the request names another host than this server",
                "open the address that `kapell serve` printed; `--allow-host NAME` adds a name",
            ));
        }
        let query = uri.query().unwrap_or_default();
        if query.split('&').any(|pair| matches!(pair.split('=').next(), Some("token" | "t" | "access_token"))) {
            return Err(PageApiError::bad_request(
                "serve::token_in_query",
                "a token in the query of an address ends up in logs",
                "send it as `Authorization: Bearer TOKEN`",
            ));
        }
        Ok(())
    }

    /// Checks a request to the API.
    ///
    /// # Errors
    /// Returns the refusal.
    pub(super) fn check_api(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Permit, PageApiError> {
        let permit = self.permit(headers).ok_or_else(PageApiError::no_session)?;
        let changes = *method != Method::GET && *method != Method::HEAD;
        let is_guarded = changes || uri.path() == "/api/stream";
        if permit == Permit::Session && is_guarded {
            self.check_origin(headers)?;
        }
        Ok(permit)
    }

    /// Checks that a page of this server sent the request.
    ///
    /// # Errors
    /// Returns the refusal.
    pub(super) fn check_origin(&self, headers: &HeaderMap) -> Result<(), PageApiError> {
        let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
        let origin = text(ORIGIN.as_str());
        let host = text(HOST.as_str()).unwrap_or_default();
        let is_own = origin.is_some_and(|origin| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        });
        // Both are set by browsers only, and no script can change them.
        let is_allowed = match (origin, text("sec-fetch-site")) {
            (_, Some(site)) => site == "same-origin" && (origin.is_none() || is_own),
            (Some(_), None) => is_own,
            (None, None) => false,
        };
        match is_allowed {
            true => Ok(()),
            false => Err(PageApiError::forbidden(
                "serve::foreign_origin",
                "the request does not come from a page of this server",
                "programs send `Authorization: Bearer TOKEN`",
            )),
        }
    }

    /// Returns the cookie that a page gets for the token; `None` if it is not the token.
    pub(super) fn session_cookie(&self, token: &str) -> Option<String> {
        let cookie = || format!("{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict", self.session);
        self.token.matches(token).then(cookie)
    }

    pub(super) fn permit(&self, headers: &HeaderMap) -> Option<Permit> {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some(authorization) = bearer {
            // A wrong token is refused, even with a cookie.
            let (scheme, token) = authorization.split_once(' ')?;
            let is_token = scheme.eq_ignore_ascii_case("bearer") && self.token.matches(token.trim());
            return is_token.then_some(Permit::Bearer);
        }
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == COOKIE_NAME && is_equal(&self.session, value)).then_some(Permit::Session)
    }
}

/// Compares two texts in a time that does not depend on where they differ.
fn is_equal(secret: &str, other: &str) -> bool {
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    let (secret, other) = (digest(secret), digest(other));
    secret.iter().zip(other.iter()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn rules() -> AccessRules {
        let token = PageToken::chosen("a-long-enough-token").expect("valid");
        AccessRules::new(token, "127.0.0.1:4200".parse().expect("an address"), &["runs.example".to_owned()])
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parsed = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"))
        };
        pairs.iter().map(parsed).collect()
    }

    fn uri(text: &str) -> Uri {
        text.parse().expect("an address")
    }

    #[test]
    fn only_own_names_are_served() {
        for (host, is_served) in [
            ("127.0.0.1:4200", true),
            ("LOCALHOST:4200", true),
            ("[::1]:4200", true),
            ("runs.example", true),
            ("127.0.0.1:4201", false),
            ("evil.example:4200", false),
            ("127.0.0.1.evil.example:4200", false),
        ] {
            let checked = rules().check_every(&headers(&[("host", host)]), &uri("/"));
            assert_eq!(checked.is_ok(), is_served, "{host}");
        }
        assert!(rules().check_every(&headers(&[]), &uri("/")).is_err());
    }

    #[test]
    fn token_in_query_is_refused() {
        for query in ["/api/runs?token=a-long-enough-token", "/?t=x", "/api/stream?run=1&access_token=x"] {
            let refused = rules().check_every(&headers(&[("host", "localhost:4200")]), &uri(query)).expect_err(query);
            assert_eq!(refused.code(), "serve::token_in_query");
        }
    }

    #[test]
    fn changes_by_cookie_need_the_own_origin() {
        let rules = rules();
        let cookie = rules.session_cookie("a-long-enough-token").expect("the token");
        let cookie = cookie.split(';').next().expect("a pair").to_owned();
        let check = |method: Method, path: &str, more: &[(&str, &str)]| {
            let mut all = vec![("host", "localhost:4200"), ("cookie", cookie.as_str())];
            all.extend(more);
            rules.check_api(&method, &uri(path), &headers(&all)).is_ok()
        };
        assert!(check(Method::GET, "/api/runs", &[]));
        assert!(!check(Method::GET, "/api/stream", &[]));
        assert!(check(Method::GET, "/api/stream", &[("sec-fetch-site", "same-origin")]));
        assert!(!check(Method::POST, "/api/runs", &[]));
        assert!(!check(Method::POST, "/api/runs", &[("sec-fetch-site", "cross-site")]));
        assert!(!check(Method::POST, "/api/runs", &[("sec-fetch-site", "same-site")]));
        assert!(check(Method::POST, "/api/runs", &[("origin", "http://localhost:4200")]));
        assert!(!check(Method::POST, "/api/runs", &[("origin", "http://localhost:4201")]));
        assert!(!check(Method::POST, "/api/runs", &[("origin", "null")]));
        let both = [("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")];
        assert!(!check(Method::POST, "/api/runs", &both));
    }

    #[test]
    fn bearer_needs_no_origin_and_wrong_ones_are_refused() {
        let rules = rules();
        let check = |authorization: &str| {
            rules.check_api(&Method::POST, &uri("/api/runs"), &headers(&[("authorization", authorization)])).is_ok()
        };
        assert!(check("Bearer a-long-enough-token"));
        assert!(!check("Bearer a-long-enough-tokem"));
        assert!(!check("Basic a-long-enough-token"));
        assert!(!check("Bearer"));
        assert!(rules.session_cookie("a-long-enough").is_none());
        assert!(PageToken::chosen("short").is_err() && PageToken::chosen("with spaces in a long one").is_err());
    }
}
