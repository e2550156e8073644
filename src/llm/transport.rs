//! HTTP transport to the endpoint. It keeps the status and body of every error response, and converts a plain JSON
//! response into a stream.
//! It never retries, never follows a redirect, and never reads a key from the environment.

use std::time::Duration;

use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use bytes::Bytes;
use eventsource_stream::{Event, EventStreamError, Eventsource as _};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, Url};
use secrecy::SecretString;

use super::error::{Hint, LlmError, RetryHint};
use super::wire::ApiError;
use crate::model::text::root_cause;
use crate::model::{HumanDuration, LlmSpec};
use crate::system::clock;

/// The idle time of a pooled connection: less than the five seconds after which common servers close it.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(3);
/// Limits the duration of connecting to the endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of bytes read from an error body. The explanation usually comes first.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// The maximum size of a reply, including the framing of its stream: about 200,000 tokens. An endless stream cannot
/// exhaust the memory.
const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;

/// The reason that an endpoint cannot be used at all.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum EndpointError {
    /// The base URL is invalid.
    #[error("invalid `base_url` in {section}: `{url}` {problem}")]
    #[diagnostic(code(llm::invalid_base_url), help("expected a URL such as `http://127.0.0.1:11434/v1`"))]
    BaseUrl {
        /// The section of the agents file.
        section: String,
        /// The URL as written.
        url: String,
        /// The problem with the URL, as the predicate of a sentence.
        problem: &'static str,
    },
    /// The key cannot be sent in a header.
    #[error("the key of {section} contains a character that a header cannot contain, such as a line break")]
    #[diagnostic(code(llm::invalid_key), help("check the variable that `api_key_env_var` names"))]
    Key {
        /// The section of the agents file.
        section: String,
    },
    /// A header cannot be sent.
    #[error("header `{name}` of {section} has an invalid name or value")]
    #[diagnostic(code(llm::invalid_header), help("check `http_headers` and `env_http_headers` in {section}"))]
    Header {
        /// The section of the agents file.
        section: String,
        /// The name of the header.
        name: String,
    },
    /// The HTTP client could not be created.
    #[error("the HTTP client could not be set up: {message}")]
    #[diagnostic(code(llm::http_client))]
    Client {
        /// The cause.
        message: String,
    },
}

/// The URL of an endpoint, with the query and the headers of every request. All of it comes from the agents file.
#[derive(Clone)]
pub(super) struct LlmEndpoint {
    /// The URL without the query and a trailing slash; safe to show.
    base_url: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    /// A placeholder, because `async-openai` requires a key. The real key is only in `headers`.
    placeholder_key: SecretString,
    /// Values that must not appear in messages.
    secrets: Vec<String>,
}

/// The minimum length of a secret that is redacted. Shorter ones would match ordinary words.
const MIN_SECRET_BYTES: usize = 8;

impl LlmEndpoint {
    pub(super) fn new(spec: &LlmSpec) -> Result<Self, EndpointError> {
        let invalid =
            |problem| EndpointError::BaseUrl { section: spec.section_name(), url: spec.base_url.clone(), problem };
        let mut url = Url::parse(spec.base_url.trim()).map_err(|_| invalid("is not a valid URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("has a scheme other than `http` and `https`"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let problem = "contains a user name or a password; set the key with `api_key_env_var`";
            return Err(EndpointError::BaseUrl { section: spec.section_name(), url: "(hidden)".to_owned(), problem });
        }
        let query: Vec<_> = url.query_pairs().into_owned().chain(spec.query.iter().cloned()).collect();
        url.set_query(None);
        url.set_fragment(None);

        let mut headers = HeaderMap::new();
        for (name, value) in &spec.headers {
            let invalid = || EndpointError::Header { section: spec.section_name(), name: name.clone() };
            let header = HeaderName::try_from(name.as_str()).map_err(|_| invalid())?;
            headers.insert(header, secret_header(value).ok_or_else(invalid)?);
        }
        if let Some(key) = &spec.api_key {
            headers.insert(
                AUTHORIZATION,
                secret_header(&format!("Bearer {key}")).ok_or(EndpointError::Key { section: spec.section_name() })?,
            );
        }
        // The secret itself, and its URL-encoded form.
        let encoded = query.iter().map(|(_, value)| url::form_urlencoded::byte_serialize(value.as_bytes()).collect());
        let values = spec.headers.iter().chain(&query).map(|(_, value)| value).chain(&spec.api_key).cloned();
        let secrets = values.chain(encoded).filter(|value: &String| value.len() >= MIN_SECRET_BYTES).collect();
        Ok(Self {
            base_url: url.as_str().trim_end_matches('/').to_owned(),
            query,
            headers,
            placeholder_key: SecretString::default(),
            secrets,
        })
    }

    /// Replaces the secrets of this endpoint in a text.
    pub(super) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"))
    }

    /// Returns a client that sends the headers of this endpoint nowhere else.
    pub(super) fn client(&self) -> Result<reqwest::Client, EndpointError> {
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let builder = match self.base_url.starts_with("http:") {
            // A proxy could read the key of an unencrypted request. Plain HTTP needs no TLS roots, and loading them is
            // slow.
            true => builder.no_proxy().tls_certs_only([]),
            false => builder,
        };
        builder.build().map_err(|error| EndpointError::Client { message: root_cause(&error) })
    }
}

fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Config for LlmEndpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }
    fn query(&self) -> Vec<(&str, &str)> {
        self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
    fn api_base(&self) -> &str {
        &self.base_url
    }
    fn api_key(&self) -> &SecretString {
        &self.placeholder_key
    }
}

/// Sends a request once. Errors of the response are [`LlmError`]s in a box.
pub(super) async fn send(client: reqwest::Client, request: HttpRequestFactory) -> Result<Response, OpenAIError> {
    let request = request.build().await?;
    let response = match client.execute(request).await {
        Ok(response) if response.status().is_success() => into_event_stream(response).await,
        Ok(response) => Err(read_error_response(response).await),
        Err(error) if error.is_connect() => Err(LlmError {
            hint: Some(Hint::Configure("is it running? check `base_url`")),
            ..LlmError::transient(format!("cannot be reached: {}", root_cause(&error)))
        }),
        Err(error) => Err(connection_lost(&root_cause(&error))),
    };
    response.map_err(|error| OpenAIError::Boxed(Box::new(error)))
}

/// Returns the error for a connection that was lost before the response began.
///
/// Servers may close an idle connection just as it is reused. At worst, the retry pays for a reply that was lost.
fn connection_lost(message: &str) -> LlmError {
    LlmError::transient(format!("closed the connection before it answered: {message}"))
}

async fn read_error_response(response: Response) -> LlmError {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    if let Some(location) = location.filter(|_| (300..400).contains(&status)) {
        let message = format!("answered {status} with a redirect to `{location}`, which is not followed");
        let hint = Some(Hint::Configure("correct `base_url`"));
        return LlmError { status: Some(status), hint, ..LlmError::new(message) };
    }
    let mut body = Vec::new();
    let mut parts = response.bytes_stream();
    // The bytes read before the connection broke are still the best explanation.
    while let Some(Ok(part)) = parts.next().await {
        body.extend_from_slice(&part);
        if body.len() >= MAX_ERROR_BYTES {
            break;
        }
    }
    let error = LlmError::from_response(Some(status), ApiError::from_body(&body));
    match retry_after {
        Some(delay) if error.retry != RetryHint::No => LlmError {
            message: format!("{} (requested delay: {})", error.message, HumanDuration(delay)),
            retry: RetryHint::After(delay),
            is_limit: error.is_limit || status == 503,
            ..error
        },
        _ => error,
    }
}

/// Converts the response to a bounded event stream, even if the endpoint ignored `stream: true`.
///
/// The first byte decides: no line of an event stream begins with a brace, a bracket, or an angle bracket. Headers are
/// often wrong.
pub(super) async fn into_event_stream(response: Response) -> Result<Response, LlmError> {
    let status = response.status();
    let mut remaining = MAX_REPLY_BYTES;
    let too_large = || std::io::Error::other(format!("the reply is larger than {MAX_REPLY_BYTES} bytes"));
    let parts = response.bytes_stream().map_err(std::io::Error::other).map(move |part| {
        let part = part?;
        remaining = remaining.checked_sub(part.len()).ok_or_else(too_large)?;
        Ok::<Bytes, std::io::Error>(part)
    });
    let mut parts = Box::pin(parts);
    let mut head = Vec::new();
    let first = loop {
        match parts.next().await {
            Some(Ok(part)) => head.extend_from_slice(&part),
            Some(Err(error)) => return Err(connection_lost(&error.to_string())),
            None => break None,
        }
        if let Some(first) = head.iter().find(|byte| !byte.is_ascii_whitespace()) {
            break Some(*first);
        }
    };
    let first_bytes = Bytes::from(head);
    let head = stream::iter([Ok(first_bytes.clone())]);
    let body = match first {
        Some(b'<') => {
            // A login form, or a wrong path.
            let page = ApiError::from_body(&first_bytes).message;
            let message = format!("answered {} with {page} instead of JSON", status.as_u16());
            let hint = Some(Hint::Configure("check `base_url`"));
            return Err(LlmError { status: Some(status.as_u16()), hint, ..LlmError::new(message) });
        }
        Some(b'{' | b'[') => reqwest::Body::wrap_stream(as_single_event(head.chain(parts))),
        _ => reqwest::Body::wrap_stream(with_done_marker(head.chain(parts))),
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    Ok(response.into())
}

/// Reports that a part of the body has arrived; see [`super::wire::StreamMarker`].
const PROGRESS_EVENT: &[u8] = b"data: {\"kapell\":\"progress\"}\n\n";
/// Reports that the endpoint marked the end of the stream, which `async-openai` does not expose.
const DONE_EVENTS: &[u8] = b"data: {\"kapell\":\"done\"}\n\ndata: [DONE]\n\n";

type BodyChunk = std::io::Result<Bytes>;

/// Converts a plain JSON body into one event, preceded by progress markers.
///
/// A raw line break in JSON is always whitespace between tokens, so the body fits in one event.
fn as_single_event(
    parts: impl Stream<Item = BodyChunk> + Send + Unpin + 'static,
) -> impl Stream<Item = BodyChunk> + Send {
    async_stream::try_stream! {
        let mut event = b"data: ".to_vec();
        for await part in parts {
            let part = part?;
            if part.iter().any(|byte| !byte.is_ascii_whitespace()) {
                yield Bytes::from_static(PROGRESS_EVENT);
            }
            event.extend(part.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        }
        event.extend(b"\n\n");
        yield Bytes::from(event);
    }
}

/// Inserts a marker before `[DONE]`.
fn with_done_marker(
    parts: impl Stream<Item = BodyChunk> + Send + Unpin + 'static,
) -> impl Stream<Item = BodyChunk> + Send {
    // The last event may lack its blank line.
    let parts = parts.chain(stream::iter([Ok(Bytes::from_static(b"\n\n"))]));
    parts.eventsource().map(|event| match event {
        Ok(event) if event.data.trim() == "[DONE]" => Ok(Bytes::from_static(DONE_EVENTS)),
        Ok(Event { event, data, .. }) => {
            Ok(format!("event: {event}\ndata: {}\n\n", data.replace('\n', "\ndata: ")).into())
        }
        Err(EventStreamError::Transport(error)) => Err(error),
        Err(error) => Err(std::io::Error::other(error.to_string())),
    })
}

/// Returns the delay in `retry-after-ms` or `retry-after`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1_000.0).ok();
    }
    clock::retry_after(text("retry-after")?, text("date"))
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic as _;

    use super::*;

    fn retry_after_of(name: &'static str, value: &'static str) -> Option<Duration> {
        let headers = [(name, value), ("date", "Fri, 20 Nov 2026 10:00:00 GMT")];
        let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        retry_after(&HeaderMap::from_iter(headers))
    }

    #[test]
    fn lost_connections_are_retried() {
        assert_eq!(connection_lost("connection reset").retry, RetryHint::Backoff);
    }

    #[tokio::test]
    async fn marks_the_end_at_any_chunk_boundary() {
        let body = b"data: {}\n\n: [DONE]\nevent: keepalive\ndata: 1\ndata: 2\n\ndata:  [DONE]\r\n\r\ndata: late";
        let expected = "event: message\ndata: {}\n\nevent: keepalive\ndata: 1\ndata: 2\n\n\
                        data: {\"kapell\":\"done\"}\n\ndata: [DONE]\n\nevent: message\ndata: late\n\n";
        for at in 0..=body.len() {
            let parts = [&body[..at], &body[at..]].map(|part| Ok(Bytes::from_static(part)));
            let marked: Vec<Bytes> = with_done_marker(stream::iter(parts)).try_collect().await.expect("no error");
            assert_eq!(String::from_utf8_lossy(&marked.concat()), expected, "cut at {at}");
        }
    }

    #[test]
    fn reads_all_retry_after_forms() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(retry_after_of("retry-after", "7"), seconds(7));
        assert_eq!(retry_after_of("retry-after", " 1.5 "), Some(Duration::from_millis(1_500)));
        assert_eq!(retry_after_of("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(retry_after_of("retry-after", "Fri, 20 Nov 2026 10:01:00 GMT"), seconds(60));
        assert_eq!(retry_after_of("retry-after", "Fri, 20 Nov 2026 09:00:00 GMT"), seconds(0));
        for nonsense in ["-1", "soon", "", "NaN", "1e400"] {
            assert_eq!(retry_after_of("retry-after", nonsense), None, "{nonsense}");
        }
    }

    fn spec(base_url: &str) -> LlmSpec {
        LlmSpec {
            headers: vec![("x-team".to_owned(), "secret-of-the-team".to_owned())],
            query: vec![("token".to_owned(), "secret/of the query".to_owned())],
            ..crate::llm::samples::spec(base_url)
        }
    }

    /// Returns the error for an invalid endpoint with its code and its help.
    fn error_text(spec: &LlmSpec) -> String {
        let error = LlmEndpoint::new(spec).err().expect("an invalid endpoint");
        let part = |part: Option<Box<dyn std::fmt::Display + '_>>| part.expect("every error has it").to_string();
        format!("{}: {error}\n  help: {}\n", part(error.code()), part(error.help()))
    }

    #[test]
    fn keeps_the_query_and_redacts_secrets() {
        let endpoint =
            LlmEndpoint::new(&spec("https://example.test/v1/?api-version=2026-01-01#top")).expect("an endpoint");
        assert_eq!(endpoint.url("/chat/completions"), "https://example.test/v1/chat/completions");
        assert_eq!(endpoint.query(), [("api-version", "2026-01-01"), ("token", "secret/of the query")]);
        let text = "Bearer sk-long-enough of secret-of-the-team?token=secret%2Fof+the+query or secret/of the query";
        assert_eq!(endpoint.redact(text), "Bearer [secret] of [secret]?token=[secret] or [secret]");
    }

    #[test]
    fn rejects_invalid_endpoints() {
        let with_key = LlmSpec { api_key: Some("sk-1\n".to_owned()), ..spec("http://example.test") };
        let headers = vec![("bad name".to_owned(), "x".to_owned())];
        let with_header = LlmSpec { headers, ..spec("http://example.test") };
        let urls = ["127.0.0.1:1", "localhost:1/v1", "ftp://example.test", "https://me:hunter22@example.test"];
        let report: String = urls.map(spec).iter().chain([&with_key, &with_header]).map(error_text).collect();
        assert!(!report.contains("hunter22"), "{report}");
        insta::assert_snapshot!(report);
    }
}
