//! Finds and reads what several commands need: the agents file, plans, and the paths of state files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use jiff::tz::TimeZone;
use serde_json::Value;

use super::args::{AgentsArg, JournalArg};
use super::logging::mask_in_diagnostics;
use crate::cli::CliError;
use crate::config::{self, AgentCatalog, AgentsFile, ProcessEnvironment, ValidatedPlan};
use crate::engine::Run;
use crate::journal::{self, JournalLocation, JournalReader, Store};
use crate::llm::Models;
use crate::model::{ParamsFile, Record, RunId, Timestamp};
use crate::system::clock;
use crate::view::time::DisplayContext;

/// Reads the agents file.
///
/// # Errors
/// Returns all diagnostics of the file.
pub(crate) fn load_agents(arg: &AgentsArg) -> Result<AgentsFile, CliError> {
    read_agents(&config::agents_path(arg.agents.as_deref()))
}

/// Reads the agents file of a run: the one that is named now, or else the one that the run began with.
///
/// # Errors
/// Returns all diagnostics of the file.
pub(crate) fn load_agents_for_run(arg: &AgentsArg, run: &Run) -> Result<AgentsFile, CliError> {
    match (&arg.agents, run.source()) {
        (None, Some(source)) => read_agents(Path::new(&source.agents)),
        _ => load_agents(arg),
    }
}

fn read_agents(path: &Path) -> Result<AgentsFile, CliError> {
    let file = config::load_agents(path, &ProcessEnvironment)?;
    mask_in_diagnostics(&file.secrets);
    Ok(file)
}

/// Returns the path as an absolute one.
pub(crate) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Reads and lowers a plan: a file, or `-` for standard input.
///
/// # Errors
/// Returns all diagnostics of the plan.
pub(crate) fn load_plan(
    name: &str,
    agents: &AgentsFile,
    catalog: Option<&AgentCatalog>,
) -> Result<ValidatedPlan, CliError> {
    let (name, text) = read_plan_text(name)?;
    Ok(config::load_plan(name, &text, agents, catalog)?)
}

/// Reads the text of a plan. Returns it with its name for diagnostics.
///
/// # Errors
/// Fails if the plan cannot be read.
pub(crate) fn read_plan_text(name: &str) -> Result<(&str, String), CliError> {
    if name != "-" {
        let text = config::read_text(Path::new(name)).map_err(|mistakes| match name.contains(char::is_whitespace) {
            true => {
                mistakes.with_help(format!("`{name}` is the name of a file; `--goal TEXT` treats any text as a goal"))
            }
            false => mistakes,
        });
        return Ok((name, text?));
    }
    Ok(("standard input", config::read_text(Path::new(name))?))
}

/// Reads the parameters file of a run. Also returns its source record, unless it is standard input; the record lists
/// the parameters that the command line overrides.
///
/// # Errors
/// Fails if the file cannot be read or is neither YAML nor JSON.
pub(crate) fn params(path: &Path, on_command_line: &[String]) -> Result<(Value, Option<ParamsFile>), CliError> {
    let text = config::read_text(path)?;
    let given = config::read_data(&path.display().to_string(), &text)?;
    let name = |param: &String| param.split_once('=').map(|(name, _)| name.to_owned());
    let file = (path != Path::new("-")).then(|| ParamsFile {
        path: absolute(path),
        hash: config::fingerprint_of(&text),
        overridden: on_command_line.iter().filter_map(name).collect(),
    });
    Ok((given, file))
}

/// Returns the location of the journal.
///
/// # Errors
/// Fails if none is named and the platform has no state directory.
pub(crate) fn journal_location(arg: &JournalArg) -> Result<JournalLocation, CliError> {
    match &arg.journal {
        Some(location) => Ok(location.clone()),
        None => Ok(journal::default_location()?),
    }
}

/// Returns the store of the journal.
///
/// # Errors
/// Fails if none is named and the platform has no state directory.
pub(crate) fn journal_store(arg: &JournalArg) -> Result<Arc<dyn Store>, CliError> {
    Ok(journal::store(&journal_location(arg)?))
}

/// Opens the journal for reading.
///
/// # Errors
/// Fails if the journal is missing or cannot be read.
pub(crate) fn open_journal(arg: &JournalArg) -> Result<Box<dyn JournalReader>, CliError> {
    Ok(journal_store(arg)?.open_reader()?)
}

/// Returns the path for the plan of a run's goal, beside the journal.
pub(crate) fn saved_plan_path(journal: &JournalLocation, run: &RunId) -> PathBuf {
    journal.companion_directory("plans").join(format!("{run}.yaml"))
}

/// Reads the events of a run and folds them.
///
/// # Errors
/// Fails if the events cannot be read or cannot be folded into a run.
pub(crate) fn load_run(reader: &dyn JournalReader, run: &RunId) -> Result<Run, CliError> {
    let records: Vec<Record> = reader.records(run, 0).collect::<Result<_, _>>()?;
    Run::fold(&records).map_err(|error| CliError::failed("cli::invalid_run", format!("cannot read run `{run}`"), error))
}

/// Returns the path of the log of a detached run, beside the journal. It replaces the terminal.
pub(crate) fn detached_log_path(journal: &JournalLocation, run: &RunId) -> PathBuf {
    journal.companion_directory("logs").join(format!("{run}.log"))
}

/// Returns the language models of the agents file, if it has any.
///
/// # Errors
/// Fails if the configuration of a model can never work.
pub(crate) fn load_models(agents: &AgentsFile) -> Result<Option<Models>, CliError> {
    Ok(Models::new(agents.models.iter().cloned())?)
}

/// Returns the current time and the time zone of the person at the command line.
pub(crate) fn display_context() -> DisplayContext {
    DisplayContext { now: Timestamp::default().after(clock::since_epoch()), zone: time_zone() }
}

/// Returns the time zone of this machine, unless `TZ` names another. Reads `/etc/localtime` alone if possible, since
/// finding a zone by its name requires the list of all zones.
pub(crate) fn time_zone() -> TimeZone {
    let local = || fs::read("/etc/localtime").ok().and_then(|file| TimeZone::tzif("", &file).ok());
    match std::env::var_os("TZ") {
        None => local().unwrap_or_else(TimeZone::system),
        Some(_) => TimeZone::system(),
    }
}

/// Checks that a new file can be written at a path that a person has named.
///
/// # Errors
/// Fails if the directory is missing, or the path names something that must not be overwritten.
pub(crate) fn check_output(path: &Path, replaces: bool) -> Result<(), CliError> {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(CliError::usage(
            "cli::no_directory",
            format!("the directory `{}` does not exist", folder.display()),
            "create it, or pass another file with `--output`",
        ));
    }
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CliError::failed("cli::unwritable", format!("cannot write `{shown}`"), error)),
    };
    if found.is_file() {
        return match replaces {
            true => Ok(()),
            false => {
                Err(CliError::usage("cli::file_exists", format!("`{shown}` exists already"), "`--force` replaces it"))
            }
        };
    }
    let (kind, help) = if found.is_dir() {
        ("a directory", "pass a file in it with `--output`")
    } else if found.is_symlink() {
        ("a symbolic link", "links are not followed: pass the file that it points to with `--output`")
    } else {
        (file_kind(found), "pass a regular file with `--output`, or remove `--output` to print the plan")
    };
    Err(CliError::usage("cli::not_a_file", format!("cannot write the plan to `{shown}`: it is {kind}"), help))
}

#[cfg(unix)]
fn file_kind(found: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match found {
        found if found.is_fifo() => "a FIFO",
        found if found.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn file_kind(_: fs::FileType) -> &'static str {
    "not a regular file"
}
