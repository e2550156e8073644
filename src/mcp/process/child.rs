//! Owns one child process: its start, its environment, and its end.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::environment::inherited_variables;
use super::group::SupervisedGroup;
use super::guard::{self, Signal};
use super::log::AgentLog;
use crate::model::ChildProcess;
use crate::system::environment::AGENT_VARIABLE;

/// The time for a child to exit after its input is closed. Some servers never notice.
const INPUT_CLOSED_TIMEOUT: Duration = Duration::from_millis(200);
/// The time for a child to clean up after the terminate signal.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(1_000);
/// The time for the system to end a killed child.
const KILL_TIMEOUT: Duration = Duration::from_millis(500);
/// The time that an error report waits for the exit status of a child whose output has ended.
const EXIT_STATUS_TIMEOUT: Duration = Duration::from_millis(300);

/// The purpose of a child's input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipePurpose {
    /// The messages of the protocol.
    Protocol,
    /// The log of the agent: the input is closed, and the output goes to the log.
    Log,
}

/// A child process, running or exited. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Child {
    command: String,
    /// The purpose of its input and output.
    pub(crate) pipes: PipePurpose,
    group: SupervisedGroup,
    /// Cancelled at the end of the child's standard error.
    stderr_closed: CancellationToken,
    log: Arc<AgentLog>,
}

impl Child {
    /// Starts `process`. With [`PipePurpose::Protocol`], also returns its input and output.
    ///
    /// # Errors
    /// Returns the error of the system: no such program, not executable, or no such directory.
    pub(crate) fn spawn(
        process: &ChildProcess,
        log: Arc<AgentLog>,
        pipes: PipePurpose,
    ) -> std::io::Result<(Self, Option<(ChildStdin, ChildStdout)>)> {
        let mut command = Command::new(&process.command);
        command
            .args(&process.args)
            .env_clear()
            .envs(inherited_variables())
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
        let registration = guard::register(&mut command)?;
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                registration.cancel(command);
                return Err(error);
            }
        };
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = SupervisedGroup::new(child)?;
        log.begin_process(&process.command, group.pid());

        let stderr_closed = CancellationToken::new();
        if let Some(errors) = stderr {
            tokio::spawn(log.clone().copy_output(errors, stderr_closed.clone()));
        }
        let protocol = match (pipes, stdin, stdout) {
            (PipePurpose::Protocol, Some(input), Some(output)) => Some((input, output)),
            (_, _, output) => {
                if let Some(output) = output {
                    tokio::spawn(log.clone().copy_output(output, CancellationToken::new()));
                }
                None
            }
        };
        let command = process.command.clone();
        Ok((Self { command, pipes, group, stderr_closed, log }, protocol))
    }

    /// Returns whether the child has exited.
    pub(crate) fn has_exited(&self) -> bool {
        self.group.has_exited()
    }

    /// Waits until the child has exited.
    pub(crate) async fn wait_for_exit(&self) {
        self.group.wait_for_exit().await;
    }

    /// Ends the child and everything in its group. The caller must have closed its input, if it has one.
    pub(crate) async fn shut_down(&self) {
        let graces = [(None, INPUT_CLOSED_TIMEOUT), (Some(Signal::Terminate), TERMINATE_TIMEOUT)];
        let graces = graces.into_iter().skip(usize::from(self.pipes == PipePurpose::Log));
        for (signal, grace) in graces.chain([(Some(Signal::Kill), KILL_TIMEOUT)]) {
            if let Some(signal) = signal {
                self.group.signal(signal);
            }
            if tokio::time::timeout(grace, self.wait_for_exit()).await.is_ok() {
                break;
            }
        }
        self.log.flush().await;
    }

    /// Describes the exit status and the last lines of standard error, for error messages.
    pub(crate) async fn exit_report(&self) -> String {
        let _ = tokio::time::timeout(EXIT_STATUS_TIMEOUT, self.wait_for_exit()).await;
        let status = match self.group.status() {
            Some(status) => format!("`{}` ended with {status}", self.command),
            None => format!("`{}` is still running", self.command),
        };
        let tail = self.log.tail(&self.stderr_closed).await;
        let stderr =
            if tail.is_empty() { "stderr is empty".to_owned() } else { format!("stderr: {}", tail.join(" | ")) };
        let noise = self.log.noise().map(|line| format!("; its stdout has `{line}`, which is not a JSON-RPC message"));
        format!("{status}{}; {stderr}; log: `{}`", noise.unwrap_or_default(), self.log.path().display())
    }
}
