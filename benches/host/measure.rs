//! Measures the resources of a process, and pins processes to a processor.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::BenchResult;

/// The number of stderr lines that are shown when a program fails.
const MAX_ERROR_LINES: usize = 8;

/// The resource usage of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessUsage {
    /// The start time, since 1970.
    pub(crate) started: Duration,
    /// The time from start to end.
    pub(crate) wall: Duration,
    /// The processor time of the process and its threads, without its children.
    pub(crate) cpu: Duration,
    /// The peak resident memory, in KiB. If a child had more, this is the value of that child.
    pub(crate) peak_kib: u64,
    /// The exit code, if the process was not killed by a signal.
    pub(crate) code: Option<i32>,
}

/// A program, its arguments, and where its output goes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MeasuredProgram {
    /// The file for its standard output.
    #[arg(long)]
    stdout: PathBuf,
    /// The file for its standard error.
    #[arg(long)]
    stderr: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl MeasuredProgram {
    /// Returns the program with its arguments. Its output goes to files in `place`.
    pub(crate) fn new(place: &Path, command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { stdout: place.join("stdout"), stderr: place.join("stderr"), command }
    }

    /// Returns the same program, run by another program.
    pub(crate) fn under(mut self, runner: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.command.splice(0..0, runner.into_iter().map(Into::into));
        self
    }

    /// Returns the path of its standard output.
    pub(crate) fn stdout(&self) -> &Path {
        &self.stdout
    }

    /// Runs the program in a small child process that measures it. Resident memory of a process counts towards its
    /// children, and this process is large.
    ///
    /// # Errors
    /// Fails if the program cannot be started, or with the end of its stderr if it fails.
    pub(crate) fn run(&self, environment: &[(&str, &Path)]) -> BenchResult<ProcessUsage> {
        let mut measuring = Command::new(std::env::current_exe()?);
        measuring.args(["role", "measure", "--stdout"]).arg(&self.stdout).arg("--stderr").arg(&self.stderr);
        measuring.arg("--").args(&self.command).envs(environment.iter().copied());
        let measured = measuring.stderr(Stdio::inherit()).output()?;
        let usage: ProcessUsage = serde_json::from_slice(&measured.stdout)?;
        if usage.code == Some(0) {
            return Ok(usage);
        }
        let stderr = std::fs::read_to_string(&self.stderr)?;
        let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(MAX_ERROR_LINES)..].join("\n  ");
        let code = usage.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        Err(format!("it ended with {code} and said last\n  {last}").into())
    }

    /// Runs the program and measures it.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub(crate) fn measure(&self) -> BenchResult<ProcessUsage> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null());
        command.stdout(File::create(&self.stdout)?).stderr(File::create(&self.stderr)?);
        #[expect(clippy::disallowed_methods, reason = "compared with the times of another process")]
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let clock = Instant::now();
        let mut child = command.spawn()?;
        let id = Pid::from_raw(i32::try_from(child.id())?);
        // The process has ended, and its clock can still be read.
        waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
        let wall = clock.elapsed();
        let cpu = Duration::from(clock_getcpuclockid(id)?.now()?);
        let code = child.wait()?.code();
        let peak_kib = u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?;
        Ok(ProcessUsage { started, wall, cpu, peak_kib, code })
    }
}

/// Pins this process and its future children to one processor. Returns its number.
///
/// # Errors
/// Fails if the system does not permit it.
pub(crate) fn pin_to_one_processor() -> BenchResult<usize> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let usable = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
    let first = (0..CpuSet::count()).find(usable).ok_or("no processor may be used")?;
    let mut one = CpuSet::new();
    one.set(first)?;
    sched_setaffinity(this, &one)?;
    Ok(first)
}

/// Returns the number of available processors.
pub(crate) fn processor_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
