//! Logs in to agents for the command line, and shows and removes stored logins.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rmcp::model::ProtocolVersion;
use rmcp::transport::common::http_header::HEADER_SESSION_ID;
use serde_json::json;

use super::auth::authorizer::Authorizer;
use super::auth::challenge::Challenge;
use super::auth::error::AuthorizationError;
use super::auth::login::{LOGIN_TIMEOUT, Login};
use super::options::Options;
use super::transport::endpoint::HttpEndpoint;
use super::transport::http_response::HttpError;
use super::transport::request_failure::from_http;
use crate::model::{AgentSpec, Failure, FailureKind, HumanDuration, LoginInfo, OAuthGrant, Transport};

/// The time for the request that shows what the server requires.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// The beginning of a login.
pub enum LoginStart {
    /// The server requires no login.
    NotRequired,
    /// The host has authenticated itself; no person is needed.
    LoggedIn(LoginInfo),
    /// A person has to log in on a page.
    Page(Box<PageLogin>),
}

/// A login on a page of the authorization server.
pub struct PageLogin {
    login: Login,
    authorizer: Arc<Authorizer>,
}

impl PageLogin {
    /// Returns the address of the page.
    pub fn url(&self) -> &str {
        &self.login.url
    }

    /// Waits until the browser returns from the page, or `pasted` returns the address to which the page redirects.
    /// `reject` is called for a text that is not such an address.
    ///
    /// # Errors
    /// Returns a failure if the login is refused or takes too long.
    pub async fn complete(
        mut self,
        mut pasted: impl AsyncFnMut() -> Option<String>,
        mut reject: impl FnMut(),
    ) -> Result<Option<LoginInfo>, Failure> {
        let redirects = self.login.redirects();
        let reading = async {
            while let Some(address) = pasted().await {
                if redirects.submit(address.trim().to_owned()).await.status == StatusCode::NOT_FOUND {
                    reject();
                }
            }
            std::future::pending::<Infallible>().await
        };
        let completed = tokio::select! {
            completed = self.login.complete() => completed,
            never = reading => match never {},
            () = tokio::time::sleep(LOGIN_TIMEOUT) => {
                let limit = HumanDuration(LOGIN_TIMEOUT);
                Err(AuthorizationError::refused(format!("the login was not completed within {limit}")))
            }
        };
        self.login.close().await;
        completed.map_err(|error| error.to_failure(&self.authorizer.agent))?;
        Ok(self.authorizer.login_info())
    }
}

/// Begins a login to `agent`, whether one is stored or not.
///
/// # Errors
/// Returns a failure if the server or its authorization server cannot be used.
pub async fn begin_login(agent: &AgentSpec, options: &Options) -> Result<LoginStart, Failure> {
    if let Some(failure) = agent.unset_variables_failure() {
        return Err(failure);
    }
    let authorizer = authorizer(agent, options)?;
    let failure = |error: AuthorizationError| error.to_failure(&agent.id);
    let challenge = probe(agent, &authorizer).await?;
    if challenge.is_none() && !authorizer.discover(None).await.map_err(failure)?.is_published {
        return Ok(LoginStart::NotRequired);
    }
    if authorizer.spec.grant == OAuthGrant::ClientCredentials {
        authorizer.authenticate_again(challenge).await.map_err(failure)?;
        return Ok(authorizer.login_info().map_or(LoginStart::NotRequired, LoginStart::LoggedIn));
    }
    let login = Login::begin(&authorizer, challenge.as_ref()).await.map_err(failure)?;
    Ok(LoginStart::Page(Box::new(PageLogin { login, authorizer })))
}

/// Removes the stored login of `agent`. Returns whether there was one.
///
/// # Errors
/// Returns a failure if the agent cannot have a login, or the system does not remove it.
pub fn log_out(agent: &AgentSpec, options: &Options) -> Result<bool, Failure> {
    let removed: io::Result<bool> = authorizer(agent, options)?.file.remove();
    removed.map_err(|error| {
        let message = format!("the login of agent `{}` cannot be removed: {error}", agent.id);
        Failure::new(FailureKind::AgentUnavailable, message)
    })
}

/// Returns the stored login of `agent`, if there is one.
pub fn login_info(agent: &AgentSpec, options: &Options) -> Option<LoginInfo> {
    Authorizer::new(agent, options)?.login_info()
}

fn authorizer(agent: &AgentSpec, options: &Options) -> Result<Arc<Authorizer>, Failure> {
    Authorizer::new(agent, options).ok_or_else(|| {
        let (why, help) = match &agent.transport {
            Transport::Stdio(_) => ("it is started by `command`", "log in as its documentation describes"),
            Transport::Http { .. } => (
                "its agents file has a fixed token",
                "remove `bearer_token_env_var` and the `Authorization` header to log in instead",
            ),
        };
        let message = format!("agent `{}` has no login: {why}", agent.id);
        Failure::new(FailureKind::Unauthorized, message).with_help(help)
    })
}

/// Sends a handshake without a token, and the list request that follows it, since some servers require a login only for
/// that one. Returns what the server requires.
async fn probe(agent: &AgentSpec, authorizer: &Authorizer) -> Result<Option<Challenge>, Failure> {
    let Transport::Http { url, headers, .. } = &agent.transport else { return Ok(None) };
    let endpoint = HttpEndpoint::new(agent, url, headers, None)?;
    let initialize = json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": ProtocolVersion::LATEST_WITH_INITIALIZE,
            "capabilities": {},
            "clientInfo": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
        },
    });
    let mut headers = endpoint.headers();
    for message in [initialize, json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})] {
        let request = endpoint.client.post(endpoint.url.clone()).headers(headers.clone()).timeout(PROBE_TIMEOUT);
        let response = request.body(message.to_string()).send().await;
        let response = response.map_err(|error| from_http(&agent.id, &HttpError::from_send_error(error)))?;
        let challenge = Challenge::read(response.status(), response.headers(), &authorizer.server);
        if challenge.is_some() {
            return Ok(challenge);
        }
        if let Some(session) = response.headers().get(HEADER_SESSION_ID) {
            headers.insert(HEADER_SESSION_ID, session.clone());
        }
    }
    Ok(None)
}
