//! Finds and reads what several commands need: the agents file, plans, and the paths of state files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::args::{AgentsArg, JournalArg, path_variable};
use super::output::mask_in_diagnostics;
use crate::cli::CliError;
use crate::config::{self, AgentsFile, AgentsFiles, ProcessEnvironment};
use crate::engine::Run;
use crate::expression::closest_match;
use crate::journal::{self, JournalError, JournalLocation, JournalReader, Store};
use crate::model::{AgentSpec, ParamsFile, Record, RunId, RunSource, Timestamp};
use crate::runtime::ContentStore;
use crate::system::clock;
use crate::view::time::DisplayContext;

/// Reads the agents files.
///
/// # Errors
/// Returns all diagnostics of a file, or an error if there is none.
pub(crate) fn load_agents(arg: &AgentsArg) -> Result<AgentsFile, CliError> {
    read_agents(&arg.files(None))
}

/// Reads the agents files of a run: the one that is named now, or else those that the run began with.
///
/// # Errors
/// Returns all diagnostics of a file.
pub(crate) fn load_agents_for_run(arg: &AgentsArg, run: &Run) -> Result<AgentsFile, CliError> {
    load_agents_of(arg, run.source())
}

/// Does the same for a run that began with the files of `source`.
///
/// # Errors
/// Returns all diagnostics of a file.
pub(crate) fn load_agents_of(arg: &AgentsArg, source: Option<&RunSource>) -> Result<AgentsFile, CliError> {
    match (&arg.agents, source) {
        // The run began without one.
        (None, Some(source)) if source.agents.is_empty() => Ok(AgentsFile::default()),
        (None, Some(source)) => {
            let mut files = AgentsFiles::named(PathBuf::from(&source.agents));
            files.user = source.user_agents.as_ref().map(PathBuf::from);
            read_agents(&files)
        }
        _ => load_agents(arg),
    }
}

/// Reads these agents files.
///
/// # Errors
/// Returns all diagnostics of a file, or an error if there is none.
pub(crate) fn read_agents(files: &AgentsFiles) -> Result<AgentsFile, CliError> {
    if files.first().is_none() {
        return Err(CliError::usage(
            "cli::no_agents_file",
            files.missing_message(),
            "`kapell init` creates one, with the agents of other hosts; `kapell agents add` adds one agent, and `--agents PATH` \
             names another file",
        ));
    }
    let file = config::load_agents_files(files, &ProcessEnvironment)?;
    mask_in_diagnostics(&file.secrets);
    Ok(file)
}

/// Returns the path of a plan, unless it is read from standard input.
pub(crate) fn plan_path(plan: &str) -> Option<&Path> {
    (plan != "-").then(|| Path::new(plan))
}

/// Returns the absolute paths of the agents files, for the record of a run.
pub(crate) fn agents_source(files: &AgentsFiles) -> (String, Option<String>) {
    let user = files.project.is_some().then_some(files.user.as_deref()).flatten();
    (files.first().map(absolute).unwrap_or_default(), user.map(absolute))
}

/// Reads the agents file, and returns the agent `name` and the file without it.
///
/// # Errors
/// Returns all diagnostics of the file, or an error that lists its agents.
pub(crate) fn load_agent(arg: &AgentsArg, name: &str) -> Result<(AgentSpec, AgentsFile), CliError> {
    let mut file = load_agents(arg)?;
    match file.agents.shift_remove(name) {
        Some(agent) => Ok((agent, file)),
        None => Err(unknown_agent(name, &file)),
    }
}

/// Returns the error for an agent that is not in the agents file.
pub(crate) fn unknown_agent(name: &str, file: &AgentsFile) -> CliError {
    let known: Vec<&str> = file.agents.keys().map(|id| id.as_str()).collect();
    let help = match closest_match(name, known.iter().copied()) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None if known.is_empty() => {
            "the agents file has no agents; `kapell agents import` adds those of other hosts, and `kapell agents add` adds one"
                .to_owned()
        }
        None => format!("the agents file has {}", known.join(", ")),
    };
    CliError::usage("cli::unknown_agent", format!("agent `{name}` is not in the agents file"), help)
}

/// Returns the path as an absolute one.
pub(crate) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Reads the text of a plan. Returns it with its name for diagnostics.
///
/// # Errors
/// Fails if the plan cannot be read.
pub(crate) fn read_plan_text(name: &str) -> Result<(&str, String), CliError> {
    if name != "-" {
        let text = config::read_text(Path::new(name)).map_err(|diagnostics| {
            if !name.contains(char::is_whitespace) {
                return diagnostics;
            }
            diagnostics.with_help(format!("`{name}` is the name of a file; `--goal TEXT` treats any text as a goal"))
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
        None => default_journal_location(),
    }
}

/// Returns the location of the journal that `KAPELL_JOURNAL` names, or else the one of the platform.
///
/// # Errors
/// Fails if the variable is not set and the platform has no state directory.
pub(crate) fn default_journal_location() -> Result<JournalLocation, CliError> {
    match path_variable("KAPELL_JOURNAL") {
        Some(path) => Ok(path.into()),
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

/// Opens the journal for reading, if there is one.
///
/// # Errors
/// Fails if the journal cannot be read.
pub(crate) fn open_journal_if_present(arg: &JournalArg) -> Result<Option<Box<dyn JournalReader>>, CliError> {
    match journal_store(arg)?.open_reader() {
        Err(JournalError::Missing { .. }) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

/// Returns the path for the plan of a run's goal, beside the journal.
pub(crate) fn saved_plan_path(journal: &JournalLocation, run: &RunId) -> PathBuf {
    journal.companion_directory("plans").join(format!("{run}.yaml"))
}

/// Returns the absolute path of the directory for the binary contents of results, beside the journal. Each run has a
/// folder in it.
pub(crate) fn content_root(journal: &JournalLocation) -> PathBuf {
    absolute(&journal.companion_directory("files")).into()
}

/// Returns the absolute path of the directory for results that later calls reuse, beside the journal.
pub(crate) fn cache_root(journal: &JournalLocation) -> PathBuf {
    absolute(&journal.companion_directory("cache")).into()
}

/// Returns the events of a run that is only shown, with the large contents of their results. A missing file is a warning.
///
/// # Errors
/// Returns an error if the location of the journal is unknown, and for an event that cannot be read.
pub(crate) fn shown_records<'r>(
    reader: &'r dyn JournalReader,
    journal: &JournalArg,
    run: &'r RunId,
) -> Result<impl Iterator<Item = Result<Record, JournalError>> + 'r, CliError> {
    let contents = contents_of(journal, run)?;
    Ok(reader.records(run, 0).map(move |record| {
        let mut record = record?;
        if let Err(error) = contents.restore_results(&mut record) {
            tracing::warn!(%error, "a result is shown without its contents");
        }
        Ok(record)
    }))
}

/// Returns the files with binary and large contents of the results of a run.
///
/// # Errors
/// Returns an error if the location of the journal is unknown.
pub(crate) fn contents_of(journal: &JournalArg, run: &RunId) -> Result<ContentStore, CliError> {
    Ok(ContentStore::new(&content_root(&journal_location(journal)?), run, None))
}

/// Returns the path of the log of a detached run, beside the journal. It replaces the terminal.
pub(crate) fn detached_log_path(journal: &JournalLocation, run: &RunId) -> PathBuf {
    journal.companion_directory("logs").join(format!("{run}.log"))
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
