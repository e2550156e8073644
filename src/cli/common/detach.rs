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
    message!("starting run {}; its output goes to {}", run.short(), log.display());
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
    let short = run.short();
    message!("`kapell logs -f {short}` shows its progress, `kapell questions {short}` lists its open questions");
    print(&format!("{run}\n"))?;
    Ok(Exit::Success)
}

fn spawn_detached(run: &RunId, log: File) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(detached_arguments(std::env::args_os().skip(1), run))
        .env_clear()
        .envs(environment::variables())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// Inserts the run ID behind `run`. Only options of all commands precede it, and none has `run` as its value.
fn detached_arguments(arguments: impl Iterator<Item = OsString>, run: &RunId) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    let command = arguments.iter().position(|argument| argument == "run").map_or(0, |index| index + 1);
    arguments.splice(command..command, ["--detached-as".into(), run.as_str().into()]);
    arguments
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
