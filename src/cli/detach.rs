//! `kapell run --detach`: starts the run in a process of its own, and waits until it has really begun.
//! Never drives it.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    CliError, Exit,
    exit::{print, print_message},
    files,
};
use crate::{
    journal::JournalReader,
    model::RunId,
    system::{environment, files::create_in_own_directory},
};

/// How often to look whether the run has begun.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs this very command line as `run`, whose journal is at `journal`.
///
/// # Errors
/// When the run does not begin. What it said then was shown, and its exit code is given.
pub(super) async fn detach(journal: &Path, run: &RunId) -> Result<Exit, CliError> {
    let log = files::detached_log_path(journal, run);
    let failed = |error| CliError::failed("the run could not be started in a process of its own", error);
    let mut child = create_in_own_directory(&log).and_then(|log| spawn_detached(run, log)).map_err(failed)?;
    message!("starting run {run}; what it says goes to {}", log.display());
    loop {
        let ended = child.try_wait().map_err(failed)?;
        // Looked at after the process, so that a run that was soon done is not taken for one that never began.
        if has_started(journal, run) {
            break;
        }
        if let Some(status) = ended {
            return Err(CliError::Shown(show_failure(&log, status).map_err(failed)?));
        }
        sleep(POLL_INTERVAL).await;
    }
    message!("`kapell logs -f {run}` follows it, `kapell questions {run}` lists what waits for an answer");
    print(&format!("{run}\n"))?;
    Ok(Exit::Success)
}

fn spawn_detached(run: &RunId, log: File) -> io::Result<Child> {
    // The command line is `kapell run …`, and nothing stands before `run`.
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

fn has_started(journal: &Path, run: &RunId) -> bool {
    // Whatever is wrong with the journal, the run will say so itself.
    JournalReader::open(journal).and_then(|reader| reader.run(run)).is_ok()
}

/// Shows what a run said that did not begin, and gives its exit code.
fn show_failure(log: &Path, status: ExitStatus) -> io::Result<Exit> {
    print_message(String::from_utf8_lossy(&fs::read(log)?).trim_end());
    fs::remove_file(log)?;
    Ok(status.code().and_then(Exit::of_code).unwrap_or(Exit::Failed))
}
