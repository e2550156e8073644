//! Keeps the results of calls that change nothing, for later calls in any run. Each result is a private file; its first
//! line says when it expires.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{AgentId, CacheRequest, Operation, Secrets, ToolCall, ToolOutput};
use crate::system::hash::sha256;
use crate::system::{clock, files};

/// The extension of the files.
const EXTENSION: &str = "result";
/// The maximum size of the first line of a file, in bytes.
const MAX_HEADER_BYTES: u64 = 4_096;

/// The results of earlier calls, in a directory that only the host writes to. Functions that use files block.
#[derive(Debug)]
pub struct CallCache {
    directory: PathBuf,
    /// What distinguishes agents of one name: the hashes of their sections.
    fingerprints: HashMap<AgentId, String>,
    /// The directory in which shell commands run.
    command_directory: String,
    secrets: Secrets,
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct EntryHeader {
    /// When the result was stored, in milliseconds since 1970.
    stored_at: u64,
    /// The age at which it expires, in milliseconds.
    ttl: u64,
}

impl EntryHeader {
    fn age(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.stored_at))
    }

    /// Returns whether the result is older than `ttl` or than it was stored for. A time in the future means that the
    /// clock was set back.
    fn is_expired(&self, ttl: Duration, now: u64) -> bool {
        self.stored_at > now || self.age(now) >= ttl.min(Duration::from_millis(self.ttl))
    }
}

/// The result of an earlier call.
#[derive(Debug, PartialEq)]
pub struct CachedResult {
    /// The output, marked as cached.
    pub output: Arc<ToolOutput>,
    /// The time since the call.
    pub age: Duration,
}

impl CallCache {
    /// Returns the cache in `directory`, for the agents with these fingerprints and commands that run in
    /// `command_directory`. Creates nothing.
    pub fn new(
        directory: PathBuf,
        fingerprints: HashMap<AgentId, String>,
        command_directory: &Path,
        secrets: Secrets,
    ) -> Self {
        let command_directory = command_directory.display().to_string();
        Self { directory, fingerprints, command_directory, secrets }
    }

    /// Returns the name of the entry for a call.
    pub fn entry_name(&self, call: &ToolCall, request: &CacheRequest) -> String {
        let fingerprint = self.fingerprints.get(&call.agent).map(String::as_str).unwrap_or_default();
        let directory = if call.operation == Operation::RunCommand { self.command_directory.as_str() } else { "" };
        let expected = call.awaits.as_ref().map(|awaits| awaits.resource.0.as_str()).unwrap_or_default();
        let mut text = String::new();
        for part in [call.operation.method(), call.agent.as_str(), &call.tool, fingerprint, directory, expected] {
            push_canonical(&Value::from(part), &mut text);
        }
        push_canonical(&request.key, &mut text);
        sha256(text.as_bytes())
    }

    /// Returns the result with this name, unless it has expired. A result that cannot be read does not count.
    pub fn find(&self, name: &str, ttl: Duration) -> Option<CachedResult> {
        match read_entry(&self.path(name), ttl) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "a cached result cannot be read");
                None
            }
        }
    }

    /// Stores a result, with its secrets masked.
    ///
    /// # Errors
    /// Returns the error of the system.
    pub fn store(&self, name: &str, ttl: Duration, mut output: Arc<ToolOutput>) -> io::Result<()> {
        self.secrets.mask_output(&mut output);
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let header = EntryHeader { stored_at: now_millis(), ttl };
        let mut contents = serde_json::to_vec(&header)?;
        contents.push(b'\n');
        serde_json::to_writer(&mut contents, &*output)?;
        files::replace_in_own_directory(&self.path(name), &contents)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name).with_extension(EXTENSION)
    }

    /// Removes the results in `directory` that have expired or cannot be read. Returns their number.
    ///
    /// # Errors
    /// Returns the error of the system, except for a directory that does not exist.
    pub fn prune(directory: &Path) -> io::Result<usize> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let now = now_millis();
        let mut removed = 0;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let header = open_entry(&path).map(|(header, _)| header);
            if header.is_ok_and(|header| !header.is_expired(Duration::MAX, now)) {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => removed += 1,
            }
        }
        Ok(removed)
    }
}

/// The place of the result of one call in the cache. Its functions block.
#[derive(Debug, Clone)]
pub(crate) struct CacheSlot {
    cache: Arc<CallCache>,
    name: String,
    ttl: Duration,
}

impl CacheSlot {
    /// Returns the place for the result of `call`.
    pub(crate) fn new(cache: Arc<CallCache>, call: &ToolCall, request: &CacheRequest) -> Self {
        Self { name: cache.entry_name(call, request), ttl: request.ttl, cache }
    }

    /// Returns the result of an earlier call, unless it has expired.
    pub(crate) fn find(&self) -> Option<CachedResult> {
        self.cache.find(&self.name, self.ttl)
    }

    /// Stores the result of the call.
    ///
    /// # Errors
    /// As [`CallCache::store`].
    pub(crate) fn store(&self, output: Arc<ToolOutput>) -> io::Result<()> {
        self.cache.store(&self.name, self.ttl, output)
    }
}

fn now_millis() -> u64 {
    u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX)
}

/// Reads the first line of a file. Returns the reader of the rest too.
fn open_entry(path: &Path) -> io::Result<(EntryHeader, BufReader<File>)> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    reader.by_ref().take(MAX_HEADER_BYTES).read_until(b'\n', &mut line)?;
    Ok((serde_json::from_slice(&line)?, reader))
}

/// Reads a result, unless there is none or it has expired.
fn read_entry(path: &Path, ttl: Duration) -> io::Result<Option<CachedResult>> {
    let (header, mut reader) = match open_entry(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let now = now_millis();
    if header.is_expired(ttl, now) {
        return Ok(None);
    }
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    let output: ToolOutput = serde_json::from_str(&text)?;
    let output = Arc::new(ToolOutput { cached: true, ..output });
    Ok(Some(CachedResult { output, age: header.age(now) }))
}

/// Appends a value as JSON with sorted keys, so that equal values have equal texts.
fn push_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (name, value) in sorted {
                push_canonical(&Value::from(name.as_str()), text);
                push_canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            values.iter().for_each(|value| push_canonical(value, text));
            text.push(']');
        }
        scalar => {
            text.push_str(&scalar.to_string());
            text.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;
    use crate::model::AttemptId;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn cache(root: &Path, fingerprint: &str, directory: &str) -> CallCache {
        let fingerprints = HashMap::from([(AgentId::from("a"), fingerprint.to_owned())]);
        let secrets = Secrets::new(["hunter22".to_owned()]);
        CallCache::new(root.join("cache"), fingerprints, Path::new(directory), secrets)
    }

    fn call(operation: Operation, tool: &str) -> ToolCall {
        ToolCall {
            attempt: AttemptId { task: "t".into(), number: 1 },
            agent: "a".into(),
            operation,
            tool: tool.into(),
            arguments: serde_json::Map::new(),
            timeout: HOUR,
            deadline: None,
            awaits: None,
            cache: None,
            save: None,
        }
    }

    fn name(cache: &CallCache, operation: Operation, tool: &str, key: Value) -> String {
        cache.entry_name(&call(operation, tool), &CacheRequest { key, ttl: HOUR })
    }

    #[test]
    fn equal_calls_have_equal_names() {
        let root = Path::new("/x");
        let first = cache(root, "1", "/plans");
        let of = |cache: &CallCache, tool: &str, key: Value| name(cache, Operation::CallTool, tool, key);
        let known = of(&first, "x", json!({"a": 1, "b": [{"c": 2, "d": 3}]}));
        assert_eq!(of(&first, "x", json!({"b": [{"d": 3, "c": 2}], "a": 1})), known);
        for other in [
            of(&first, "y", json!({"a": 1, "b": [{"c": 2, "d": 3}]})),
            of(&first, "x", json!({"a": "1", "b": [{"c": 2, "d": 3}]})),
            of(&first, "x", json!({"a": 1, "b": [{"c": 2}, {"d": 3}]})),
            of(&cache(root, "2", "/plans"), "x", json!({"a": 1, "b": [{"c": 2, "d": 3}]})),
            name(&first, Operation::ReadResource, "x", json!({"a": 1, "b": [{"c": 2, "d": 3}]})),
        ] {
            assert_ne!(other, known);
        }
        let elsewhere = cache(root, "1", "/other");
        assert_eq!(of(&first, "x", json!(1)), of(&elsewhere, "x", json!(1)));
        let command = |cache: &CallCache| name(cache, Operation::RunCommand, "shell", json!("ls"));
        assert_ne!(command(&first), command(&elsewhere));
    }

    #[test]
    fn results_are_found_until_they_expire() {
        let root = tempfile::tempdir().expect("a folder");
        let cache = cache(root.path(), "", "");
        let output = Arc::new(ToolOutput::new([json!({"type": "text", "text": "hunter22 x"})], Some(json!({"n": 1}))));
        assert_eq!(cache.find("k", HOUR), None);
        cache.store("k", HOUR, Arc::clone(&output)).expect("stores");
        let path = root.path().join("cache/k.result");
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o600);
        let found = cache.find("k", HOUR).expect("is there").output;
        let expected = ToolOutput::new([json!({"type": "text", "text": "*** x"})], Some(json!({"n": 1})));
        assert_eq!(*found, ToolOutput { cached: true, ..expected });
        assert_eq!(cache.find("k", Duration::ZERO), None, "the plan has another `ttl` now");

        assert_eq!(CallCache::prune(&root.path().join("cache")).expect("prunes"), 0);
        cache.store("old", Duration::ZERO, output).expect("stores");
        fs::write(root.path().join("cache/broken.result"), "x").expect("writes");
        assert_eq!((cache.find("old", HOUR), cache.find("broken", HOUR)), (None, None));
        assert_eq!(CallCache::prune(&root.path().join("cache")).expect("prunes"), 2);
        assert!(path.exists() && CallCache::prune(&root.path().join("none")).expect("prunes") == 0);
    }
}
