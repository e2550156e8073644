//! Receives the redirect of an authorization server at a loopback address.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderName, StatusCode};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The port of the redirect address, unless another process uses it. Some authorization servers accept only the
/// address that was registered.
const PREFERRED_PORT: u16 = 17_652;
/// The path of the redirect address.
const PATH: &str = "/callback";
/// The maximum number of redirects that wait to be checked. Further ones are refused.
const MAX_QUEUED_REDIRECTS: usize = 16;
/// The time to finish the responses to the browser.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The listener at the redirect address. Dropping it ends the listener at once.
pub(crate) struct RedirectListener {
    /// The redirect address.
    pub(crate) address: String,
    redirects: mpsc::Receiver<ReceivedRedirect>,
    sender: RedirectSender,
    closed: CancellationToken,
    server: JoinHandle<()>,
}

/// A received redirect. The browser waits for the page.
pub(crate) struct ReceivedRedirect {
    /// The whole address, with its parameters.
    pub(crate) address: String,
    page: oneshot::Sender<RedirectPage>,
}

/// The page that follows a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedirectPage {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

/// A sender of redirects to a login.
#[derive(Clone)]
pub(crate) struct RedirectSender(mpsc::Sender<ReceivedRedirect>);

impl RedirectSender {
    /// Passes a redirect address to the login, and returns the page that follows it.
    pub(crate) async fn submit(&self, address: String) -> RedirectPage {
        let (page, shown) = oneshot::channel();
        let submitted = self.0.try_send(ReceivedRedirect { address, page });
        let shown = if submitted.is_ok() { shown.await.ok() } else { None };
        shown.unwrap_or_else(|| RedirectPage {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: "No login is in progress.".to_owned(),
        })
    }
}

impl ReceivedRedirect {
    /// Shows a text in the browser.
    pub(crate) fn show(self, status: StatusCode, text: String) {
        // The browser may be closed.
        let _ = self.page.send(RedirectPage { status, text });
    }
}

impl RedirectListener {
    /// Listens at a free port of this machine.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub(crate) async fn bind() -> io::Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, PREFERRED_PORT)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        };
        let address = format!("http://{}{PATH}", listener.local_addr()?);
        let (sender, redirects) = mpsc::channel(MAX_QUEUED_REDIRECTS);
        let sender = RedirectSender(sender);
        let closed = CancellationToken::new();
        let router = Router::new().route(PATH, get(receive)).with_state((address.clone(), sender.clone()));
        let serving = axum::serve(listener, router).with_graceful_shutdown(closed.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::warn!(%error, "the redirect of a login cannot be received");
            }
        });
        Ok(Self { address, redirects, sender, closed, server })
    }

    /// Waits for the next redirect.
    pub(crate) async fn next(&mut self) -> ReceivedRedirect {
        match self.redirects.recv().await {
            Some(redirect) => redirect,
            // Not reached, since this listener has a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Returns a sender for redirect addresses that arrive in another way.
    pub(crate) fn sender(&self) -> RedirectSender {
        self.sender.clone()
    }

    /// Ends the listener after the open responses, so that the browser shows its page.
    pub(crate) async fn close(mut self) {
        self.closed.cancel();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut self.server).await;
    }
}

impl Drop for RedirectListener {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Passes a redirect to the login, and responds with the page that follows it.
async fn receive(
    State((address, sender)): State<(String, RedirectSender)>,
    RawQuery(query): RawQuery,
) -> (StatusCode, [(HeaderName, &'static str); 3], String) {
    let headers =
        [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store"), (REFERRER_POLICY, "no-referrer")];
    let RedirectPage { status, text } = sender.submit(format!("{address}?{}", query.unwrap_or_default())).await;
    (status, headers, text)
}

/// Returns the value of a parameter in the query of an address.
pub(super) fn query_parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn redirects_are_received_and_the_browser_shows_the_page() {
        let mut listener = RedirectListener::bind().await.unwrap();
        let address = listener.address.clone();
        let browser = tokio::spawn(async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let response = client.get(format!("{address}?code=1&state=2")).send().await.unwrap();
            let status = response.status();
            (status, response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned(), response.text().await.unwrap())
        });
        let redirect = listener.next().await;
        assert_eq!(redirect.address, format!("{}?code=1&state=2", listener.address));
        redirect.show(StatusCode::OK, "done".to_owned());
        listener.close().await;
        let shown = browser.await.unwrap();
        assert_eq!(shown, (StatusCode::OK, "text/plain; charset=utf-8".to_owned(), "done".to_owned()));
    }

    #[tokio::test]
    async fn other_paths_are_not_found_and_ports_differ() {
        let (first, second) = (RedirectListener::bind().await.unwrap(), RedirectListener::bind().await.unwrap());
        assert_ne!(first.address, second.address);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(first.address.replace(PATH, "/favicon.ico")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
}
