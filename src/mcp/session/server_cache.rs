//! Caches what was learned of each server, so that later connections need no detection.
//! A cached fact is a hint: a wrong one costs one more handshake.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::model::{AgentSpec, ConnectionTransport, ServerQuirk, Transport};
use crate::system::hash::short_hash;
use crate::system::{clock, files};

/// The time for which facts count. A server may be updated to a version that also speaks the modern era.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The same time for a server with quirks. Learning them again costs a failed call.
const MAX_QUIRK_AGE: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// The maximum number of servers in the file. The oldest entries are dropped first.
const MAX_ENTRIES: usize = 256;
/// The maximum number of bytes that are read from the file, several times the size of a full one.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// A protocol era.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Era {
    /// Protocol versions up to 2025-11-25, with an `initialize` handshake.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

/// What was learned of a server by connecting to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerFacts {
    /// The era in which the host connects to it.
    pub(crate) era: Era,
    pub(crate) transport: ConnectionTransport,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) quirks: Vec<ServerQuirk>,
}

impl ServerFacts {
    /// Returns the facts about a server without quirks.
    pub(crate) fn new(era: Era, transport: ConnectionTransport) -> Self {
        Self { era, transport, quirks: Vec::new() }
    }

    /// Returns the time for which the facts count.
    fn max_age(&self) -> Duration {
        if self.quirks.is_empty() { MAX_AGE } else { MAX_QUIRK_AGE }
    }
}

/// A cache of what earlier runs learned, in a file that only its owner may read.
#[derive(Debug)]
pub(crate) struct ServerCache {
    path: Option<PathBuf>,
    /// Locked while the file is read or written, so that this process never overwrites its own entries.
    file: Mutex<()>,
}

/// The content of the file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct ServerEntries {
    /// The entries by [`cache_key`], oldest first.
    #[serde(default)]
    servers: IndexMap<String, ServerEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ServerEntry {
    #[serde(flatten)]
    facts: ServerFacts,
    /// The time of the detection, in seconds since the Unix epoch.
    at: u64,
}

impl ServerCache {
    /// Returns a cache in the file at `path`, or one that stores nothing.
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path, file: Mutex::default() }
    }

    /// Returns what an earlier run learned. An unreadable file counts as empty.
    pub(crate) fn get(&self, spec: &AgentSpec) -> Option<ServerFacts> {
        let path = self.path.as_deref()?;
        let key = cache_key(spec)?;
        let _guard = self.file.lock();
        let entry = read(path).servers.shift_remove(&key)?;
        let age = now().checked_sub(entry.at)?;
        (age < entry.facts.max_age().as_secs()).then_some(entry.facts)
    }

    /// Stores the facts for later runs. If writing fails, the next run detects them again.
    pub(crate) fn put(&self, spec: &AgentSpec, facts: &ServerFacts) {
        let (Some(path), Some(key)) = (self.path.as_deref(), cache_key(spec)) else { return };
        let _guard = self.file.lock();
        let mut entries = read(path);
        entries.put(key, ServerEntry { facts: facts.clone(), at: now() });
        if let Err(error) = write(path, &entries) {
            tracing::debug!(path = %path.display(), %error, "what was learned of the agents could not be saved");
        }
    }
}

impl ServerEntries {
    fn put(&mut self, key: String, entry: ServerEntry) {
        self.servers.shift_remove(&key);
        self.servers.insert(key, entry);
        let excess = self.servers.len().saturating_sub(MAX_ENTRIES);
        self.servers.drain(..excess);
    }
}

/// Returns a hash of the agent's transport settings, since arguments and URLs may contain secrets. Returns `None` for a
/// server that the host starts, whose port differs from run to run.
fn cache_key(spec: &AgentSpec) -> Option<String> {
    match &spec.transport {
        Transport::Stdio(process) => {
            // A relative path among the arguments depends on the working directory.
            let directory = process.cwd.clone().or_else(|| std::env::current_dir().ok())?;
            let arguments = process.args.iter().map(String::as_str);
            let parts = ["stdio", &process.command].into_iter().chain(arguments);
            Some(short_hash(parts.chain([&*directory.to_string_lossy()])))
        }
        Transport::Http { url, server: None, .. } => Some(short_hash(["http", url])),
        Transport::Http { server: Some(_), .. } => None,
    }
}

fn now() -> u64 {
    clock::since_epoch().as_secs()
}

fn read(path: &Path) -> ServerEntries {
    let text = files::read(path, MAX_FILE_BYTES);
    text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write(path: &Path, entries: &ServerEntries) -> io::Result<()> {
    files::replace_in_own_directory(path, &serde_json::to_vec(entries)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::ChildProcess;
    use crate::model::samples::agent_spec;

    fn stdio(args: &[&str]) -> AgentSpec {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = ChildProcess { command: "python3".to_owned(), args, env: IndexMap::new(), cwd: None };
        AgentSpec { transport: Transport::Stdio(process), ..agent_spec("a") }
    }

    fn legacy() -> ServerFacts {
        ServerFacts::new(Era::Legacy, ConnectionTransport::Stdio)
    }

    #[test]
    fn facts_are_cached_by_command_and_arguments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/servers.json");
        ServerCache::new(Some(path.clone())).put(&stdio(&["a.py", "secret"]), &legacy());
        let cache = ServerCache::new(Some(path.clone()));
        assert_eq!(cache.get(&stdio(&["a.py", "secret"])), Some(legacy()));
        assert_eq!(cache.get(&stdio(&["a.pysecret"])), None);
        let modern = ServerFacts::new(Era::Modern, ConnectionTransport::Stdio);
        cache.put(&stdio(&["a.py", "secret"]), &modern);
        assert_eq!(cache.get(&stdio(&["a.py", "secret"])), Some(modern));
        assert!(!fs::read_to_string(&path).unwrap().contains("secret"));
        assert_eq!(ServerCache::new(None).get(&stdio(&["a.py", "secret"])), None);
    }

    #[cfg(unix)]
    #[test]
    fn cache_file_is_private_and_replaces_symlinks() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("servers.json"), folder.path().join("other"));
        fs::write(&other, "mine").unwrap();
        symlink(&other, &path).unwrap();
        ServerCache::new(Some(path.clone())).put(&stdio(&[]), &legacy());
        assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn entries_that_are_old_or_of_a_later_time_do_not_count_and_the_oldest_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.json");
        // The clock was set back since, so the age of the entry is unknown.
        let mut entries = ServerEntries::default();
        entries.put(cache_key(&stdio(&[])).unwrap(), ServerEntry { facts: legacy(), at: now() + 60 * 60 });
        write(&path, &entries).unwrap();
        assert_eq!(ServerCache::new(Some(path.clone())).get(&stdio(&[])), None);
        let old = ServerEntry { facts: legacy(), at: now() - MAX_AGE.as_secs() };
        let mut entries = ServerEntries::default();
        entries.put(cache_key(&stdio(&[])).unwrap(), old.clone());
        write(&path, &entries).unwrap();
        assert_eq!(ServerCache::new(Some(path.clone())).get(&stdio(&[])), None);
        let facts = ServerFacts { quirks: vec![ServerQuirk::RefusesModernRequests], ..legacy() };
        entries.put(cache_key(&stdio(&[])).unwrap(), ServerEntry { facts: facts.clone(), ..old });
        write(&path, &entries).unwrap();
        assert_eq!(ServerCache::new(Some(path)).get(&stdio(&[])), Some(facts), "quirks count for longer");
        (0..=MAX_ENTRIES).for_each(|number| entries.put(number.to_string(), old.clone()));
        assert_eq!((entries.servers.len(), entries.servers.first().unwrap().0.as_str()), (MAX_ENTRIES, "1"));
    }

    #[test]
    fn damaged_cache_file_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", r#"{"servers":{"x":{"era":"stone","transport":"stdio","at":1}}}"#] {
            let path = folder.path().join("servers.json");
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path), ServerEntries::default(), "{text}");
        }
    }
}
