//! Describes one Streamable HTTP endpoint: its address, its headers, and the client that pools its connections.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::http::common_headers;
use crate::model::text::root_cause;
use crate::model::{AgentSpec, Failure, FailureKind, NetworkSettings, redact_url};
use crate::system::files;

/// The idle time after which a pooled connection is dropped. Most servers close idle connections after five seconds,
/// and a request on a closing connection may or may not have been handled.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum number of redirects, all within the same origin.
const MAX_REDIRECTS: usize = 5;

/// The maximum size of a file with certificates: several times that of all public authorities.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// A Streamable HTTP endpoint and the client that pools its connections.
pub(crate) struct HttpEndpoint {
    pub(crate) url: reqwest::Url,
    /// The URL without secrets, for error messages.
    pub(crate) display_url: String,
    headers: HashMap<HeaderName, HeaderValue>,
    bearer_token: Option<String>,
    pub(crate) client: reqwest::Client,
}

impl HttpEndpoint {
    /// Validates the settings of the agents file.
    ///
    /// # Errors
    /// Returns [`FailureKind::AgentUnavailable`] that names the invalid setting, never the value of a header.
    pub(crate) fn new(
        spec: &AgentSpec,
        url: &str,
        headers: &[(String, String)],
        token: Option<&str>,
    ) -> Result<Self, Failure> {
        let invalid =
            |what: String| Failure::new(FailureKind::AgentUnavailable, format!("agent `{}`: {what}", spec.id));
        let parsed = reqwest::Url::parse(url).map_err(|error| invalid(format!("`url` is not valid: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(invalid(format!("`url` must be http or https, not `{}`", parsed.scheme())));
        }
        let headers = headers.iter().map(|(name, value)| {
            let header =
                HeaderName::try_from(name).map_err(|_| invalid(format!("`{name}` is not a valid header name")))?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| invalid(format!("the value of header `{name}` is not valid")))?;
            value.set_sensitive(true);
            Ok((header, value))
        });
        let headers = headers.collect::<Result<_, Failure>>()?;
        if token.is_some_and(|token| HeaderValue::try_from(token).is_err()) {
            return Err(invalid("the bearer token contains characters that are not valid in a header".to_owned()));
        }
        let client = build_client(&parsed, spec).map_err(invalid)?;
        let display_url = redact_url(parsed.as_str());
        Ok(Self { url: parsed, display_url, headers, bearer_token: token.map(str::to_owned), client })
    }

    /// Returns the headers that all requests share.
    pub(crate) fn headers(&self) -> HeaderMap {
        common_headers(self.headers.clone(), self.bearer_token.as_deref())
    }

    /// Returns the configuration of rmcp's transport, which sends everything except calls.
    pub(crate) fn transport_config(&self) -> StreamableHttpClientTransportConfig {
        let mut retry = ExponentialBackoff::default();
        retry.max_times = Some(5);
        retry.base_duration = Duration::from_millis(250);
        retry.max_delay = Some(Duration::from_secs(2));
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str())
            .custom_headers(self.headers.clone())
            // On a lost session, rmcp must not repeat a call without the host's knowledge.
            .reinit_on_expired_session(false);
        config.retry_config = Arc::new(retry);
        config.auth_header.clone_from(&self.bearer_token);
        config
    }
}

/// Builds the HTTP client for one endpoint, which reuses connections for the whole run.
///
/// # Errors
/// Returns the reason: a file or the proxy is invalid, or the system provides no TLS roots.
fn build_client(url: &reqwest::Url, spec: &AgentSpec) -> Result<reqwest::Client, String> {
    let same_origin = reqwest::redirect::Policy::custom(|attempt| {
        let from = attempt.previous().last().map(reqwest::Url::origin);
        if from.as_ref() != Some(&attempt.url().origin()) {
            // Headers may contain secrets, and not all of those are known.
            let to = format!("`{}`, another origin", redact_url(attempt.url().as_str()));
            attempt.error(to)
        } else if !matches!(attempt.status().as_u16(), 307 | 308) {
            // Other redirects turn a POST into a GET without the message.
            let to = format!(
                "`{}` with HTTP {}, which loses the message",
                redact_url(attempt.url().as_str()),
                attempt.status()
            );
            attempt.error(to)
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("one address after the other, more than five")
        } else {
            attempt.follow()
        }
    });
    let mut builder = reqwest::Client::builder()
        .redirect(same_origin)
        .connect_timeout(spec.startup_timeout)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_nodelay(true);
    let is_local = url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    let NetworkSettings { ca_file, client_cert_file, proxy } = &spec.network;
    builder = match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy).map_err(|_| "`proxy` is not valid".to_owned())?),
        None if is_local => builder.no_proxy(),
        None => builder,
    };
    if let Some(path) = ca_file {
        builder = builder.tls_certs_merge(read_authorities(path)?);
    } else if is_local && url.scheme() == "http" && proxy.is_none() {
        // Loading TLS roots is slow, and plain HTTP does not need them.
        builder = builder.tls_certs_only([]);
    }
    if let Some(path) = client_cert_file {
        builder = builder.identity(read_identity(path)?);
    }
    builder.build().map_err(|error| format!("cannot create an HTTP client: {}", root_cause(&error)))
}

/// Reads the certificates of `ca_file`.
fn read_authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let certificates = reqwest::Certificate::from_pem_bundle(&read_pem("ca_file", path)?).unwrap_or_default();
    if certificates.is_empty() {
        return Err(format!("`ca_file` `{}` contains no certificate in PEM form", path.display()));
    }
    Ok(certificates)
}

/// Reads the certificate and the private key of `client_cert_file`.
fn read_identity(path: &Path) -> Result<reqwest::Identity, String> {
    // The error could repeat a part of the key.
    reqwest::Identity::from_pem(&read_pem("client_cert_file", path)?).map_err(|_| {
        format!("`client_cert_file` `{}` does not contain a certificate and a private key in PEM form", path.display())
    })
}

fn read_pem(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    files::read(path, MAX_PEM_BYTES).map_err(|error| format!("`{key}` `{}` cannot be read: {error}", path.display()))
}
