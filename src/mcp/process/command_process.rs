//! Runs one command of a plan: without a terminal, in a process group that ends with the host.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{ChildStderr, ChildStdout, Command};

use super::environment::inherited_variables;
use super::group::SupervisedGroup;
use super::guard::{self, Signal};
use crate::system::environment::AGENT_VARIABLE;

/// The time for a command to clean up after the terminate signal.
const TERMINATE_TIMEOUT: Duration = Duration::from_millis(1_000);
/// The time for the system to end a killed command.
const KILL_TIMEOUT: Duration = Duration::from_millis(500);

/// A running command. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct CommandProcess {
    group: SupervisedGroup,
}

impl CommandProcess {
    /// Starts `sh` with a command and its standard input, and with the variables that every agent inherits and those of
    /// `env`. Returns its standard output and standard error too.
    ///
    /// # Errors
    /// Returns the error of the system: no such directory, or a command that is too long.
    pub(crate) fn spawn<'e>(
        command: &str,
        stdin: Stdio,
        directory: &Path,
        env: impl IntoIterator<Item = (&'e str, &'e str)>,
    ) -> std::io::Result<(Self, ChildStdout, ChildStderr)> {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(command)
            .env_clear()
            .envs(inherited_variables())
            .envs(env)
            // It must not answer questions on behalf of a person.
            .env(AGENT_VARIABLE, "1")
            .current_dir(directory)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let registration = guard::register(&mut shell)?;
        let mut child = match shell.spawn() {
            Ok(child) => child,
            Err(error) => {
                registration.cancel(shell);
                return Err(error);
            }
        };
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (output, errors) = pipes.ok_or_else(|| std::io::Error::other("the process has no output"))?;
        Ok((Self { group: SupervisedGroup::new(child)? }, output, errors))
    }

    /// Waits until the command has exited. Returns its status, if the system reports one.
    pub(crate) async fn wait(&self) -> Option<ExitStatus> {
        self.group.wait_for_exit().await;
        self.group.status()
    }

    /// Ends the command and everything in its group.
    pub(crate) async fn terminate(&self) {
        for (signal, grace) in [(Signal::Terminate, TERMINATE_TIMEOUT), (Signal::Kill, KILL_TIMEOUT)] {
            self.group.signal(signal);
            if tokio::time::timeout(grace, self.group.wait_for_exit()).await.is_ok() {
                break;
            }
        }
    }
}
