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
const GRACE_AFTER_INPUT_CLOSED: Duration = Duration::from_millis(200);
/// How long a child may take to clean up when it is asked to end.
const GRACE_AFTER_TERMINATE: Duration = Duration::from_millis(1_000);
/// How long the system may take to end what was killed.
const GRACE_AFTER_KILL: Duration = Duration::from_millis(500);
/// How long an error waits for the exit status of a child whose output has ended.
const GRACE_FOR_STATUS: Duration = Duration::from_millis(300);

/// What a child's input and output are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pipes {
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
    silent: CancellationToken,
    log: Arc<AgentLog>,
    /// Dropped with the child, which makes the keeper kill the group.
    _keeper: tokio_util::task::AbortOnDropHandle<()>,
}

/// Kills the group of a child that nobody keeps any more.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        guard::signal(self.0, Signal::Kill);
        if guard::is_gone(self.0) {
            guard::forget(self.0);
        }
    }
}

impl Child {
    /// Starts `process`; with [`Pipes::Protocol`], its input and output are returned too.
    ///
    /// # Errors
    /// What the system said: no such program, not executable, no such directory.
    pub(super) fn spawn(
        process: &ChildProcess,
        log: Arc<AgentLog>,
        pipes: Pipes,
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
            Pipes::Protocol => Stdio::piped(),
            Pipes::Log => Stdio::null(),
        });
        let enlisted = guard::enlist(&mut command)?;
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                enlisted.withdraw(command);
                return Err(error);
            }
        };
        let pid = child.id().ok_or_else(|| std::io::Error::other("the process has no id"))?;
        let own = OwnChild::new(pid);
        log.begin(&process.command, pid);

        let silent = CancellationToken::new();
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(log.clone().copy(errors, silent.clone()));
        }
        let protocol = match (pipes, child.stdin.take(), child.stdout.take()) {
            (Pipes::Protocol, Some(input), Some(output)) => Some((input, output)),
            (_, _, output) => {
                if let Some(output) = output {
                    tokio::spawn(log.clone().copy(output, CancellationToken::new()));
                }
                None
            }
        };
        let (ended, status) = watch::channel(None);
        let keeper = tokio::spawn(async move {
            let group = Group(pid);
            let status = child.wait().await;
            drop(own);
            // What the leader left behind ends with it.
            guard::signal(pid, Signal::Kill);
            ended.send_replace(status.ok());
            for _ in 0..50 {
                reap_group(pid);
                if guard::is_gone(pid) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            drop(group);
        });
        let keeper = tokio_util::task::AbortOnDropHandle::new(keeper);
        Ok((Self { command: process.command.clone(), pid, status, silent, log, _keeper: keeper }, protocol))
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.status.borrow().is_some() || self.status.has_changed().is_err()
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) {
        let mut status = self.status.clone();
        // An error means that the keeper is gone, and the child with it.
        let _ = status.wait_for(Option::is_some).await;
    }

    /// Ends it and everything in its group. The caller has closed its input, if it has one.
    pub(super) async fn end(&self, pipes: Pipes) {
        let graces = [(None, GRACE_AFTER_INPUT_CLOSED), (Some(Signal::Terminate), GRACE_AFTER_TERMINATE)];
        let graces = graces.into_iter().skip(usize::from(pipes == Pipes::Log));
        for (signal, grace) in graces.chain([(Some(Signal::Kill), GRACE_AFTER_KILL)]) {
            if let Some(signal) = signal
                && !self.has_ended()
            {
                guard::signal(self.pid, signal);
            }
            if tokio::time::timeout(grace, self.ended()).await.is_ok() {
                break;
            }
        }
        self.log.flush().await;
    }

    /// Says for an error how it ended and what its last words were.
    pub(super) async fn obituary(&self) -> String {
        let _ = tokio::time::timeout(GRACE_FOR_STATUS, self.ended()).await;
        let status = *self.status.borrow();
        let fate = match status {
            Some(status) => format!("`{}` ended with {status}", self.command),
            None => format!("`{}` is still running", self.command),
        };
        let tail = self.log.tail(&self.silent).await;
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
