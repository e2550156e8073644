//! Caches what agents offer, so that commands which only show or check it do not start them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mcp::{Options, SamplingSupport};
use crate::model::{AgentInfo, AgentSpec, ChildProcess, Timestamp, Transport};
use crate::system::hash::short_hash;
use crate::system::{clock, files};

/// The time for which an entry counts. A package may be updated, or a server may get other tools.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The maximum number of bytes of an entry. Larger lists of tools are asked for each time.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// What agents offered when a command last asked them: a file for each agent, which only its owner may read.
#[derive(Debug, Clone)]
pub struct OffersCache {
    directory: Option<PathBuf>,
    /// Servers may offer tools only to hosts with a language model.
    sampling: SamplingSupport,
}

/// The content of a file.
#[derive(Debug, Serialize, Deserialize)]
struct CachedOffers {
    /// The time of the connection.
    at: Timestamp,
    info: AgentInfo,
}

impl OffersCache {
    /// Returns the cache in the directory of the options, or one that stores nothing.
    pub fn new(options: &Options) -> Self {
        Self { directory: options.offers_dir.clone(), sampling: options.sampling }
    }

    /// Returns what the agent offered, and when, unless its entry in the agents file or its program has changed since.
    /// An unreadable file counts as absent.
    pub fn get(&self, spec: &AgentSpec) -> Option<(AgentInfo, Timestamp)> {
        let CachedOffers { at, info } = read(&self.path(spec)?)?;
        Some((info, at))
    }

    /// Stores what the agent offers now. If writing fails, the next command asks the agent.
    pub fn put(&self, spec: &AgentSpec, info: &AgentInfo) {
        let Some(path) = self.path(spec) else { return };
        let cached = CachedOffers { at: now(), info: info.clone() };
        let written = serde_json::to_vec(&cached)
            .map_err(Into::into)
            .and_then(|text| files::replace_in_own_directory(&path, &text));
        if let Err(error) = written {
            tracing::debug!(path = %path.display(), %error, "what an agent offers could not be saved");
        }
    }

    /// Removes the entry of an agent if it offers other tools now.
    pub fn forget_changed(&self, spec: &AgentSpec, info: &AgentInfo) {
        let Some(path) = self.path(spec) else { return };
        let Some(CachedOffers { info: cached, .. }) = read(&path) else { return };
        if cached.tools != info.tools || cached.instructions != info.instructions {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, spec: &AgentSpec) -> Option<PathBuf> {
        let mut parts = entry_parts(spec);
        parts.push(format!("{:?}", self.sampling));
        let name = short_hash(parts.iter().map(String::as_str));
        Some(self.directory.as_ref()?.join(format!("{name}.json")))
    }
}

/// Returns an entry that still counts.
fn read(path: &Path) -> Option<CachedOffers> {
    let cached: CachedOffers = serde_json::from_slice(&files::read(path, MAX_FILE_BYTES).ok()?).ok()?;
    // After a change of the clock, the age is unknown.
    let age = now().0.checked_sub(cached.at.0)?;
    (Duration::from_millis(age) < MAX_AGE).then_some(cached)
}

/// Returns everything that decides what an agent offers: its entry in the agents file, the version of its program, and
/// the version of the host.
fn entry_parts(spec: &AgentSpec) -> Vec<String> {
    let mut parts = vec![env!("CARGO_PKG_VERSION").to_owned(), format!("{:?}", spec.protocol)];
    parts.push(format!("{:?} {:?}", spec.enabled_tools, spec.disabled_tools));
    parts.push(format!("{:?}", spec.roots));
    match &spec.transport {
        Transport::Stdio(process) => add_process(&mut parts, process),
        Transport::Http { url, headers, bearer_token, server, .. } => {
            parts.push(url.clone());
            parts.extend(headers.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
            parts.extend(bearer_token.clone());
            server.iter().for_each(|process| add_process(&mut parts, process));
        }
    }
    parts
}

/// Adds the command of a process. A program or script in a file counts with its size and the time of its last change.
fn add_process(parts: &mut Vec<String>, process: &ChildProcess) {
    let directory = process.cwd.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default();
    for word in std::iter::once(&process.command).chain(&process.args) {
        parts.push(word.clone());
        parts.push(file_version(&directory.join(word)).unwrap_or_default());
    }
    parts.extend(process.env.iter().map(|(name, value)| format!("{name}={value}")));
    parts.push(directory.to_string_lossy().into_owned());
}

fn now() -> Timestamp {
    Timestamp::default().after(clock::since_epoch())
}

fn file_version(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(format!("{} {:?}", metadata.len(), metadata.modified().ok()))
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;
    use crate::model::samples::agent_spec;

    fn stdio(args: &[&Path]) -> AgentSpec {
        let args = args.iter().map(|arg| arg.display().to_string()).collect();
        let process = ChildProcess { command: "python3".to_owned(), args, env: IndexMap::new(), cwd: None };
        AgentSpec { transport: Transport::Stdio(process), ..agent_spec("a") }
    }

    fn cache_in(directory: &Path) -> OffersCache {
        OffersCache { directory: Some(directory.to_owned()), sampling: SamplingSupport::Off }
    }

    fn info(instructions: &str) -> AgentInfo {
        AgentInfo { instructions: Some(instructions.to_owned()), ..AgentInfo::default() }
    }

    #[test]
    fn offers_are_cached_until_the_entry_or_the_program_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("server.py");
        fs::write(&script, "1").expect("writes");
        let cache = cache_in(&folder.path().join("offers"));
        let spec = stdio(&[&script]);
        assert!(cache.get(&spec).is_none());
        cache.put(&spec, &info("one"));
        assert_eq!(cache.get(&spec).map(|(info, _)| info), Some(info("one")));

        assert!(cache.get(&stdio(&[&script, Path::new("--more")])).is_none());
        let fewer = AgentSpec { disabled_tools: vec!["x".to_owned()], ..spec.clone() };
        assert!(cache.get(&fewer).is_none());
        let with_model = OffersCache { sampling: SamplingSupport::Plain, ..cache.clone() };
        assert!(with_model.get(&spec).is_none());
        fs::write(&script, "changed").expect("writes");
        assert!(cache.get(&spec).is_none());
    }

    #[test]
    fn changed_offers_are_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache_in(folder.path());
        let spec = stdio(&[]);
        cache.put(&spec, &info("one"));
        cache.forget_changed(&spec, &info("one"));
        assert!(cache.get(&spec).is_some());
        cache.forget_changed(&spec, &info("two"));
        assert!(cache.get(&spec).is_none());
    }

    #[test]
    fn old_and_damaged_files_do_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache_in(folder.path());
        let spec = stdio(&[]);
        let path = cache.path(&spec).expect("a path");
        let old = Timestamp(now().0 - MAX_AGE.as_millis() as u64);
        let future = Timestamp(now().0 + 60_000);
        for at in [old, future] {
            let cached = CachedOffers { at, info: info("one") };
            fs::write(&path, serde_json::to_vec(&cached).expect("JSON")).expect("writes");
            assert!(cache.get(&spec).is_none(), "{at:?}");
        }
        fs::write(&path, "{").expect("writes");
        assert!(cache.get(&spec).is_none());
        assert!(OffersCache { directory: None, ..cache }.get(&spec).is_none());
    }
}
