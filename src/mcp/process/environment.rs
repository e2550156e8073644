//! Decides which environment variables of the host a child process inherits, and names those that it may need but does
//! not get.

use std::ffi::OsString;

use crate::model::ChildProcess;
use crate::system::environment;

/// The variables that a child inherits, in addition to every `LC_*`. With them, the usual programs find their files, the
/// language of the person, and the network. Only the URLs of proxies and of the npm registry can contain a password,
/// which is masked in what agents send.
const INHERITED: [&str; 71] = [
    // The person and the system.
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TERM",
    "TMPDIR",
    "TZ",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    // Windows of browsers.
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "CHROME_PATH",
    "PLAYWRIGHT_BROWSERS_PATH",
    "PUPPETEER_CACHE_DIR",
    "PUPPETEER_EXECUTABLE_PATH",
    // Proxies.
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    // Certificate authorities.
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    // Node.js, npm, pnpm, Bun, and Deno.
    "BUN_INSTALL",
    "COREPACK_HOME",
    "DENO_DIR",
    "FNM_DIR",
    "NPM_CONFIG_CACHE",
    "NPM_CONFIG_PREFIX",
    "NPM_CONFIG_REGISTRY",
    "NPM_CONFIG_USERCONFIG",
    "NVM_DIR",
    "PNPM_HOME",
    "VOLTA_HOME",
    "npm_config_cache",
    "npm_config_prefix",
    "npm_config_registry",
    "npm_config_userconfig",
    // Python: uv, pipx, and pyenv.
    "PIPX_HOME",
    "PYENV_ROOT",
    "UV_CACHE_DIR",
    "UV_PYTHON_INSTALL_DIR",
    "UV_SYSTEM_CERTS",
    "UV_TOOL_BIN_DIR",
    "UV_TOOL_DIR",
    // Containers.
    "CONTAINER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
];
/// The prefixes of other variables by which installers, runtimes, and containers are configured. They can contain
/// secrets, so they are named in errors and not inherited.
const CONFIGURING_PREFIXES: [&str; 13] = [
    "BUN_",
    "DENO_",
    "DOCKER_",
    "JAVA_",
    "NODE_",
    "NPM_",
    "PIP_",
    "PLAYWRIGHT_",
    "PNPM_",
    "PUPPETEER_",
    "PYTHON",
    "UV_",
    "npm_",
];
/// The maximum number of variables that an error names.
const MAX_NAMED: usize = 8;

/// Returns the variables of the host that every child inherits.
pub(super) fn inherited_variables() -> impl Iterator<Item = (OsString, OsString)> {
    environment::variables().into_iter().filter(|(name, _)| name.to_str().is_some_and(is_inherited))
}

fn is_inherited(name: &str) -> bool {
    INHERITED.contains(&name) || name.starts_with("LC_")
}

/// Returns a help text that names the variables that configure installers and runtimes for the host, but not for
/// `process`. Returns `None` if there are none.
pub(crate) fn describe_missing(process: &ChildProcess) -> Option<String> {
    let names = environment::variables().into_iter().filter_map(|(name, _)| name.into_string().ok());
    let missing = missing_variables(names, process);
    let named: Vec<_> = missing.iter().take(MAX_NAMED).map(|name| format!("`{name}`")).collect();
    let further = if missing.len() > MAX_NAMED { ", and others" } else { "" };
    let named = named.join(", ");
    (!missing.is_empty())
        .then(|| format!("the program does not inherit {named}{further}; name in `env_vars` what it needs"))
}

fn missing_variables(names: impl Iterator<Item = String>, process: &ChildProcess) -> Vec<String> {
    let configures = |name: &str| CONFIGURING_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut missing: Vec<_> =
        names.filter(|name| configures(name) && !is_inherited(name) && !process.env.contains_key(name)).collect();
    missing.sort_unstable();
    missing
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;

    #[test]
    fn variables_that_may_contain_secrets_are_not_inherited() {
        for name in ["HTTPS_PROXY", "no_proxy", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "DOCKER_HOST", "LC_ALL"] {
            assert!(is_inherited(name), "{name}");
        }
        for name in ["UV_INDEX_URL", "NPM_TOKEN", "PIP_INDEX_URL", "NODE_AUTH_TOKEN", "GITHUB_TOKEN", "LD_PRELOAD"] {
            assert!(!is_inherited(name), "{name}");
        }
    }

    #[test]
    fn missing_variables_are_named() {
        let env = IndexMap::from([("NODE_OPTIONS".to_owned(), "x".to_owned())]);
        let process = ChildProcess { command: "npx".to_owned(), args: Vec::new(), env, cwd: None };
        let names = ["UV_INDEX_URL", "PATH", "NODE_OPTIONS", "NPM_TOKEN", "UV_CACHE_DIR", "EDITOR"];
        let missing = missing_variables(names.into_iter().map(str::to_owned), &process);
        assert_eq!(missing, ["NPM_TOKEN", "UV_INDEX_URL"]);
    }
}
