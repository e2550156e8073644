//! Owns one child process: its start, its environment, its end.
//! Never speaks with it.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    process::{ChildStdin, ChildStdout, Command},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    guard::{self, Signal},
    log::AgentLog,
};
use crate::{
    model::ChildProcess,
    system::{
        environment::AGENT_VARIABLE,
        process::{OwnChild, reap_group},
    },
};

/// What a child gets of the host's environment, besides every `LC_*`: enough to find programs, files and the language
/// of a person, and no secret.
const BASE_ENVIRONMENT: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR", "TZ", "XDG_RUNTIME_DIR"];
/// How long a child may take to end by itself when its input is closed. Some servers never look.
const INPUT_CLOSED_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a child may take to clean up when it is asked to end.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(1_000);
/// How long the system may take to end what was killed.
const KILL_TIMEOUT: Duration = Duration::from_millis(500);
/// How long an error waits for the exit status of a child whose output has ended.
const EXIT_STATUS_TIMEOUT: Duration = Duration::from_millis(300);

/// What a child's input and output are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PipePurpose {
    /// The protocol.
    Protocol,
    /// Nothing: no input, and the output goes to the log.
    Log,
}

/// A running child, or one that has ended. Dropping it kills its process group.
#[derive(Debug)]
pub(super) struct Child {
    command: String,
    pid: u32,
    status: watch::Receiver<Option<ExitStatus>>,
    /// Cancelled when nothing more comes from its standard error.
    stderr_closed: CancellationToken,
    log: Arc<AgentLog>,
    /// Dropped with the child, which makes the keeper kill the group.
    _supervisor: tokio_util::task::AbortOnDropHandle<()>,
}

/// Kills the group of a child that nobody keeps any more.
struct ProcessGroup(u32);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        guard::signal(self.0, Signal::Kill);
        if guard::is_group_empty(self.0) {
            guard::unregister(self.0);
        }
    }
}

impl Child {
    /// Starts `process`; with [`PipePurpose::Protocol`], its input and output are returned too.
    ///
    /// # Errors
    /// What the system said: no such program, not executable, no such directory.
    pub(super) fn spawn(
        process: &ChildProcess,
        log: Arc<AgentLog>,
        pipes: PipePurpose,
    ) -> std::io::Result<(Self, Option<(ChildStdin, ChildStdout)>)> {
        let mut command = Command::new(&process.command);
        command
            .args(&process.args)
            .env_clear()
            .envs(base_environment())
            .envs(&process.env)
            .env(AGENT_VARIABLE, "1")
            .kill_on_drop(true);
        if let Some(directory) = &process.cwd {
            command.current_dir(directory);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(match pipes {
            PipePurpose::Protocol => Stdio::piped(),
            PipePurpose::Log => Stdio::null(),
        });
        let enlisted = guard::register(&mut command)?;
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                enlisted.cancel(command);
                return Err(error);
            }
        };
        let pid = child.id().ok_or_else(|| std::io::Error::other("the process has no id"))?;
        let own = OwnChild::new(pid);
        log.begin_process(&process.command, pid);

        let silent = CancellationToken::new();
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(log.clone().copy_output(errors, silent.clone()));
        }
        let protocol = match (pipes, child.stdin.take(), child.stdout.take()) {
            (PipePurpose::Protocol, Some(input), Some(output)) => Some((input, output)),
            (_, _, output) => {
                if let Some(output) = output {
                    tokio::spawn(log.clone().copy_output(output, CancellationToken::new()));
                }
                None
            }
        };
        let (ended, status) = watch::channel(None);
        let keeper = tokio::spawn(async move {
            let group = ProcessGroup(pid);
            let status = child.wait().await;
            drop(own);
            // What the leader left behind ends with it.
            guard::signal(pid, Signal::Kill);
            ended.send_replace(status.ok());
            for _ in 0..50 {
                reap_group(pid);
                if guard::is_group_empty(pid) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            drop(group);
        });
        let keeper = tokio_util::task::AbortOnDropHandle::new(keeper);
        Ok((
            Self { command: process.command.clone(), pid, status, stderr_closed: silent, log, _supervisor: keeper },
            protocol,
        ))
    }

    /// Whether it has ended.
    pub(super) fn has_exited(&self) -> bool {
        self.status.borrow().is_some() || self.status.has_changed().is_err()
    }

    /// Waits until it has ended.
    pub(super) async fn wait_for_exit(&self) {
        let mut status = self.status.clone();
        // An error means that the keeper is gone, and the child with it.
        let _ = status.wait_for(Option::is_some).await;
    }

    /// Ends it and everything in its group. The caller has closed its input, if it has one.
    pub(super) async fn shut_down(&self, pipes: PipePurpose) {
        let graces = [(None, INPUT_CLOSED_TIMEOUT), (Some(Signal::Terminate), TERMINATE_TIMEOUT)];
        let graces = graces.into_iter().skip(usize::from(pipes == PipePurpose::Log));
        for (signal, grace) in graces.chain([(Some(Signal::Kill), KILL_TIMEOUT)]) {
            if let Some(signal) = signal
                && !self.has_exited()
            {
                guard::signal(self.pid, signal);
            }
            if tokio::time::timeout(grace, self.wait_for_exit()).await.is_ok() {
                break;
            }
        }
        self.log.flush().await;
    }

    /// Says for an error how it ended and what its last words were.
    pub(super) async fn exit_report(&self) -> String {
        let _ = tokio::time::timeout(EXIT_STATUS_TIMEOUT, self.wait_for_exit()).await;
        let status = *self.status.borrow();
        let fate = match status {
            Some(status) => format!("`{}` ended with {status}", self.command),
            None => format!("`{}` is still running", self.command),
        };
        let tail = self.log.tail(&self.stderr_closed).await;
        let words = if tail.is_empty() {
            "it wrote nothing to standard error".to_owned()
        } else {
            format!("its last words: {}", tail.join(" | "))
        };
        format!("{fate}; {words}; log: `{}`", self.log.path().display())
    }
}

fn base_environment() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| BASE_ENVIRONMENT.contains(&name) || name.starts_with("LC_"))
    })
}
