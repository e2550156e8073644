//! Sends the requests to an authorization server with the network settings of the agent. rmcp's own client, which is
//! used without such settings, has none.

use std::sync::Arc;

use oauth2::HttpResponse;
use parking_lot::Mutex;
use reqwest::Url;
use reqwest::redirect::Policy;
use rmcp::transport::auth::{
    OAuthHttpClient, OAuthHttpClientError, OAuthHttpClientFuture, OAuthHttpRedirectPolicy, OAuthHttpRequest,
};
use url::Origin;

use super::address_policy::AddressPolicy;
use crate::mcp::network::{build_client, client_builder, same_origin_redirects};
use crate::model::{NetworkSettings, redact_url};

/// The maximum size of a response, far above that of any metadata or tokens.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// The client of one discovery and the requests that follow it.
///
/// It presents the client certificate at the origin of the agent's `url` only. The server names its authorization
/// server, and could otherwise let kapell identify the person to any address, or authenticate requests there.
pub(super) struct NetworkClient {
    server: Url,
    settings: NetworkSettings,
    addresses: Arc<AddressPolicy>,
    /// The clients of the few origins so far. Locked only to find or add one.
    clients: Mutex<Vec<OriginClient>>,
}

/// The client for one origin.
struct OriginClient {
    origin: Origin,
    redirects: OAuthHttpRedirectPolicy,
    client: reqwest::Client,
}

/// The reason that a request has no response.
#[derive(Debug, thiserror::Error)]
enum NetworkClientError {
    #[error(
        "a request to `{0}` is not permitted: only a server on this machine may refer to a loopback address, and \
             none may refer to a reserved one"
    )]
    AddressRefused(String),
    #[error("the response of `{0}` is larger than {MAX_RESPONSE_BYTES} bytes")]
    TooLarge(String),
    #[error("{0}")]
    InvalidSettings(String),
}

impl NetworkClient {
    /// Creates the client of an agent at `server`.
    pub(super) fn new(server: &Url, settings: &NetworkSettings) -> Self {
        let addresses = Arc::new(AddressPolicy::new(server, settings.proxy.as_deref()));
        Self { server: server.clone(), settings: settings.clone(), addresses, clients: Mutex::default() }
    }

    async fn send(
        &self,
        request: reqwest::Request,
        redirects: OAuthHttpRedirectPolicy,
    ) -> Result<HttpResponse, OAuthHttpClientError> {
        if !self.addresses.permits_url(request.url()) {
            return Err(NetworkClientError::AddressRefused(redact_url(request.url().as_str())).into());
        }
        let client = self.client(request.url(), redirects).map_err(NetworkClientError::InvalidSettings)?;
        read_response(client.execute(request).await?).await
    }

    /// Returns the client for requests to the origin of `url`.
    fn client(&self, url: &Url, redirects: OAuthHttpRedirectPolicy) -> Result<reqwest::Client, String> {
        let origin = url.origin();
        let mut clients = self.clients.lock();
        if let Some(known) = clients.iter().find(|known| known.origin == origin && known.redirects == redirects) {
            return Ok(known.client.clone());
        }
        let mut settings = self.settings.clone();
        if origin != self.server.origin() {
            settings.client_cert_file = None;
        }
        let policy = match redirects {
            OAuthHttpRedirectPolicy::Stop => Policy::none(),
            _ => same_origin_redirects(),
        };
        let builder = client_builder(url, &settings)?.redirect(policy).dns_resolver(self.addresses.clone());
        let client = build_client(builder)?;
        clients.push(OriginClient { origin, redirects, client: client.clone() });
        Ok(client)
    }
}

impl OAuthHttpClient for NetworkClient {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let OAuthHttpRequest { request, redirect_policy, timeout, .. } = request;
            let mut request = reqwest::Request::try_from(request)?;
            *request.timeout_mut() = timeout;
            self.send(request, redirect_policy).await
        })
    }
}

/// Reads a response within its limit.
async fn read_response(mut response: reqwest::Response) -> Result<HttpResponse, OAuthHttpClientError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(NetworkClientError::TooLarge(redact_url(response.url().as_str())).into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut read = HttpResponse::new(body);
    *read.status_mut() = response.status();
    *read.headers_mut() = std::mem::take(response.headers_mut());
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::Redirect;
    use axum::routing::{get, post};
    use tokio::net::TcpListener;

    use super::*;

    /// Serves pages at a loopback address, and returns it.
    async fn serve() -> Url {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/moved", post(async || Redirect::temporary("/here")))
            .route("/away", post(async || Redirect::temporary("http://127.0.0.1:1/")))
            .route("/other", post(async || Redirect::to("/here")))
            .route("/here", post(async |body: String| body))
            .route("/fits", get(async || "x".repeat(MAX_RESPONSE_BYTES)))
            .route("/large", get(async || "x".repeat(MAX_RESPONSE_BYTES + 1)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address.parse().unwrap()
    }

    fn client(server: &Url) -> NetworkClient {
        NetworkClient::new(server, &NetworkSettings::default())
    }

    async fn send(
        server: &Url,
        method: reqwest::Method,
        path: &str,
        redirects: OAuthHttpRedirectPolicy,
    ) -> Result<(u16, usize), String> {
        let mut request = reqwest::Request::new(method, server.join(path).unwrap());
        *request.body_mut() = Some("body".into());
        let response = client(server).send(request, redirects).await.map_err(|error| error.to_string())?;
        Ok((response.status().as_u16(), response.body().len()))
    }

    #[tokio::test]
    async fn redirects_stay_within_the_origin_and_are_returned_on_request() {
        let server = serve().await;
        let post = async |path, redirects| send(&server, reqwest::Method::POST, path, redirects).await;
        let stopped = post("/moved", OAuthHttpRedirectPolicy::Stop).await;
        assert_eq!(stopped, Ok((StatusCode::TEMPORARY_REDIRECT.as_u16(), 0)));
        let redirected = post("/moved", OAuthHttpRedirectPolicy::default()).await;
        assert_eq!(redirected, Ok((StatusCode::OK.as_u16(), "body".len())));
        for path in ["/away", "/other"] {
            assert!(post(path, OAuthHttpRedirectPolicy::default()).await.is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn responses_are_limited() {
        let server = serve().await;
        let get = async |path| send(&server, reqwest::Method::GET, path, OAuthHttpRedirectPolicy::Stop).await;
        assert_eq!(get("/fits").await, Ok((StatusCode::OK.as_u16(), MAX_RESPONSE_BYTES)));
        assert!(get("/large").await.unwrap_err().contains("larger than"));
    }

    #[tokio::test]
    async fn addresses_are_checked_before_a_request_and_when_a_name_is_resolved() {
        let server: Url = "https://a.test/mcp".parse().unwrap();
        for (url, problem) in [
            ("http://169.254.169.254/token", "is not permitted"),
            ("http://127.0.0.1:1/token", "is not permitted"),
            ("https://localhost:1/token", "no address"),
        ] {
            let request = reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap());
            let error = client(&server).send(request, OAuthHttpRedirectPolicy::Stop).await.unwrap_err();
            let mut reason: &dyn std::error::Error = &*error;
            while let Some(source) = reason.source() {
                reason = source;
            }
            assert!(reason.to_string().contains(problem), "{url}: {reason}");
        }
    }
}
