//! Opens the text editor of the person (`$VISUAL` or `$EDITOR`) on the controlling terminal.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, tcsetpgrp};

use super::controlling_terminal::{is_in_foreground, open_terminal};
use super::screen::ScreenPause;
use crate::system::process::OwnChild;
use crate::system::{clock, environment, files};

/// The maximum size of an edited file, in bytes.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The interval in which a stopped process checks whether it is in the foreground again.
const FOREGROUND_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The command line of the editor, with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextEditor(String);

impl TextEditor {
    /// Returns the editor that `VISUAL` names, or else the one that `EDITOR` names.
    pub(crate) fn from_environment() -> Option<Self> {
        let named = |name| environment::variable(name)?.into_string().ok().filter(|value| !value.trim().is_empty());
        named("VISUAL").or_else(|| named("EDITOR")).map(Self)
    }

    /// Edits text in a temporary file whose name ends in `suffix`. The screen is paused until the editor ends.
    ///
    /// # Errors
    /// Describes why the editor could not be used.
    pub(crate) async fn edit_text(&self, text: &str, suffix: &str, pause: ScreenPause) -> Result<String, String> {
        let file = TemporaryFile(std::env::temp_dir().join(format!("kapell-{}{suffix}", clock::new_id())));
        let problem = |error: io::Error| format!("`{}`: {error}", file.0.display());
        files::write_private(&file.0, text.as_bytes(), false).map_err(problem)?;
        self.edit_file(&file.0, pause).await?;
        let edited = files::read(&file.0, MAX_FILE_BYTES).map_err(problem)?;
        String::from_utf8(edited).map_err(|_| "the edited text is not UTF-8".to_owned())
    }

    /// Edits a file. The screen is paused until the editor ends.
    ///
    /// # Errors
    /// Describes why the editor could not be used.
    pub(crate) async fn edit_file(&self, path: &Path, pause: ScreenPause) -> Result<(), String> {
        let mut command = Command::new("sh");
        // The editor is a program of the person, so it gets the whole environment of the person.
        command.env_clear().envs(environment::variables());
        command.args(["-c", &format!("{} \"$1\"", self.0), "sh"]).arg(path);
        let ended = tokio::task::spawn_blocking(move || {
            let _pause = pause;
            let terminal = open_terminal().ok_or_else(|| io::Error::other("the terminal is in use"))?;
            run_in_foreground(command, &terminal)
        });
        match ended.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(0) => Ok(()),
            Ok(code) => Err(format!("the editor `{}` failed with exit code {code}", self.0)),
            Err(error) => Err(format!("the editor `{}` cannot be used: {error}", self.0)),
        }
    }
}

/// A file that is deleted when this is dropped.
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a command in the foreground of the terminal, so that Ctrl-C reaches only that. Returns its exit code.
fn run_in_foreground(mut command: Command, terminal: &File) -> io::Result<i32> {
    let stream = || terminal.try_clone().map(Stdio::from);
    command.stdin(stream()?).stdout(stream()?).stderr(stream()?).process_group(0);
    let own_group = getpgrp();
    // Only the foreground can pass on the terminal without this signal.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTTOU);
    let child = command.spawn()?;
    let _own = OwnChild::new(child.id());
    let group = process_id(&child)?;
    signals.thread_block()?;
    let ended = loop {
        tcsetpgrp(terminal, group)?;
        // It may have been stopped because it used the terminal a moment too early.
        let _ = killpg(group, Signal::SIGCONT);
        match wait_for_change(group) {
            Ok(WaitStatus::Stopped(..)) => {
                // Ctrl-Z in the editor: the shell gets the terminal, and both continue together.
                tcsetpgrp(terminal, own_group)?;
                kill(Pid::from_raw(0), Signal::SIGTSTP)?;
                while !is_in_foreground(terminal) {
                    std::thread::sleep(FOREGROUND_CHECK_INTERVAL);
                }
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => break Ok(128 + signal as i32),
            Ok(WaitStatus::Exited(_, code)) => break Ok(code),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    tcsetpgrp(terminal, own_group)?;
    signals.thread_unblock()?;
    ended
}

fn process_id(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)
}

fn wait_for_change(child: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(child, Some(WaitPidFlag::WUNTRACED)) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}
