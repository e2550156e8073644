//! Logs a person in: registers the client, builds the address of the login page, and exchanges the code of the redirect
//! for tokens.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use reqwest::Url;
use rmcp::transport::auth::{AuthError, AuthorizationManager, OAuthClientConfig};

use super::authorizer::{AuthorizationServer, Authorizer, merged_scopes, with_secret};
use super::challenge::Challenge;
use super::error::AuthorizationError;
use super::login_file::StoredLogin;
use super::redirect::{RedirectListener, RedirectSender, query_parameter};
use crate::model::text::truncate_bytes;

/// The name under which the host registers itself.
const CLIENT_NAME: &str = "kapell";
/// The maximum number of bytes of an error that an authorization server describes in a redirect.
const MAX_DESCRIPTION_BYTES: usize = 500;
/// The time for a login, after which the page of an authorization server has expired.
pub(crate) const LOGIN_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// A login in progress. Dropping it abandons the login.
pub(crate) struct Login {
    authorizer: Arc<Authorizer>,
    manager: AuthorizationManager,
    listener: RedirectListener,
    /// The secret of the client that the host registered, if it has one.
    registered_secret: Option<String>,
    /// The address of the login page.
    pub(crate) url: String,
    /// The value that identifies this login in its redirect.
    state: String,
    issuer: Option<String>,
}

/// The meaning of a redirect.
enum RedirectOutcome {
    /// It belongs to another login, or to none.
    Foreign,
    /// The login has ended.
    Ended(Result<(), AuthorizationError>),
}

impl Login {
    /// Begins a login for the `challenge` of the server, if it sent one.
    ///
    /// # Errors
    /// Returns an error if the authorization server cannot be used, or does not accept this client.
    pub(crate) async fn begin(
        authorizer: &Arc<Authorizer>,
        challenge: Option<&Challenge>,
    ) -> Result<Self, AuthorizationError> {
        let stored = authorizer.file.read()?;
        let server = authorizer.discover(challenge).await?;
        authorizer.check_issuer(&stored, server.issuer.as_deref())?;
        let scopes = scopes(authorizer, &server.manager, &stored).await;
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let listener = RedirectListener::bind()
            .await
            .map_err(|error| AuthorizationError::refused(format!("no loopback port is available: {error}")))?;
        let issuer = server.issuer.clone();
        let (manager, registered_secret) = configure_client(authorizer, server, &listener.address, &scopes).await?;
        let url =
            manager.get_authorization_url(&scopes).await.map_err(|error| AuthorizationError::from_rmcp(&error))?;
        let state = parameter(&url, "state").unwrap_or_default();
        Ok(Self { authorizer: authorizer.clone(), manager, listener, registered_secret, url, state, issuer })
    }

    /// Waits for the redirect of the browser, and stores the tokens.
    ///
    /// # Errors
    /// Returns an error if the person or the authorization server refuses the login.
    pub(crate) async fn complete(&mut self) -> Result<(), AuthorizationError> {
        loop {
            let redirect = self.listener.next().await;
            match self.read_redirect(&redirect.address).await {
                RedirectOutcome::Foreign => {
                    let text = "This page does not belong to the current login.".to_owned();
                    redirect.show(StatusCode::NOT_FOUND, text);
                }
                RedirectOutcome::Ended(Ok(())) => {
                    let agent = &self.authorizer.agent;
                    let text = format!("kapell is logged in to the agent {agent}. You can close this page.");
                    redirect.show(StatusCode::OK, text);
                    return Ok(());
                }
                RedirectOutcome::Ended(Err(error)) => {
                    redirect.show(StatusCode::BAD_REQUEST, format!("kapell is not logged in: {error}"));
                    return Err(error);
                }
            }
        }
    }

    /// Returns a sender for redirect addresses that a person pastes.
    pub(crate) fn redirects(&self) -> RedirectSender {
        self.listener.sender()
    }

    /// Ends the login, after the browser has its page.
    pub(crate) async fn close(self) {
        self.listener.close().await;
    }

    /// Exchanges the code in a redirect for tokens.
    async fn read_redirect(&self, address: &str) -> RedirectOutcome {
        // The comparison shows nothing to a local process that cannot already read the address of the page.
        if parameter(address, "state").as_deref() != Some(&*self.state) {
            return RedirectOutcome::Foreign;
        }
        let issuer = parameter(address, "iss");
        if let Some(error) = parameter(address, "error") {
            return RedirectOutcome::Ended(Err(self.refusal(address, issuer, &error)));
        }
        let Some(code) = parameter(address, "code") else { return RedirectOutcome::Foreign };
        RedirectOutcome::Ended(self.exchange(&code, issuer.as_deref()).await)
    }

    async fn exchange(&self, code: &str, issuer: Option<&str>) -> Result<(), AuthorizationError> {
        let authorizer = &self.authorizer;
        let _lock = authorizer.file.lock().await?;
        authorizer.file.set_client_secret(self.registered_secret.clone());
        let exchanged = self.manager.exchange_code_for_token_with_issuer(code, &self.state, issuer).await;
        exchanged.map_err(|error| match error {
            AuthError::TokenExchangeFailed(_) => AuthorizationError::Refused {
                message: error.to_string(),
                help: Some(format!("run `kapell agents login {}` again", authorizer.agent)),
            },
            error => AuthorizationError::from_rmcp(&error),
        })?;
        authorizer.adopt(&authorizer.file.read()?);
        Ok(())
    }

    /// Returns the error that a redirect reports, unless another server sent it.
    fn refusal(&self, address: &str, issuer: Option<String>, error: &str) -> AuthorizationError {
        if let (Some(issuer), Some(expected)) = (&issuer, &self.issuer)
            && issuer != expected
        {
            let message = format!("the redirect is from the issuer `{issuer}`, not from `{expected}`");
            return AuthorizationError::refused(message);
        }
        let mut description = parameter(address, "error_description").unwrap_or_default();
        truncate_bytes(&mut description, MAX_DESCRIPTION_BYTES);
        let description = if description.is_empty() { description } else { format!(" ({description})") };
        AuthorizationError::Refused {
            message: format!("the authorization server answered `{error}`{description}"),
            help: Some(format!("run `kapell agents login {}` again", self.authorizer.agent)),
        }
    }
}

/// Returns the scopes to request: those of the agents file, or else those that the server names, and those that requests
/// lacked.
async fn scopes(authorizer: &Authorizer, manager: &AuthorizationManager, stored: &StoredLogin) -> Vec<String> {
    let scopes = match authorizer.spec.scopes.as_slice() {
        [] => manager.select_initial_scopes(&[]).await,
        configured => configured.to_vec(),
    };
    match stored.missing_scopes.is_empty() {
        true => scopes,
        false => merged_scopes([scopes, stored.scopes(), stored.missing_scopes.clone()]),
    }
}

/// Sets the client that logs in: the one of the agents file, or one that is registered now. Returns the secret of a
/// registered one.
async fn configure_client(
    authorizer: &Authorizer,
    server: AuthorizationServer,
    redirect: &str,
    scopes: &[&str],
) -> Result<(AuthorizationManager, Option<String>), AuthorizationError> {
    let AuthorizationServer { mut manager, issuer, is_published, registers_clients, reads_client_metadata } = server;
    let agent = &authorizer.agent;
    let client = authorizer.spec.client_id.clone();
    // A client without its own registration at this server is known by the URL of its metadata only.
    let (config, registered) = match client.filter(|client| !is_metadata_url(client) || reads_client_metadata) {
        Some(client) => {
            let config = OAuthClientConfig::new(client, redirect);
            (with_secret(config, authorizer.spec.client_secret.clone()), None)
        }
        None if registers_clients => match manager.register_client(CLIENT_NAME, redirect, scopes).await {
            Ok(config) => {
                let secret = config.client_secret.clone();
                (config, secret)
            }
            Err(_) if !is_published => {
                return Err(AuthorizationError::Refused {
                    message: "the server requires a token, but does not publish how to log in".to_owned(),
                    help: Some(format!("set `bearer_token_env_var` in `[agents.{agent}]`")),
                });
            }
            Err(error) => return Err(AuthorizationError::from_rmcp(&error)),
        },
        None => {
            let issuer = issuer.as_deref().unwrap_or("the authorization server");
            return Err(AuthorizationError::Refused {
                message: format!("`{issuer}` does not register clients by itself"),
                help: Some(format!(
                    "register a client with the redirect address `{redirect}` there, and set `client_id` in \
                     `[agents.{agent}.oauth]`"
                )),
            });
        }
    };
    manager.configure_client(config).map_err(|error| AuthorizationError::from_rmcp(&error))?;
    Ok((manager, registered))
}

/// Returns whether a client ID is the URL of a metadata document.
fn is_metadata_url(client: &str) -> bool {
    Url::parse(client).is_ok_and(|url| url.scheme() == "https" && url.path() != "/")
}

/// Returns the value of a parameter in the query of an address.
fn parameter(address: &str, name: &str) -> Option<String> {
    query_parameter(&Url::parse(address).ok()?, name)
}
