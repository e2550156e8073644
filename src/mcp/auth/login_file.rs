//! Stores the login of one agent, and coordinates the processes that renew it with a lock on a file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oauth2::TokenResponse as _;
use parking_lot::Mutex;
use rmcp::transport::auth::{AuthError, CredentialStore, OAuthTokenResponse, StoredCredentials};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::error::AuthorizationError;
use super::login_store::LoginStore;
use crate::model::{AgentId, LoginInfo, OAuthSpec, Timestamp};
use crate::system::hash::short_hash;
use crate::system::{clock, files};

/// The maximum number of seconds by which a token is renewed before its end, so that no request arrives after it.
const MAX_EXPIRY_MARGIN: u64 = 30;
/// The interval between attempts to lock the file.
const LOCK_INTERVAL: Duration = Duration::from_millis(25);
/// The longest wait for another process that renews the login. Its requests have limits of their own.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// The stored login of one agent. Clones share it.
#[derive(Clone)]
pub(crate) struct LoginFile(Arc<LoginStorage>);

struct LoginStorage {
    store: LoginStore,
    /// The file that processes lock, unless the login lasts as long as this process.
    lock_path: Option<PathBuf>,
    /// The secret of the client that is about to log in. Locked only to copy or replace it.
    client_secret: Mutex<Option<String>>,
}

/// A stored login.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct StoredLogin {
    /// The client and its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credentials: Option<StoredCredentials>,
    /// The secret of a client that the host registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// The issuer that the client belongs to. It outlives the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// The scopes that requests lacked. The next login requests them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing_scopes: Vec<String>,
}

/// A token for requests.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AccessToken {
    pub(crate) value: String,
    /// The time of its renewal, in seconds since the Unix epoch, if it ends.
    renewed_at: Option<u64>,
}

impl AccessToken {
    /// Returns whether the token should be renewed before another request.
    pub(crate) fn is_expiring(&self) -> bool {
        self.renewed_at.is_some_and(|renewal| renewal <= clock::since_epoch().as_secs())
    }
}

impl StoredLogin {
    /// Returns the token, valid or not.
    pub(crate) fn access_token(&self) -> Option<AccessToken> {
        let token = self.token()?;
        let margin = |lifetime: Duration| (lifetime.as_secs() / 4).min(MAX_EXPIRY_MARGIN);
        let renewed_at = self.expires_at().zip(token.expires_in()).map(|(end, lifetime)| end - margin(lifetime));
        Some(AccessToken { value: token.access_token().secret().clone(), renewed_at })
    }

    /// Returns the ID and the secret of the client, if the token can be renewed without a person.
    pub(crate) fn renewing_client(&self) -> Option<(String, Option<String>)> {
        self.token()?.refresh_token()?;
        Some((self.credentials.as_ref()?.client_id.clone(), self.client_secret.clone()))
    }

    /// Returns the granted scopes.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let granted = self.credentials.as_ref().map_or(&[][..], |credentials| &credentials.granted_scopes);
        // Some servers grant an empty text.
        granted.iter().filter(|scope| !scope.is_empty()).cloned().collect()
    }

    /// Returns the values that must not be shown.
    pub(crate) fn secret_values(&self) -> Vec<String> {
        let token = self.token();
        let access = token.map(|token| token.access_token().secret().clone());
        let refresh = token.and_then(|token| token.refresh_token()).map(|token| token.secret().clone());
        // An identity token, for example.
        let extra = token.map(|token| token.extra_fields().0.values()).into_iter().flatten();
        let extra = extra.filter_map(|value| value.as_str()).map(str::to_owned);
        access.into_iter().chain(refresh).chain(self.client_secret.clone()).chain(extra).collect()
    }

    /// Removes the tokens, but not the issuer.
    pub(crate) fn forget_tokens(&mut self) {
        self.credentials = None;
        self.client_secret = None;
    }

    /// Returns what a person may see, if there is a token.
    pub(crate) fn info(&self) -> Option<LoginInfo> {
        self.token()?;
        Some(LoginInfo {
            issuer: self.issuer.clone(),
            scopes: self.scopes(),
            expires_at: self.expires_at().map(|end| Timestamp(end.saturating_mul(1_000))),
            is_renewable: self.renewing_client().is_some(),
        })
    }

    fn token(&self) -> Option<&OAuthTokenResponse> {
        self.credentials.as_ref()?.token_response.as_ref()
    }

    fn expires_at(&self) -> Option<u64> {
        let received_at = self.credentials.as_ref()?.token_received_at?;
        Some(received_at.saturating_add(self.token()?.expires_in()?.as_secs()))
    }
}

impl LoginFile {
    /// Returns the login of `agent` that is stored for `directory`, or one in memory. The name of its file depends on the
    /// server and the client, so that a token is never sent to another server.
    pub(crate) fn new(directory: Option<&Path>, agent: &AgentId, server: &str, spec: &OAuthSpec) -> Self {
        let Some(directory) = directory else { return Self::with_store(LoginStore::Memory(Mutex::default()), None) };
        let path = directory.join(file_name(agent, server, spec));
        let lock_path = path.with_extension("lock");
        Self::with_store(LoginStore::permanent(path), Some(lock_path))
    }

    fn with_store(store: LoginStore, lock_path: Option<PathBuf>) -> Self {
        Self(Arc::new(LoginStorage { store, lock_path, client_secret: Mutex::default() }))
    }

    /// Returns the stored login. A missing one is empty.
    ///
    /// # Errors
    /// Returns an error if the stored text cannot be read or contains no login.
    pub(crate) fn read(&self) -> Result<StoredLogin, AuthorizationError> {
        let store = &self.0.store;
        let unreadable = |problem: String| AuthorizationError::Refused {
            message: format!("the stored login in {store} cannot be read: {problem}"),
            help: Some(store.repair_help().to_owned()),
        };
        match store.read().map_err(|error| unreadable(error.to_string()))? {
            Some(text) => serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string())),
            None => Ok(StoredLogin::default()),
        }
    }

    /// Changes the stored login, which is replaced as a whole.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or stored.
    pub(crate) fn update(&self, change: impl FnOnce(&mut StoredLogin)) -> Result<(), AuthorizationError> {
        let store = &self.0.store;
        let mut login = self.read()?;
        change(&mut login);
        let written = serde_json::to_vec(&login).map_err(io::Error::from).and_then(|text| store.replace(&text));
        written.map_err(|error| AuthorizationError::refused(format!("the login cannot be stored in {store}: {error}")))
    }

    /// Removes the stored login. Returns whether there was one.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        self.0.store.remove()
    }

    /// Sets the secret of the client that is about to log in. It is stored with the tokens.
    pub(crate) fn set_client_secret(&self, secret: Option<String>) {
        *self.0.client_secret.lock() = secret;
    }

    /// Waits until no other process renews the login. No other one can until the returned lock is dropped, which also
    /// happens when this process ends.
    ///
    /// # Errors
    /// Returns an error if another process holds the lock for too long, or locking fails.
    pub(crate) async fn lock(&self) -> Result<Option<File>, AuthorizationError> {
        let Some(path) = &self.0.lock_path else { return Ok(None) };
        let failed = |problem: &dyn std::fmt::Display| {
            AuthorizationError::Unavailable(format!("the login cannot be locked with `{}`: {problem}", path.display()))
        };
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let file = files::open_in_own_directory(path, OpenOptions::new().write(true).create(true).truncate(false));
        let file = file.map_err(|error| failed(&error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(LOCK_INTERVAL).await,
                Err(TryLockError::WouldBlock) => return Err(failed(&"another process holds it")),
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
            }
        }
    }
}

/// Returns the name of the file: a hash, since URLs may contain secrets.
fn file_name(agent: &AgentId, server: &str, spec: &OAuthSpec) -> String {
    let resource = spec.resource.as_deref().unwrap_or_default();
    let client = spec.client_id.as_deref().unwrap_or_default();
    let name = short_hash([agent.as_str(), server, resource, client, &format!("{:?}", spec.grant)]);
    name + ".json"
}

fn store_error(error: &AuthorizationError) -> AuthError {
    AuthError::CredentialStoreError(error.to_string())
}

/// The part of the login that rmcp reads and writes. The caller of rmcp holds the lock of the file.
#[async_trait::async_trait]
impl CredentialStore for LoginFile {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        Ok(self.read().map_err(|error| store_error(&error))?.credentials)
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let secret = self.0.client_secret.lock().clone();
        let stored = self.update(|login| {
            *login = StoredLogin {
                issuer: credentials.issuer.clone(),
                client_secret: secret,
                credentials: Some(credentials),
                missing_scopes: Vec::new(),
            };
        });
        stored.map_err(|error| store_error(&error))
    }

    async fn clear(&self) -> Result<(), AuthError> {
        self.update(StoredLogin::forget_tokens).map_err(|error| store_error(&error))
    }

    async fn on_refresh_token_rejected(&self, _: &StoredCredentials) -> Result<(), AuthError> {
        self.clear().await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::OAuthGrant;

    fn credentials(token: &str) -> StoredCredentials {
        let response = serde_json::json!({
            "access_token": format!("access-{token}"),
            "refresh_token": format!("refresh-{token}"),
            "token_type": "bearer",
            "expires_in": 3_600,
            "id_token": format!("identity-{token}"),
        });
        let response = serde_json::from_value(response).unwrap();
        let received_at = clock::since_epoch().as_secs();
        StoredCredentials::new("client".to_owned(), Some(response), vec!["read".to_owned()], Some(received_at))
            .with_issuer(Some("https://issuer.test".to_owned()))
    }

    /// Returns the login in a file, whatever the features of this build.
    fn login_file(directory: &Path) -> LoginFile {
        let path = login_path(directory);
        LoginFile::with_store(LoginStore::File(path.clone()), Some(path.with_extension("lock")))
    }

    fn login_path(directory: &Path) -> PathBuf {
        directory.join("login.json")
    }

    #[tokio::test]
    async fn login_is_stored_in_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("logins");
        let file = login_file(&directory);
        assert!(file.read().unwrap().info().is_none());
        file.set_client_secret(Some("client-secret".to_owned()));
        file.save(credentials("1")).await.unwrap();

        let stored = login_file(&directory).read().unwrap();
        let token = stored.access_token().unwrap();
        assert_eq!((token.value.as_str(), token.is_expiring()), ("access-1", false));
        assert_eq!(stored.renewing_client(), Some(("client".to_owned(), Some("client-secret".to_owned()))));
        let info = stored.info().unwrap();
        assert_eq!((info.issuer.as_deref(), info.is_renewable), (Some("https://issuer.test"), true));
        let mut secrets = stored.secret_values();
        secrets.sort();
        assert_eq!(secrets, ["access-1", "client-secret", "identity-1", "refresh-1"]);

        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = login_path(&directory);
        assert_eq!((mode(&directory), mode(&path)), (0o700, 0o600));
        assert!(file.remove().unwrap());
        assert!(!file.remove().unwrap());
    }

    #[tokio::test]
    async fn login_without_a_directory_lasts_as_long_as_the_process() {
        let new = || LoginFile::new(None, &"a".into(), "https://a.test/mcp", &OAuthSpec::default());
        let file = new();
        file.save(credentials("1")).await.unwrap();
        assert!(file.lock().await.unwrap().is_none());
        assert!(file.read().unwrap().info().is_some() && new().read().unwrap().info().is_none());
        assert!(file.remove().unwrap() && file.read().unwrap().info().is_none());
    }

    #[tokio::test]
    async fn rejected_tokens_are_forgotten_but_not_their_issuer() {
        let folder = tempfile::tempdir().unwrap();
        let file = login_file(folder.path());
        file.save(credentials("1")).await.unwrap();
        file.on_refresh_token_rejected(&credentials("1")).await.unwrap();
        let stored = file.read().unwrap();
        assert!(stored.access_token().is_none() && stored.info().is_none());
        assert_eq!(stored.issuer.as_deref(), Some("https://issuer.test"));
    }

    #[test]
    fn each_server_agent_and_client_has_its_own_file() {
        let spec = OAuthSpec::default();
        let name = |agent: &str, server: &str, spec: &OAuthSpec| file_name(&agent.into(), server, spec);
        let service = OAuthSpec { grant: OAuthGrant::ClientCredentials, ..spec.clone() };
        let client = OAuthSpec { client_id: Some("c".to_owned()), ..spec.clone() };
        let names = [
            name("a", "https://a.test", &spec),
            name("b", "https://a.test", &spec),
            name("a", "https://a.test/mcp", &spec),
            name("a", "https://a.test", &service),
            name("a", "https://a.test", &client),
        ];
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert_eq!(name("a", "https://a.test", &spec), names[0]);
    }

    #[test]
    fn damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = login_file(folder.path());
        let path = login_path(folder.path());
        for text in ["", "{", r#"{"credentials": 1}"#] {
            std::fs::write(&path, text).unwrap();
            let error = file.read().err().unwrap().to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lock_waits_for_its_holder_and_no_longer_than_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (login_file(folder.path()), login_file(folder.path()));
        let held = file.lock().await.unwrap();
        let waiting = tokio::spawn(async move { other.lock().await });
        let late = file.lock().await.unwrap_err();
        assert!(late.to_string().contains("another process holds it"), "{late}");
        assert!(waiting.await.unwrap().is_err());
        drop(held);
        assert!(file.lock().await.unwrap().is_some());
    }
}
