//! Provides the tokens of one agent: loads, renews, and requests them, once for all requests and processes that need
//! them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use reqwest::Url;
use rmcp::transport::auth::{AuthError, AuthorizationManager, AuthorizationMetadataSource, OAuthClientConfig};

use super::challenge::{Challenge, ChallengeKind};
use super::client_credentials;
use super::error::AuthorizationError;
use super::login_file::{AccessToken, LoginFile, StoredLogin};
use super::network_client::NetworkClient;
use crate::mcp::options::Options;
use crate::model::{AgentId, AgentSpec, LoginInfo, NetworkSettings, OAuthGrant, OAuthSpec, Secrets, Transport};

/// The maximum number of new tokens for one request. The first one may be too old already, if another process has
/// replaced it.
const MAX_RENEWALS: u32 = 2;
/// The scope that requests renewable tokens, which a client that authenticates itself does not need.
const OFFLINE_ACCESS: &str = "offline_access";

/// The tokens of one agent. All of its connections share it.
pub(crate) struct Authorizer {
    pub(crate) agent: AgentId,
    pub(crate) spec: OAuthSpec,
    /// The URL of the server, and the only one that the token is sent to.
    pub(crate) server: Url,
    network: NetworkSettings,
    pub(crate) file: LoginFile,
    /// The tokens are masked.
    secrets: Secrets,
    /// The token of the next request. Locked only to copy or replace it.
    token: Mutex<Option<AccessToken>>,
    /// False until the stored login was read.
    is_loaded: AtomicBool,
    /// Held while a token is renewed, so that concurrent requests wait for the same one.
    renewal: tokio::sync::Mutex<()>,
    /// The challenge that a person has to resolve. Locked only to copy or replace it.
    required_login: Mutex<Option<Challenge>>,
    /// Held during a login, so that concurrent requests cause one question.
    pub(super) login: tokio::sync::Mutex<()>,
    /// True if the last login of this process was declined or failed. No other one begins until there is a token.
    pub(super) has_login_failed: AtomicBool,
}

/// The discovered authorization server of a resource.
pub(crate) struct AuthorizationServer {
    pub(crate) manager: AuthorizationManager,
    pub(crate) issuer: Option<String>,
    /// False if nothing was published, and the endpoints are guessed.
    pub(crate) is_published: bool,
    pub(crate) registers_clients: bool,
    /// True if the client ID can be the URL of a metadata document.
    pub(crate) reads_client_metadata: bool,
}

impl Authorizer {
    /// Returns the tokens of the agent. Returns `None` if its server gets a configured token, or is a child process.
    pub(crate) fn new(agent: &AgentSpec, options: &Options) -> Option<Arc<Self>> {
        let Transport::Http { url, headers, bearer_token: None, oauth, .. } = &agent.transport else { return None };
        if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            return None;
        }
        // An invalid URL is reported when the agent is connected.
        let server = Url::parse(url).ok()?;
        let file = LoginFile::new(options.login_dir.as_deref(), &agent.id, server.as_str(), oauth);
        Some(Arc::new(Self {
            agent: agent.id.clone(),
            spec: oauth.clone(),
            server,
            network: agent.network.clone(),
            file,
            secrets: options.secrets.clone(),
            token: Mutex::default(),
            is_loaded: AtomicBool::new(false),
            renewal: tokio::sync::Mutex::default(),
            required_login: Mutex::default(),
            login: tokio::sync::Mutex::default(),
            has_login_failed: AtomicBool::new(false),
        }))
    }

    /// Returns the token for the next request, renewed if it is about to expire. Returns `None` before the first login:
    /// only the response of the server shows whether it requires one.
    ///
    /// # Errors
    /// Returns an error if the stored login cannot be read.
    pub(crate) async fn token(self: &Arc<Self>) -> Result<Option<AccessToken>, AuthorizationError> {
        if !self.is_loaded.load(Ordering::Relaxed) {
            let stored = self.file.read()?;
            self.adopt(&stored);
        }
        let token = self.token.lock().clone();
        match &token {
            Some(expiring) if expiring.is_expiring() => match self.renew(token.clone(), None).await {
                Ok(renewed) => Ok(Some(renewed)),
                // The server decides whether the old token is still valid.
                Err(error) => {
                    tracing::debug!(agent = %self.agent, %error, "a token that expires was not renewed");
                    Ok(token)
                }
            },
            _ => Ok(token),
        }
    }

    /// Returns another token for a request that the server refused with `challenge`. `attempt` is the number of tokens
    /// that the request had already, and `used` the last one.
    ///
    /// # Errors
    /// Returns why another token is not available.
    pub(crate) async fn another_token(
        self: &Arc<Self>,
        challenge: Challenge,
        used: Option<AccessToken>,
        attempt: u32,
    ) -> Result<AccessToken, AuthorizationError> {
        let stored = self.file.read()?;
        if let Some(token) = stored.access_token().filter(|token| attempt < MAX_RENEWALS && !token.is_expiring())
            && Some(&token) != used.as_ref()
        {
            self.adopt(&stored);
            return Ok(token);
        }
        let is_renewable = match challenge.kind {
            ChallengeKind::InvalidToken => true,
            ChallengeKind::InsufficientScope => self.spec.grant == OAuthGrant::ClientCredentials,
        };
        if is_renewable && attempt < MAX_RENEWALS {
            match self.renew(used, Some(challenge.clone())).await {
                Err(AuthorizationError::LoginRequired(_)) => {}
                renewed => return renewed,
            }
        }
        Err(self.require_login(challenge))
    }

    /// Records that a person has to log in, and returns the error.
    fn require_login(&self, challenge: Challenge) -> AuthorizationError {
        let stored = self.file.read().unwrap_or_default();
        let granted = stored.scopes();
        let is_granted = |scope: &String| granted.contains(scope);
        let scopes = challenge.scopes.join(" ");
        match challenge.kind {
            _ if self.spec.grant == OAuthGrant::ClientCredentials => {
                AuthorizationError::refused("the server rejects the token that the authorization server issued for it")
            }
            ChallengeKind::InsufficientScope if challenge.scopes.is_empty() => {
                AuthorizationError::refused("the server reports that a scope is missing, but does not name it")
            }
            ChallengeKind::InsufficientScope
                if stored.missing_scopes.is_empty() && challenge.scopes.iter().all(is_granted) =>
            {
                AuthorizationError::refused(format!(
                    "the server reports that the scopes `{scopes}` are missing, which its token has"
                ))
            }
            ChallengeKind::InsufficientScope => {
                let missing = challenge.scopes.clone();
                if let Err(error) = self.file.update(|login| login.missing_scopes = missing) {
                    return error;
                }
                *self.required_login.lock() = Some(challenge);
                AuthorizationError::LoginRequired(format!("the scopes `{scopes}` are missing"))
            }
            ChallengeKind::InvalidToken => {
                let reason = match stored.access_token() {
                    Some(_) => "the server no longer accepts the stored login",
                    None => "no login is stored",
                };
                *self.required_login.lock() = Some(challenge);
                AuthorizationError::LoginRequired(reason.to_owned())
            }
        }
    }

    /// Returns the challenge that a person has to resolve.
    pub(crate) fn required_login(&self) -> Option<Challenge> {
        self.required_login.lock().clone()
    }

    /// Uses the token of a stored login from now on, and masks it.
    pub(crate) fn adopt(&self, stored: &StoredLogin) {
        self.secrets.add(stored.secret_values());
        *self.token.lock() = stored.access_token();
        self.is_loaded.store(true, Ordering::Relaxed);
        if stored.missing_scopes.is_empty() {
            *self.required_login.lock() = None;
            self.has_login_failed.store(false, Ordering::Relaxed);
        }
    }

    /// Obtains a new token for the client itself.
    ///
    /// # Errors
    /// Returns an error if the authorization server cannot be used, or refuses the client.
    pub(crate) async fn authenticate_again(
        self: &Arc<Self>,
        challenge: Option<Challenge>,
    ) -> Result<(), AuthorizationError> {
        let used = self.file.read()?.access_token();
        self.renew(used, challenge).await.map(drop)
    }

    /// Returns what a person may see of the stored login. An unreadable one counts as missing.
    pub(crate) fn login_info(&self) -> Option<LoginInfo> {
        self.file.read().ok()?.info()
    }

    /// Returns another token than `used`: the one that another request or process has obtained since, or a new one.
    ///
    /// The work continues if the caller is dropped: a refresh token that was used must be replaced in the file.
    async fn renew(
        self: &Arc<Self>,
        used: Option<AccessToken>,
        challenge: Option<Challenge>,
    ) -> Result<AccessToken, AuthorizationError> {
        let authorizer = self.clone();
        let renewing = tokio::spawn(async move { authorizer.renew_once(used, challenge).await });
        let renewed = renewing.await;
        renewed.unwrap_or_else(|_| Err(AuthorizationError::Unavailable("kapell failed while it renewed it".to_owned())))
    }

    async fn renew_once(
        &self,
        used: Option<AccessToken>,
        challenge: Option<Challenge>,
    ) -> Result<AccessToken, AuthorizationError> {
        let _renewal = self.renewal.lock().await;
        let _lock = self.file.lock().await?;
        let stored = self.file.read()?;
        if let Some(token) = stored.access_token()
            && Some(&token) != used.as_ref()
            && !token.is_expiring()
        {
            self.adopt(&stored);
            return Ok(token);
        }
        match self.spec.grant {
            OAuthGrant::AuthorizationCode => self.refresh(&stored, challenge.as_ref()).await?,
            OAuthGrant::ClientCredentials => self.authenticate(&stored, challenge.as_ref()).await?,
        }
        tracing::debug!(agent = %self.agent, "a token was obtained");
        let stored = self.file.read()?;
        self.adopt(&stored);
        let none = || AuthorizationError::Unavailable("the new token was removed in the meantime".to_owned());
        stored.access_token().ok_or_else(none)
    }

    /// Renews the login without a person. The caller holds the lock of the file.
    async fn refresh(&self, stored: &StoredLogin, challenge: Option<&Challenge>) -> Result<(), AuthorizationError> {
        let login_required = |reason: &str| AuthorizationError::LoginRequired(reason.to_owned());
        let (client, secret) = stored.renewing_client().ok_or_else(|| login_required("the login cannot be renewed"))?;
        let AuthorizationServer { mut manager, issuer, .. } = self.discover(challenge).await?;
        if issuer != stored.issuer {
            self.file.update(StoredLogin::forget_tokens)?;
            return Err(login_required("the server has another authorization server since the login"));
        }
        self.file.set_client_secret(secret.clone());
        let secret =
            self.spec.client_secret.clone().filter(|_| self.spec.client_id.as_ref() == Some(&client)).or(secret);
        // Without a login, the redirect address has no meaning.
        let config = with_secret(OAuthClientConfig::new(client, self.server.as_str()), secret);
        manager.configure_client(config).map_err(|error| AuthorizationError::from_rmcp(&error))?;
        match manager.refresh_token().await {
            Ok(_) => Ok(()),
            Err(AuthError::TokenRefreshRejected(_) | AuthError::AuthorizationRequired) => {
                Err(login_required("the authorization server no longer accepts the login"))
            }
            Err(error) => Err(AuthorizationError::from_rmcp(&error)),
        }
    }

    /// Obtains a token for the client itself. The caller holds the lock of the file.
    async fn authenticate(
        &self,
        stored: &StoredLogin,
        challenge: Option<&Challenge>,
    ) -> Result<(), AuthorizationError> {
        let AuthorizationServer { mut manager, issuer, .. } = self.discover(challenge).await?;
        self.check_issuer(stored, issuer.as_deref())?;
        let mut scopes = match self.spec.scopes.as_slice() {
            [] => manager.select_initial_scopes(&[]).await,
            configured => configured.to_vec(),
        };
        scopes.retain(|scope| scope != OFFLINE_ACCESS);
        if let Some(Challenge { kind: ChallengeKind::InsufficientScope, scopes: missing, .. }) = challenge {
            scopes = merged_scopes([scopes, stored.scopes(), missing.clone()]);
        }
        let request = client_credentials::token_request(&self.agent, &self.spec, scopes, self.resource())?;
        let rmcp_error = |error: AuthError| AuthorizationError::from_rmcp(&error);
        manager.validate_client_credentials_metadata(&request).map_err(rmcp_error)?;
        manager.configure_client_credentials(&request).map_err(rmcp_error)?;
        self.file.set_client_secret(None);
        // The future of rmcp cannot move between threads, so it stays on one.
        let runtime = tokio::runtime::Handle::current();
        let exchanging = move || runtime.block_on(manager.exchange_client_credentials(&request)).map(drop);
        match tokio::task::spawn_blocking(exchanging).await {
            Ok(exchanged) => exchanged.map_err(rmcp_error),
            Err(error) => Err(AuthorizationError::Unavailable(error.to_string())),
        }
    }

    /// Refuses to send a client that was registered in advance to another authorization server than before.
    ///
    /// # Errors
    /// Returns an error if the authorization server has changed since the first login.
    pub(crate) fn check_issuer(&self, stored: &StoredLogin, issuer: Option<&str>) -> Result<(), AuthorizationError> {
        let is_configured = self.spec.client_secret.is_some() || self.spec.private_key_file.is_some();
        match (stored.issuer.as_deref(), issuer) {
            (Some(known), Some(found)) if is_configured && known != found => Err(AuthorizationError::Refused {
                message: format!("the authorization server of the agent was `{known}` and is now `{found}`"),
                help: Some(format!("if that is right, run `kapell agents logout {}`", self.agent)),
            }),
            _ => Ok(()),
        }
    }

    /// Finds the authorization server of the agent.
    ///
    /// # Errors
    /// Returns an error if the metadata cannot be read, or is not that of the agent.
    pub(crate) async fn discover(
        &self,
        challenge: Option<&Challenge>,
    ) -> Result<AuthorizationServer, AuthorizationError> {
        let rmcp_error = |error: AuthError| AuthorizationError::from_rmcp(&error);
        let manager = if self.network == NetworkSettings::default() {
            // The servers of a company have private addresses, which rmcp permits only on request.
            AuthorizationManager::new_allowing_private_addresses(self.resource()).await
        } else {
            let client = NetworkClient::new(&self.server, &self.network);
            AuthorizationManager::new_with_oauth_http_client(self.resource(), Arc::new(client)).await
        };
        let mut manager = manager.map_err(rmcp_error)?;
        let header = challenge.and_then(|challenge| challenge.header.as_deref());
        let found = manager.resolve_metadata_from_challenge(header).await.map_err(rmcp_error)?;
        let supported = found.metadata.additional_fields.get("client_id_metadata_document_supported");
        let server = AuthorizationServer {
            issuer: found.metadata.issuer.clone(),
            is_published: found.source != AuthorizationMetadataSource::LegacyEndpointFallback,
            registers_clients: found.metadata.registration_endpoint.is_some(),
            reads_client_metadata: supported.and_then(serde_json::Value::as_bool).unwrap_or(false),
            manager: {
                manager.set_metadata(found.metadata);
                manager.set_credential_store(self.file.clone());
                manager
            },
        };
        Ok(server)
    }

    /// Returns the resource that tokens are requested for, unless the server publishes another one.
    fn resource(&self) -> String {
        self.spec.resource.clone().unwrap_or_else(|| self.server.to_string())
    }
}

/// Returns all scopes of several lists, each once, in order.
pub(crate) fn merged_scopes(lists: [Vec<String>; 3]) -> Vec<String> {
    let mut known = HashSet::new();
    lists.into_iter().flatten().filter(|scope| known.insert(scope.clone())).collect()
}

/// Adds the secret of the client, if it has one.
pub(crate) fn with_secret(config: OAuthClientConfig, secret: Option<String>) -> OAuthClientConfig {
    match secret {
        Some(secret) => config.with_client_secret(secret),
        None => config,
    }
}
