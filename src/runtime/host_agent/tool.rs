//! What commands and requests of a run have in common: the settings, and the parameters of calls.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::{Client, Url};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::config::{HostPermissionError, HostSettings};
use crate::mcp::{CallGuard, CallStop, ClientHost, build_client, client_builder, is_loopback};
use crate::model::{Failure, FailureKind, ToolCall};
use crate::runtime::content::{ContentStore, Spool, SpoolLimits};

/// What the host can do for a run.
pub(in crate::runtime) struct HostTools {
    pub(super) settings: HostSettings,
    /// The directory of the plan, where commands run.
    pub(super) directory: PathBuf,
    /// The files of the run, if it has a directory for them.
    pub(super) content: Option<Arc<ContentStore>>,
    /// The receiver of progress.
    host: Arc<dyn ClientHost>,
    /// The HTTP clients by whether they connect to this machine and use TLS. Locked only to find or insert one.
    clients: Mutex<HashMap<(bool, String), Client>>,
}

impl HostTools {
    /// Returns the tools for a run whose plan is in `directory`, and whose large outputs are in `content`.
    pub(in crate::runtime) fn new(
        settings: HostSettings,
        directory: PathBuf,
        content: Option<Arc<ContentStore>>,
        host: Arc<dyn ClientHost>,
    ) -> Self {
        Self { settings, directory, content, host, clients: Mutex::default() }
    }

    /// Returns a receiver for an output.
    pub(super) fn spool(&self, limits: SpoolLimits) -> Spool {
        Spool::new(self.content.clone(), limits)
    }

    /// Returns a guard of the timeouts of a call, which start now.
    pub(super) fn guard(&self, call: &ToolCall, cancel: CancellationToken) -> CallGuard {
        CallGuard::new(call, Arc::clone(&self.host), cancel)
    }

    /// Returns a client for requests to `url`, which follows no redirects.
    ///
    /// # Errors
    /// Returns a failure if the settings are not usable.
    pub(super) fn client(&self, url: &Url) -> Result<Client, Failure> {
        let is_local = is_loopback(url);
        let key = (is_local, url.scheme().to_owned());
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let builder = client_builder(url, &self.settings.http.network);
        let built = builder.and_then(|builder| {
            let agent = concat!("kapell/", env!("CARGO_PKG_VERSION"));
            build_client(builder.redirect(reqwest::redirect::Policy::none()).user_agent(agent).referer(false))
        });
        let client = built.map_err(|problem| {
            Failure::new(FailureKind::InvalidArguments, problem).with_help("check `[http]` in the agents file")
        })?;
        self.clients.lock().insert(key, client.clone());
        Ok(client)
    }
}

/// Returns the failure of a call that the agents file does not allow.
pub(super) fn denied(error: HostPermissionError) -> Failure {
    Failure::new(FailureKind::Refused, error.message).with_help(error.help)
}

/// Returns the failure of a call whose output cannot be written to a file of the run.
pub(super) fn unwritable(what: &str, error: &io::Error) -> Failure {
    let message = format!("{what} cannot be written to a file of the run: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            let help = "make space where the journal is; `kapell runs prune` deletes the files of runs that have ended";
            Failure::new(FailureKind::ResultTooLarge, message).with_help(help)
        }
        _ => Failure::new(FailureKind::InvalidResult, message),
    }
}

/// Returns the failure of a call that was stopped.
pub(super) fn stopped(guard: &CallGuard, stop: CallStop) -> Failure {
    let lost = || Failure::new(FailureKind::ConnectionLost, "the call was stopped");
    guard.stop_failure(stop).unwrap_or_else(lost)
}

/// Returns the codes with which a call succeeds, if the plan sets them.
pub(super) fn expected_codes(call: &ToolCall) -> Option<Vec<u16>> {
    let codes = call.arguments.get("expect")?;
    let code = |code: &Value| u16::try_from(code.as_u64()?).ok();
    Some(match codes {
        Value::Array(codes) => codes.iter().filter_map(code).collect(),
        single => code(single).into_iter().collect(),
    })
}
