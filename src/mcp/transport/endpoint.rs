//! Describes one Streamable HTTP endpoint: its address, its headers, and the client that pools its connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use rmcp::transport::common::client_side_sse::ExponentialBackoff;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

use super::http::common_headers;
use crate::mcp::network::{build_client, client_builder, same_origin_redirects};
use crate::model::{AgentSpec, Failure, FailureKind, redact_url};

/// The idle time after which a pooled connection is dropped. Most servers close idle connections after five seconds,
/// and a request on a closing connection may or may not have been handled.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(3);

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
        let client = endpoint_client(&parsed, spec).map_err(invalid)?;
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
fn endpoint_client(url: &reqwest::Url, spec: &AgentSpec) -> Result<reqwest::Client, String> {
    let builder = client_builder(url, &spec.network)?
        .redirect(same_origin_redirects())
        .connect_timeout(spec.startup_timeout)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_nodelay(true);
    build_client(builder)
}
