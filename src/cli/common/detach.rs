//! `kapell run --detach`: starts the run in a separate process and waits until it has begun.

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
use crate::model::RunId;
use crate::system::environment;
use crate::system::files::open_in_own_directory;

/// The interval between checks whether the run has begun.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Starts this command line again as `run`, with the journal at `journal`.
///
/// # Errors
/// Fails if the process cannot be started or watched. If the run does not begin, its output is shown and its exit code
/// is returned.
pub(crate) async fn detach(journal: &JournalLocation, run: &RunId) -> Result<Exit, CliError> {
    let log = files::detached_log_path(journal, run);
    let failed = |error| CliError::failed("cli::detach", "cannot start the run in the background", error);
    let mut child = open_in_own_directory(&log, fs::OpenOptions::new().write(true).create(true).truncate(true))
        .and_then(|log| spawn_detached(run, log))
        .map_err(failed)?;
    message!("starting run {run}; its output goes to {}", log.display());
    loop {
        let ended = child.try_wait().map_err(failed)?;
        // Checked after the process, so that a run that ends early is not mistaken for one that never began.
        if has_started(journal, run) {
            break;
        }
        if let Some(status) = ended {
            return Err(CliError::Shown(show_failure(&log, status).map_err(failed)?));
        }
        sleep(POLL_INTERVAL).await;
    }
    message!("`kapell logs -f {run}` shows its progress, `kapell questions {run}` lists its open questions");
    print(&format!("{run}\n"))?;
    Ok(Exit::Success)
}

fn spawn_detached(run: &RunId, log: File) -> io::Result<Child> {
    // The command line is `kapell run …`, with nothing before `run`.
    let rest = std::env::args_os().skip(2);
    let arguments = ["run", "--detached-as", run.as_str()].into_iter().map(OsString::from).chain(rest);
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .env_clear()
        .envs(environment::variables())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

fn has_started(journal: &JournalLocation, run: &RunId) -> bool {
    // The run itself reports what is wrong with the journal.
    journal::store(journal).open_reader().and_then(|reader| reader.run(run)).is_ok()
}

/// Shows the output of a run that did not begin, and returns its exit code.
fn show_failure(log: &Path, status: ExitStatus) -> io::Result<Exit> {
    print_message(String::from_utf8_lossy(&fs::read(log)?).trim_end());
    fs::remove_file(log)?;
    Ok(status.code().and_then(Exit::of_code).unwrap_or(Exit::Failed))
}
