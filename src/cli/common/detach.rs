//! `--detach` of `kapell run`, `resume`, and `retry`: drives the run in a separate process, and waits until it has begun.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::sleep;

use super::exit::{print, print_message};
use super::files;
use crate::cli::{CliError, Exit};
use crate::journal::{self, JournalLocation};
use crate::mcp::process::guard;
use crate::model::{RunId, Timestamp};
use crate::runtime::shutdown::SessionSignals;
use crate::system::environment;
use crate::system::files::open_in_own_directory;

/// The interval between checks whether the run has begun.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Starts this command line again as a process that drives `run`, with the journal at `journal`. `command` is the name of
/// the command.
///
/// # Errors
/// Fails if the process cannot be started or watched. If the run does not begin, its output is shown and its exit code
/// is returned.
pub(crate) async fn detach(journal: &JournalLocation, run: &RunId, command: &str) -> Result<Exit, CliError> {
    if SessionSignals::is_active() {
        return Err(CliError::usage(
            "cli::detached_session",
            "a session cannot run a plan in the background",
            format!(
                "`kapell {command} --detach` does, in a shell; `questions`, `logs`, and `result` work here all the same"
            ),
        ));
    }
    let before = latest_event(journal, run);
    let log = files::detached_log_path(journal, run);
    let failed = |error| CliError::failed("cli::detach", "cannot start the run in the background", error);
    let mut child = open_in_own_directory(&log, fs::OpenOptions::new().write(true).create(true).truncate(true))
        .and_then(|log| spawn_detached(run, (command, log)))
        .map_err(failed)?;
    message!("starting run {}; its output goes to {}", run.short(), log.display());
    loop {
        let ended = child.try_wait().map_err(failed)?;
        // Checked after the process, so that a run that ends early is not mistaken for one that never began.
        let latest = latest_event(journal, run);
        if latest.is_some() && latest != before {
            break;
        }
        if let Some(status) = ended {
            return Err(CliError::Shown(show_failure(&log, status).map_err(failed)?));
        }
        sleep(POLL_INTERVAL).await;
    }
    let short = run.short();
    message!("`kapell logs -f {short}` shows its progress, `kapell questions {short}` lists its open questions");
    print(&format!("{run}\n"))?;
    Ok(Exit::Success)
}

fn spawn_detached(run: &RunId, (command, log): (&str, File)) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(detached_arguments(std::env::args_os().skip(1), (command, run)))
        .env_clear()
        .envs(environment::variables())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// Leaves the terminal, so that its end does not end this process.
///
/// # Errors
/// Fails if the system refuses it.
pub(crate) fn leave_terminal() -> Result<(), CliError> {
    guard::detach_from_terminal()
        .map_err(|error| CliError::failed("cli::detach", "cannot detach from the terminal", error))
}

/// Inserts the run ID behind the command. Only options of all commands precede it, and none has its name as a value.
fn detached_arguments(arguments: impl Iterator<Item = OsString>, (command, run): (&str, &RunId)) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    let command = arguments.iter().position(|argument| argument == command).map_or(0, |index| index + 1);
    arguments.splice(command..command, ["--detached-as".into(), run.as_str().into()]);
    arguments
}

/// Returns the time of the latest event of a run; `None` if it has not begun. The run itself reports what is wrong with
/// the journal.
fn latest_event(journal: &JournalLocation, run: &RunId) -> Option<Timestamp> {
    journal::store(journal).open_reader().and_then(|reader| reader.run(run)).ok().map(|summary| summary.last_event)
}

/// Shows the output of a run that did not begin, and returns its exit code.
fn show_failure(log: &Path, status: ExitStatus) -> io::Result<Exit> {
    print_message(String::from_utf8_lossy(&fs::read(log)?).trim_end());
    fs::remove_file(log)?;
    Ok(status.code().and_then(Exit::of_code).unwrap_or(Exit::Failed))
}
