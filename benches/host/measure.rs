//! Measures a process from its start to its end, and says on which processors everything runs.
//! Never knows what the process is.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        resource::{UsageWho, getrusage},
        wait::{Id, WaitPidFlag, waitid},
    },
    time::clock_getcpuclockid,
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::BenchResult;

/// How much of what a program said is shown when it fails.
const MAX_ERROR_LINES: usize = 8;

/// What a process took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessUsage {
    /// When it was started, since 1970.
    pub(crate) started: Duration,
    /// From then to its end.
    pub(crate) wall: Duration,
    /// What it and its threads used of the processors, without its children.
    pub(crate) cpu: Duration,
    /// The most memory that was resident, in KiB. Should one of its children have had more, it is that child's.
    pub(crate) peak_kib: u64,
    /// Its exit code, if it had one.
    pub(crate) code: Option<i32>,
}

/// A program, its arguments, and where its output goes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct MeasuredProgram {
    /// Where its standard output goes.
    #[arg(long)]
    stdout: PathBuf,
    /// Where its standard error goes.
    #[arg(long)]
    stderr: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl MeasuredProgram {
    /// The program with its arguments; what it prints goes to files in `place`.
    pub(crate) fn new(place: &Path, command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { stdout: place.join("stdout"), stderr: place.join("stderr"), command }
    }

    /// The same program, run by another one.
    pub(crate) fn under(mut self, runner: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.command.splice(0..0, runner.into_iter().map(Into::into));
        self
    }

    /// Where its standard output goes.
    pub(crate) fn stdout(&self) -> &Path {
        &self.stdout
    }

    /// Runs it below a small process that measures it: what is resident in a process counts towards those that it
    /// starts, and this one is large.
    ///
    /// # Errors
    /// When it cannot be started, or fails: with the end of what it said.
    pub(crate) fn run(&self, environment: &[(&str, &Path)]) -> BenchResult<ProcessUsage> {
        let mut measuring = Command::new(std::env::current_exe()?);
        measuring.args(["role", "measure", "--stdout"]).arg(&self.stdout).arg("--stderr").arg(&self.stderr);
        measuring.arg("--").args(&self.command).envs(environment.iter().copied());
        let measured = measuring.stderr(Stdio::inherit()).output()?;
        let usage: ProcessUsage = serde_json::from_slice(&measured.stdout)?;
        if usage.code == Some(0) {
            return Ok(usage);
        }
        let said = std::fs::read_to_string(&self.stderr)?;
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines[lines.len().saturating_sub(MAX_ERROR_LINES)..].join("\n  ");
        let code = usage.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        Err(format!("it ended with {code} and said last\n  {last}").into())
    }

    /// Runs it, measured.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn measure(&self) -> BenchResult<ProcessUsage> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdin(Stdio::null());
        command.stdout(File::create(&self.stdout)?).stderr(File::create(&self.stderr)?);
        #[expect(clippy::disallowed_methods, reason = "compared with the times of another process")]
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let clock = Instant::now();
        let mut child = command.spawn()?;
        let id = Pid::from_raw(i32::try_from(child.id())?);
        // It has ended, and its clock can still be read.
        waitid(Id::Pid(id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
        let wall = clock.elapsed();
        let cpu = Duration::from(clock_getcpuclockid(id)?.now()?);
        let code = child.wait()?.code();
        let peak_kib = u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?;
        Ok(ProcessUsage { started, wall, cpu, peak_kib, code })
    }
}

/// Keeps this process, and all that it starts, on one processor; gives its number.
///
/// # Errors
/// When the system does not let it.
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

/// How many processors may be used.
pub(crate) fn processor_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
