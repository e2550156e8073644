//! Builds HTTP requests from the parameters of calls, and from redirects.

use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

use super::payload::Payload;
use super::tool::expected_codes;
use crate::model::{Failure, FailureKind, ToolCall, redact_url, value_as_text};

/// The headers of the plan that are also sent to another origin. All others may contain secrets.
const HARMLESS_HEADERS: [&str; 4] = ["accept", "accept-language", "content-type", "user-agent"];

/// An HTTP request, as it is sent next.
pub(super) struct HttpRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Payload>,
    /// The statuses with which the call succeeds; those of success if absent.
    expected: Option<Vec<u16>>,
}

impl HttpRequest {
    /// Reads the parameters of a call, without its body.
    pub(super) fn from_call(call: &ToolCall, body: Option<Payload>) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::new(FailureKind::InvalidArguments, message);
        let text = |key: &str| call.arguments.get(key).and_then(Value::as_str);
        let given = text("url").unwrap_or_default().trim();
        let shown = redact_url(given);
        let mut url = Url::parse(given).map_err(|error| invalid(format!("invalid URL `{shown}`: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!("invalid URL `{shown}`: expected `http://` or `https://`")));
        }
        let query: Vec<(&String, &Value)> =
            object_entries(call, "query").filter(|(_, value)| !value.is_null()).collect();
        if !query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in query {
                let values = match value {
                    Value::Array(values) => values.as_slice(),
                    value => std::slice::from_ref(value),
                };
                for value in values {
                    pairs.append_pair(name, &value_as_text(value));
                }
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in object_entries(call, "headers").filter(|(_, value)| !value.is_null()) {
            let key = HeaderName::from_bytes(name.as_bytes());
            let key = key.map_err(|_| invalid(format!("`{name}` is not a valid header name")))?;
            // The value may be a secret.
            let value = HeaderValue::from_str(value_as_text(value).trim());
            let mut value = value.map_err(|_| invalid(format!("the value of the header `{name}` is not valid")))?;
            value.set_sensitive(true);
            headers.append(key, value);
        }
        if let Some(body) = &body {
            let content_type = match body {
                Payload::Text(_) => "text/plain; charset=utf-8",
                Payload::Json(_) => "application/json",
                Payload::File { file, .. } if file.is_text => "text/plain; charset=utf-8",
                Payload::File { .. } => "application/octet-stream",
            };
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        }
        let method = Method::from_bytes(text("method").unwrap_or("GET").as_bytes());
        let method = method.map_err(|_| invalid("invalid HTTP method".to_owned()))?;
        Ok(Self { method, url, headers, body, expected: expected_codes(call) })
    }

    /// Returns the URL without the parts that may contain secrets.
    pub(super) fn shown_url(&self) -> String {
        redact_url(self.url.as_str())
    }

    /// Returns whether the call succeeds with this status.
    pub(super) fn expects(&self, status: StatusCode) -> bool {
        match &self.expected {
            Some(expected) => expected.contains(&status.as_u16()),
            None => status.is_success(),
        }
    }

    /// Describes the expected statuses.
    pub(super) fn expected_text(&self) -> String {
        match &self.expected {
            Some(expected) => expected.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
            None => "200 to 299".to_owned(),
        }
    }

    /// Returns the request to which a response redirects, if it does and its status is not expected.
    ///
    /// # Errors
    /// Returns a failure for a redirect that is never followed.
    pub(super) fn redirected(&self, response: &Response) -> Result<Option<Self>, Failure> {
        let status = response.status();
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) || self.expects(status) {
            return Ok(None);
        }
        let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
        let refused = |problem: String| {
            Failure::new(FailureKind::Refused, format!("`{}` redirects to {problem}", self.shown_url()))
        };
        let target = location.to_str().ok().and_then(|target| self.url.join(target).ok());
        let Some(mut url) = target.filter(|url| matches!(url.scheme(), "http" | "https")) else {
            return Err(refused("an invalid address".to_owned()));
        };
        let shown = redact_url(url.as_str());
        if self.url.scheme() == "https" && url.scheme() == "http" {
            return Err(refused(format!("`{shown}`, which is not encrypted")));
        }
        if url.fragment().is_none() {
            url.set_fragment(self.url.fragment());
        }
        let keeps_body = matches!(status.as_u16(), 307 | 308);
        let method = match status.as_u16() {
            303 if self.method != Method::HEAD => Method::GET,
            301 | 302 if self.method == Method::POST => Method::GET,
            _ => self.method.clone(),
        };
        let is_same_origin = url.origin() == self.url.origin();
        let mut headers = self.headers.clone();
        if !is_same_origin {
            headers = HeaderMap::new();
            for name in HARMLESS_HEADERS {
                headers.extend(self.headers.get(name).map(|value| (HeaderName::from_static(name), value.clone())));
            }
        }
        let body = self.body.clone().filter(|_| keeps_body || method == self.method);
        if body.is_some() && !is_same_origin {
            // The body may contain credentials, too.
            return Err(refused(format!("`{shown}`, another origin, which must not get the body of the request"))
                .with_help("send the request to that URL"));
        }
        if body.is_none() {
            for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
                headers.remove(name);
            }
        }
        Ok(Some(Self { method, url, headers, body, expected: self.expected.clone() }))
    }
}

fn object_entries<'c>(call: &'c ToolCall, key: &str) -> impl Iterator<Item = (&'c String, &'c Value)> {
    call.arguments.get(key).and_then(Value::as_object).into_iter().flatten()
}
