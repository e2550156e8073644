//! Owns the log file of one agent process: its output outside of the protocol, and the last lines for error messages.
//!
//! A line of the file starts with the time at which it was read, such as `2026-11-30T18:00:00.123Z`.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::model::{AgentId, Timestamp};
use crate::system::files;

/// The size at which a log is rotated to `AGENT.log.1`.
const MAX_FILE_BYTES: u64 = 10 * 1024 * 1024;
/// The largest part of an agent's name in its file name. File systems allow 255 bytes, including extensions.
const MAX_NAME_BYTES: usize = 200;
/// The number of lines in an error message.
const TAIL_LINES: usize = 10;
/// The largest number of bytes of a line in an error message.
const MAX_TAIL_LINE_BYTES: usize = 400;
/// The length above which a line is split.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// The capacity of the queue to the file: a burst, not a backlog. A process that writes faster than the disk is
/// blocked.
const QUEUE_CAPACITY: usize = 256;
/// The timeout for reading the last output of an exited process, for an error message.
const TAIL_TIMEOUT: Duration = Duration::from_millis(200);

/// The log of one agent, for all its processes in a run.
#[derive(Debug)]
pub(crate) struct AgentLog {
    path: PathBuf,
    /// The last lines, shared by the reader of the output and by errors. Locked only to copy a few lines.
    tail: Mutex<VecDeque<String>>,
    /// The first line on standard output that is not a message. Locked only to copy it.
    noise: Mutex<Option<String>>,
    entries: mpsc::Sender<LogEntry>,
}

#[derive(Debug)]
enum LogEntry {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// Returns the path of the log of the agent process with that number.
pub(crate) fn log_path(directory: &Path, agent: &AgentId, process: usize) -> PathBuf {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let mut name: String = agent.as_str().chars().map(safe).collect();
    if name.len() > MAX_NAME_BYTES {
        // The hash distinguishes long names that have a common prefix.
        let digest = Sha256::digest(agent.as_str());
        name.truncate(MAX_NAME_BYTES);
        name.push('-');
        name.extend(digest.iter().take(8).map(|byte| format!("{byte:02x}")));
    }
    directory.join(match process {
        0 => format!("{name}.log"),
        further => format!("{name}.{}.log", further + 1),
    })
}

impl AgentLog {
    /// Creates the log of the agent process with that number: `directory/AGENT.log` for the first (0), then
    /// `AGENT.2.log` and so on. The file is created with its first line.
    pub(crate) fn new(directory: &Path, agent: &AgentId, process: usize) -> Arc<Self> {
        let path = log_path(directory, agent, process);
        let (entries, queue) = mpsc::channel(QUEUE_CAPACITY);
        tokio::spawn(write(path.clone(), queue));
        Arc::new(Self { path, tail: Mutex::default(), noise: Mutex::default(), entries })
    }

    /// Returns the path of the log file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the section of a new process, and clears the tail of the previous one.
    pub(crate) fn begin_process(&self, command: &str, pid: u32) {
        self.tail.lock().clear();
        *self.noise.lock() = None;
        self.try_send(format!("--- {} {command} (process {pid}) ---\n", jiff::Timestamp::now()).into_bytes());
    }

    /// Appends a line to the file only. The line is lost if the queue is full.
    pub(crate) fn try_write(&self, line: &[u8]) {
        self.try_send(with_time(line));
    }

    fn try_send(&self, line: Vec<u8>) {
        let _ = self.entries.try_send(LogEntry::Line(line));
    }

    /// Copies the output of a process to the file and the tail until it ends, then cancels `ended`.
    pub(crate) async fn copy_output(self: Arc<Self>, output: impl AsyncRead + Unpin, ended: CancellationToken) {
        use tokio::io::AsyncReadExt as _;
        let _ended = ended.drop_guard();
        let mut reader = BufReader::new(output);
        loop {
            let mut line = Vec::new();
            match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, path = %self.path.display(), "an agent's output could not be read");
                    return;
                }
            }
            self.push_tail(&line);
            if self.entries.send(LogEntry::Line(with_time(&line))).await.is_err() {
                return;
            }
        }
    }

    /// Writes a line of standard output that is not a message, and keeps the first for error messages.
    pub(crate) fn write_noise(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(&line[..line.len().min(MAX_TAIL_LINE_BYTES)]);
        self.noise.lock().get_or_insert_with(|| text.trim_end().to_owned());
        self.try_write(line);
    }

    /// Returns the first line on standard output that is not a message, if there was one.
    pub(crate) fn noise(&self) -> Option<String> {
        self.noise.lock().clone()
    }

    fn push_tail(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(&line[..line.len().min(MAX_TAIL_LINE_BYTES)]);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        let mut tail = self.tail.lock();
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text.to_owned());
    }

    /// Returns the last lines for an error message. Waits briefly for the remaining output of an exited process.
    pub(crate) async fn tail(&self, ended: &CancellationToken) -> Vec<String> {
        let _ = tokio::time::timeout(TAIL_TIMEOUT, ended.cancelled()).await;
        self.tail.lock().iter().cloned().collect()
    }

    /// Waits until all entries are in the file, for at most [`TAIL_TIMEOUT`].
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flush = async {
            if self.entries.send(LogEntry::Flush(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        let _ = tokio::time::timeout(TAIL_TIMEOUT, flush).await;
    }
}

/// Returns a line of the file: the current time, and what the process wrote.
fn with_time(line: &[u8]) -> Vec<u8> {
    let mut entry = format!("{:.3} ", jiff::Timestamp::now()).into_bytes();
    entry.extend_from_slice(line);
    entry
}

/// Returns what the processes of an agent wrote since a time, oldest first: of each file that can be read, the lines that
/// have a time.
pub(crate) fn read_lines(directory: &Path, agent: &AgentId, since: Timestamp) -> Vec<(Timestamp, String)> {
    let first = log_path(directory, agent, 0);
    let rotated = |path: &Path| [path.with_extension("log.1"), path.to_owned()];
    let further = (1..).map(|process| log_path(directory, agent, process)).take_while(|path| path.exists());
    let mut lines = Vec::new();
    for path in std::iter::once(first).chain(further).flat_map(|path| rotated(&path)) {
        let Ok(text) = files::read(&path, 2 * MAX_FILE_BYTES) else { continue };
        lines.extend(String::from_utf8_lossy(&text).lines().filter_map(|line| {
            let (time, line) = line.split_once(' ')?;
            let at = Timestamp(u64::try_from(time.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()?);
            (at >= since).then(|| (at, line.to_owned()))
        }));
    }
    lines.sort_by_key(|(at, _)| *at);
    lines
}

/// Writes the entries to the file until the log is dropped. A write error is reported once.
async fn write(path: PathBuf, mut entries: mpsc::Receiver<LogEntry>) {
    let mut file = None;
    let mut failed = false;
    while let Some(entry) = entries.recv().await {
        let result = match entry {
            LogEntry::Line(line) if !failed => append(&path, &mut file, &line).await,
            LogEntry::Line(_) => Ok(()),
            LogEntry::Flush(done) => {
                let result = flush(&mut file).await;
                let _ = done.send(());
                result
            }
        };
        // Tokio writes in another thread; unflushed data is lost when the runtime ends.
        let result = if entries.is_empty() { result.and(flush(&mut file).await) } else { result };
        if let Err(error) = result
            && !failed
        {
            failed = true;
            tracing::warn!(%error, path = %path.display(), "the log of an agent cannot be written");
        }
    }
}

async fn flush(file: &mut Option<(File, u64)>) -> std::io::Result<()> {
    match file {
        Some((file, _)) => file.flush().await,
        None => Ok(()),
    }
}

async fn append(path: &Path, file: &mut Option<(File, u64)>, line: &[u8]) -> std::io::Result<()> {
    if file.as_ref().is_some_and(|(_, size)| *size >= MAX_FILE_BYTES) {
        *file = None;
        tokio::fs::rename(path, path.with_extension("log.1")).await?;
    }
    if file.is_none() {
        // Blocking is acceptable: once every ten megabytes, in kapell's own directory on a local disk.
        let opened = files::open_in_own_directory(path, OpenOptions::new().create(true).append(true))?;
        let size = opened.metadata()?.len();
        *file = Some((File::from_std(opened), size));
    }
    if let Some((file, size)) = file {
        file.write_all(line).await?;
        *size += line.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_goes_to_the_file_and_the_tail() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, agent) = (directory.path().join("logs"), AgentId::from("a/b"));
        let log = AgentLog::new(&logs, &agent, 0);
        let ended = CancellationToken::new();
        let output: String = (1..=12).map(|n| format!("line {n}\n")).collect();
        log.clone().copy_output(output.as_bytes(), ended.clone()).await;
        log.begin_process("server", 7);
        log.try_write(b"a note\n");
        log.flush().await;
        assert_eq!(log.tail(&ended).await, [""; 0], "another process began");
        assert_eq!(log.path(), logs.join("a_b.log"));
        assert_eq!(std::fs::read_to_string(log.path()).unwrap().lines().count(), 14);

        let further = AgentLog::new(&logs, &agent, 1);
        further.try_write(b"of another process\n");
        further.flush().await;
        let lines = read_lines(&logs, &agent, Timestamp::default());
        let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
        let mut expected: Vec<String> = (1..=12).map(|n| format!("line {n}")).collect();
        expected.extend(["a note".to_owned(), "of another process".to_owned()]);
        assert_eq!(texts, expected);
        let (last, _) = lines[13];
        assert_eq!(read_lines(&logs, &agent, Timestamp(last.0 + 1)), []);
    }

    #[tokio::test]
    async fn long_agent_names_get_distinct_files() {
        let directory = tempfile::tempdir().unwrap();
        let log =
            |last: &str| AgentLog::new(directory.path(), &format!("{}{last}", "a".repeat(255)).as_str().into(), 7);
        let (first, second) = (log("1"), log("2"));
        assert_ne!(first.path(), second.path());
        assert_eq!(first.path(), log("1").path());
        first.try_write(b"a note\n");
        first.flush().await;
        assert!(std::fs::read_to_string(first.path()).unwrap().ends_with(" a note\n"));
    }

    #[tokio::test]
    async fn large_log_files_are_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let old = std::fs::File::create(&path).unwrap();
        old.set_len(MAX_FILE_BYTES).unwrap();
        let log = AgentLog::new(directory.path(), &AgentId::from("a"), 0);
        log.try_write(b"first\n");
        log.try_write(b"second\n");
        log.flush().await;
        let lines = read_lines(directory.path(), &"a".into(), Timestamp::default());
        assert_eq!(lines.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["second"]);
        assert!(std::fs::metadata(path.with_extension("log.1")).unwrap().len() > MAX_FILE_BYTES);
    }
}
