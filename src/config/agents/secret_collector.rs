//! Collects the values of secrets while an agents file is read.

use std::cell::RefCell;

use super::environment::Environment;
use crate::model::Secrets;
use crate::system::environment::PROXY_VARIABLES;

/// Words that mark a name as secret if they are whole words between underscores or hyphens.
const SECRET_WORDS: [&str; 12] =
    ["KEY", "KEYS", "PAT", "DSN", "AUTH", "AUTHORIZATION", "COOKIE", "PASS", "PASSWD", "BEARER", "JWT", "PIN"];
/// Words that mark a name as secret anywhere in it.
const SECRET_SUBSTRINGS: [&str; 7] = ["SECRET", "TOKEN", "PASSWORD", "PASSPHRASE", "CREDENTIAL", "APIKEY", "ACCESSKEY"];

/// The variables with the URL of a package registry that child processes inherit.
const REGISTRY_VARIABLES: [&str; 2] = ["NPM_CONFIG_REGISTRY", "npm_config_registry"];

/// Returns whether a variable or header with this name contains a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_SUBSTRINGS.iter().any(|part| name.contains(part))
        || name.split(['_', '-']).any(|word| SECRET_WORDS.contains(&word))
}

/// An environment that records the secrets that are read from it.
pub(crate) struct SecretCollector<'e> {
    environment: &'e dyn Environment,
    values: RefCell<Vec<String>>,
}

impl<'e> SecretCollector<'e> {
    pub(crate) fn new(environment: &'e dyn Environment) -> Self {
        Self { environment, values: RefCell::default() }
    }

    /// Adds a value that is secret regardless of the name of its variable.
    pub(crate) fn add(&self, value: &str) {
        self.values.borrow_mut().push(value.to_owned());
    }

    /// Adds the value of a header and its last word, the secret of a value such as `Bearer abc`.
    pub(crate) fn add_header(&self, value: &str) {
        self.add(value);
        if let Some((_, last)) = value.trim().rsplit_once(' ') {
            self.add(last);
        }
    }

    /// Adds the password of a URL, as it is written and decoded.
    pub(crate) fn add_url_password(&self, url: &str) {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next();
        let user = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
        if let Some((_, password)) = user.and_then(|user| user.split_once(':')) {
            self.add(password);
            self.add(&percent_encoding::percent_decode_str(password).decode_utf8_lossy());
        }
    }

    /// Adds the passwords of the URLs that every child process inherits.
    pub(crate) fn add_inherited_passwords(&self) {
        for name in PROXY_VARIABLES.into_iter().chain(REGISTRY_VARIABLES) {
            if let Some(url) = self.environment.variable(name) {
                self.add_url_password(&url);
            }
        }
    }

    pub(crate) fn into_secrets(self) -> Secrets {
        Secrets::new(self.values.into_inner())
    }
}

impl Environment for SecretCollector<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        let value = self.environment.variable(name)?;
        if is_secret_name(name) {
            self.add(&value);
        }
        Some(value)
    }

    fn executable(&self) -> Result<String, String> {
        self.environment.executable()
    }

    fn free_port(&self) -> Result<u16, String> {
        self.environment.free_port()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_secrets() {
        let collector = SecretCollector::new(&crate::config::ProcessEnvironment);
        for url in
            ["http://me:pass%20word@proxy:8080/x?a@b", "https://proxy", "http://token@proxy", "me:hunter22@proxy"]
        {
            collector.add_url_password(url);
        }
        assert_eq!(collector.values.into_inner(), ["pass%20word", "pass word", "hunter22", "hunter22"]);
    }

    #[test]
    fn recognizes_secret_names() {
        for name in
            ["MY_SECRET", "GITHUB_TOKEN", "OPENAI_API_KEY", "db_password", "X-Api-Key", "Authorization", "GH_PAT"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["HOME", "PATH", "PWD", "KEYBOARD", "AUTHOR", "COMPASS", "PORT", "REGION", "KAPELL"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
