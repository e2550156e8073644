//! The server: its socket, its routes, and what holds for every request.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

use super::access::AccessRules;
use super::page_api_error::PageApiError;
use super::routes;
use super::serve_error::ServeError;
use super::settings::ServeSettings;
use super::state::{ServeState, Shared};

/// What the page may load: its own files, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of every response.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, PAGE_POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// A server at an address.
pub struct PageServer {
    listener: TcpListener,
    address: SocketAddr,
    state: Shared,
}

impl PageServer {
    /// Binds the address. Port 0 chooses a free one.
    ///
    /// # Errors
    /// Returns an error if the address cannot be used.
    pub async fn bind(address: SocketAddr, settings: ServeSettings) -> Result<Self, ServeError> {
        let bind = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let access = AccessRules::new(settings.token.clone(), address, &settings.hosts);
        Ok(Self { listener, address, state: Arc::new(ServeState::new(settings, access)) })
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stopped` completes. Streams end at once.
    ///
    /// # Errors
    /// Returns an error if the socket fails.
    pub async fn serve(self, stopped: impl Future<Output = ()>) -> Result<(), ServeError> {
        let router = routes::router()
            .layer(from_fn_with_state(Arc::clone(&self.state), guard))
            .with_state(Arc::clone(&self.state));
        let serving = async { axum::serve(self.listener, router).await.map_err(ServeError::Failed) };
        // Open streams would hold a graceful end up forever, and every other request is short.
        tokio::select! {
            ended = serving => ended,
            () = stopped => Ok(()),
        }
    }
}

/// Refuses what must not be served, and adds the headers of every response.
async fn guard(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let checked = check(&state, &request);
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    add_headers(response.headers_mut());
    response
}

fn check(state: &ServeState, request: &Request) -> Result<(), PageApiError> {
    let (uri, headers) = (request.uri(), request.headers());
    state.access.check_every(headers, uri)?;
    let path = uri.path();
    // The page has no secret, and asks for a session.
    if path == "/" || path.starts_with("/assets/") {
        return Ok(());
    }
    if path == "/api/session" {
        return match state.access.permit(headers) {
            Some(_) => Ok(()),
            None => state.access.check_origin(headers),
        };
    }
    state.access.check_api(request.method(), uri, headers).map(drop)
}

fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
