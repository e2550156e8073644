//! Simulates background jobs of the bindery: the progress of a job is computed from its start time. No process executes
//! a job, so it outlives every process of the agent.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::documents::DocumentError;
use crate::demo::fingerprint::fingerprint;

/// The prefix of job URIs.
const SCHEME: &str = "bindery:///";
/// The number of steps of a job.
const STEPS: u64 = 4;

/// The jobs in one directory, with one file each.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    directory: PathBuf,
}

/// The stored form of a job. `started_at_ms` is in milliseconds since 1970, `duration_ms` in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    title: String,
    started_at_ms: u64,
    duration_ms: u64,
    fails: bool,
}

/// The parameters of a new job.
#[derive(Debug)]
pub(crate) struct JobRequest {
    pub(crate) title: String,
    pub(crate) duration: Duration,
    /// Whether the job fails at its end.
    pub(crate) fails: bool,
}

/// The progress of a job.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct JobProgress {
    title: String,
    status: &'static str,
    done: u64,
    total: u64,
}

impl Jobs {
    /// Creates the job store in the `jobs` folder of `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory: directory.join("jobs") }
    }

    /// Starts a job and returns its URI.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be used.
    pub(crate) async fn start(&self, request: JobRequest) -> Result<String, DocumentError> {
        let started_at_ms = now();
        let number = fingerprint(&[&request.title, &started_at_ms.to_string(), &std::process::id().to_string()]);
        let name = format!("{number:016x}");
        let duration_ms = u64::try_from(request.duration.as_millis()).unwrap_or(u64::MAX);
        let job = Job { title: request.title, started_at_ms, duration_ms, fails: request.fails };
        let write = async {
            tokio::fs::create_dir_all(&self.directory).await?;
            tokio::fs::write(self.directory.join(&name), serde_json::to_vec(&job)?).await
        };
        write.await.map_err(|source| self.directory_error(source))?;
        Ok(format!("{SCHEME}{name}"))
    }

    /// Returns the progress of the job at `uri`.
    ///
    /// # Errors
    /// Returns an error if the job does not exist or the directory cannot be used.
    pub(crate) async fn progress(&self, uri: &str) -> Result<JobProgress, DocumentError> {
        let unknown = || DocumentError::Unknown { uri: uri.to_owned() };
        let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let name = uri.strip_prefix(SCHEME).filter(is_name).ok_or_else(unknown)?;
        let read = async {
            let job: Job = serde_json::from_slice(&tokio::fs::read(self.directory.join(name)).await?)?;
            Ok::<_, io::Error>(job.progress_at(now()))
        };
        read.await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => unknown(),
            _ => self.directory_error(source),
        })
    }

    fn directory_error(&self, source: io::Error) -> DocumentError {
        DocumentError::Directory { directory: self.directory.clone(), source }
    }
}

impl Job {
    fn progress_at(self, now: u64) -> JobProgress {
        let passed = now.saturating_sub(self.started_at_ms);
        let done = passed.saturating_mul(STEPS).checked_div(self.duration_ms).unwrap_or(STEPS).min(STEPS);
        let status = match (done == STEPS, self.fails) {
            (false, _) => "working",
            (true, false) => "completed",
            (true, true) => "failed",
        };
        JobProgress { title: self.title, status, done, total: STEPS }
    }
}

fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a date for people")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_depends_on_the_time() {
        let at = |passed: u64, duration_ms: u64, fails: bool| {
            let JobProgress { status, done, .. } =
                Job { title: "t".into(), started_at_ms: 1_000, duration_ms, fails }.progress_at(1_000 + passed);
            (status, done)
        };
        assert_eq!([at(0, 400, false), at(399, 400, false)], [("working", 0), ("working", 3)]);
        assert_eq!([at(400, 400, false), at(9_999, 400, true)], [("completed", 4), ("failed", 4)]);
        assert_eq!(at(0, 0, false), ("completed", 4));
    }

    #[tokio::test]
    async fn jobs_are_found_only_by_their_uri() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let jobs = Jobs::new(directory.path().to_owned());
        let request = JobRequest { title: "a volume".into(), duration: Duration::ZERO, fails: false };
        let uri = jobs.start(request).await.expect("started");
        let progress = Jobs::new(directory.path().to_owned()).progress(&uri).await.expect("known");
        assert_eq!(progress, JobProgress { title: "a volume".into(), status: "completed", done: 4, total: 4 });
        for uri in ["bindery:///00", "bindery:///../x", "bindery:///", "archive:///a.md"] {
            assert!(matches!(jobs.progress(uri).await, Err(DocumentError::Unknown { .. })), "{uri}");
        }
    }
}
