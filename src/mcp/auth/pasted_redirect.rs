//! Passes the redirect address that a person has copied from a browser to the process that waits for it on this machine.

use std::time::Duration;

use http::StatusCode;
use reqwest::Url;

use super::redirect::query_parameter;
use crate::mcp::network::is_loopback;

/// The time in which the waiting process exchanges the code for tokens.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// The reason that a redirect address did not complete a login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// The page does not return to a process on this machine.
    #[error("its page is not that of a login, which returns to this machine")]
    NotALogin,
    /// The address is not one to which this page redirects.
    #[error("expected the complete address to which the page redirects: `{0}?…`, with the `state` of this login")]
    OtherAddress(String),
    /// The process that began the login has ended, or has given it up.
    #[error("no process waits for this login at `{0}` any more")]
    NotWaiting(String),
    /// The waiting process has refused the address, or the login has failed.
    #[error("{0}")]
    Refused(String),
}

/// Completes the login on `page` with the address to which the page has redirected a browser on another machine.
///
/// # Errors
/// Returns an error if the address does not belong to the page, or the login fails.
pub async fn complete_login(page: &str, redirected: &str) -> Result<(), RedirectError> {
    let page = Url::parse(page).map_err(|_| RedirectError::NotALogin)?;
    let listener = query_parameter(&page, "redirect_uri").and_then(|address| Url::parse(&address).ok());
    let listener = listener.filter(|listener| listener.scheme() == "http" && is_loopback(listener));
    let (listener, state) = listener.zip(query_parameter(&page, "state")).ok_or(RedirectError::NotALogin)?;
    let redirected = Url::parse(redirected.trim()).ok().filter(|redirected| {
        let target = |url: &Url| url[..url::Position::AfterPath].to_owned();
        target(redirected) == target(&listener) && query_parameter(redirected, "state").as_ref() == Some(&state)
    });
    let redirected = redirected.ok_or_else(|| RedirectError::OtherAddress(listener.to_string()))?;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(EXCHANGE_TIMEOUT).build();
    let not_waiting = |_| RedirectError::NotWaiting(listener.to_string());
    let response = client.map_err(not_waiting)?.get(redirected).send().await.map_err(not_waiting)?;
    let status = response.status();
    let text = response.text().await.map_err(not_waiting)?;
    if status == StatusCode::OK { Ok(()) } else { Err(RedirectError::Refused(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::auth::redirect::RedirectListener;

    fn page(listener: &str) -> String {
        let parameters = [("redirect_uri", listener), ("state", "s1")];
        Url::parse_with_params("https://login.test/authorize", parameters).unwrap().into()
    }

    #[tokio::test]
    async fn address_is_passed_to_the_process_that_waits_for_it() {
        for (status, expected) in
            [(StatusCode::OK, Ok(())), (StatusCode::BAD_REQUEST, Err(RedirectError::Refused("ended".to_owned())))]
        {
            let mut listener = RedirectListener::bind().await.unwrap();
            let (page, redirected) = (page(&listener.address), format!(" {}?code=1&state=s1\n", listener.address));
            let completing = tokio::spawn(async move { complete_login(&page, &redirected).await });
            let received = listener.next().await;
            assert_eq!(received.address, format!("{}?code=1&state=s1", listener.address));
            received.show(status, "ended".to_owned());
            listener.close().await;
            assert_eq!(completing.await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn address_of_another_login_is_not_sent() {
        let listener = RedirectListener::bind().await.unwrap();
        let (page, expected) = (page(&listener.address), RedirectError::OtherAddress(listener.address.clone()));
        for redirected in [
            "",
            &*listener.address,
            &format!("{}?code=1&state=s2", listener.address),
            &format!("{}/more?code=1&state=s1", listener.address),
            "http://127.0.0.1:1/callback?code=1&state=s1",
            "https://login.test/authorize?code=1&state=s1",
        ] {
            assert_eq!(complete_login(&page, redirected).await, Err(expected.clone()), "{redirected}");
        }
    }

    #[tokio::test]
    async fn other_pages_and_ended_logins_are_reported() {
        for page in ["https://login.test/", &page("https://login.test/callback"), "not an address"] {
            let completed = complete_login(page, "http://127.0.0.1:1/callback?code=1&state=s1").await;
            assert_eq!(completed, Err(RedirectError::NotALogin), "{page}");
        }
        let ended = RedirectListener::bind().await.unwrap().address.clone();
        let redirected = format!("{ended}?code=1&state=s1");
        assert_eq!(complete_login(&page(&ended), &redirected).await, Err(RedirectError::NotWaiting(ended)));
    }
}
