//! Completes arguments in a shell: runs, tasks, agents, tools, and arguments of tools. It starts no agent: tools are those
//! that agents offered when a command last asked them.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _};
use clap_complete::env::Shells;
use serde_json::Value;

use super::common::args::{AgentsArg, JournalArg};
use super::common::files;
use crate::config::AgentsFile;
use crate::runtime::{OffersCache, connect_options};
use crate::ui::history;
use crate::view::run_view::AskedQuestion;
use crate::view::text::printable;

/// The maximum number of runs that are suggested.
const MAX_RUNS: usize = 50;

/// The minimum length of a word that is taken for the name of a run.
const MIN_RUN_NAME: usize = 4;

/// Returns the script that registers the completions of a shell.
///
/// # Errors
/// Fails if the shell is unknown.
pub(crate) fn completion_script(shell: &str) -> io::Result<Vec<u8>> {
    let shells = Shells::builtins();
    let completer = shells.completer(shell).ok_or_else(|| io::Error::other(format!("unknown shell `{shell}`")))?;
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", "kapell", "kapell", "kapell", &mut script)?;
    Ok(script)
}

/// Returns a completer for runs, the latest first.
pub(crate) fn runs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, known_runs(&NO_JOURNAL).unwrap_or_default()))
}

/// Returns a completer for the tasks of the run on the command line, or else of the latest one.
pub(crate) fn tasks() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        matching(current, known_tasks(&NO_JOURNAL, &command_line()).unwrap_or_default())
    })
}

/// Returns a completer for the open questions of the run on the command line.
pub(crate) fn questions() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let words = command_line();
        let mut after_command = words.iter().skip_while(|word| *word != "answer").skip(1);
        let run = after_command.find(|word| !word.starts_with('-'));
        matching(current, run.and_then(|run| known_questions(&NO_JOURNAL, run)).unwrap_or_default())
    })
}

/// Returns a completer for plan files, and for the directories on the way to them.
pub(crate) fn plans() -> ArgValueCompleter {
    ArgValueCompleter::new(plan_files())
}

/// Returns a completer for plan files, the directories on the way to them, and runs.
pub(crate) fn plans_and_runs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let runs = matching(current, known_runs(&NO_JOURNAL).unwrap_or_default());
        plan_files().complete(current).into_iter().chain(runs).collect()
    })
}

fn plan_files() -> PathCompleter {
    PathCompleter::any().filter(|path: &Path| {
        path.extension().is_some_and(|extension| matches!(extension.to_str(), Some("yaml" | "yml"))) && path.is_file()
    })
}

/// Returns a completer for agents.
pub(crate) fn agents() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, known_agents(&NO_AGENTS).unwrap_or_default()))
}

/// Returns a completer for tools, as `AGENT.TOOL`.
pub(crate) fn tools() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, known_tools(&NO_AGENTS).unwrap_or_default()))
}

/// Returns a completer for the arguments of the tool on the command line, as `KEY=` or `KEY=VALUE`.
pub(crate) fn tool_arguments() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        matching(current, known_arguments(&NO_AGENTS, &command_line()).unwrap_or_default())
    })
}

/// Returns the words of the command line that is completed, which the shell passes as arguments.
fn command_line() -> Vec<String> {
    // Other bytes than UTF-8 are part of no name.
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// A command line without `--agents`.
const NO_AGENTS: AgentsArg = AgentsArg { agents: None };
/// A command line without `--journal`.
const NO_JOURNAL: JournalArg = JournalArg { journal: None };

/// A suggestion, and its description.
pub(crate) type Suggestion = (String, Option<String>);

/// Returns the suggestions that begin with the current word.
pub(crate) fn matching(current: &OsStr, suggestions: Vec<Suggestion>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let fitting = suggestions.into_iter().filter(|(value, _)| value.starts_with(&*current));
    // A shell would execute or hide other characters.
    let fitting = fitting.filter(|(value, _)| printable(value) == *value);
    let candidate = |(value, help): Suggestion| {
        CompletionCandidate::new(value).help(help.map(|help| printable(&help).into_owned().into()))
    };
    fitting.map(candidate).collect()
}

/// Returns the latest runs of a journal.
pub(crate) fn known_runs(journal: &JournalArg) -> Option<Vec<Suggestion>> {
    let runs = files::open_journal(journal).ok()?.runs(MAX_RUNS).ok()?;
    let last = ("last".to_owned(), Some("the latest run".to_owned()));
    let named = runs.iter().map(|run| (run.run.short().to_owned(), Some(format!("{} {}", run.name, run.status))));
    Some(std::iter::once(last).chain(named).collect())
}

/// Returns the open questions of a run.
pub(crate) fn known_questions(journal: &JournalArg, run: &str) -> Option<Vec<Suggestion>> {
    let reader = files::open_journal(journal).ok()?;
    let view = history::read_view(&*reader, &reader.find_run(run).ok()?).ok()?;
    let question = |asked: &AskedQuestion| (asked.question.id.to_string(), Some(asked.question.message.clone()));
    Some(view.open_questions().map(question).collect())
}

/// Returns the tasks of the run that the words of a command line name, or else of the latest one.
pub(crate) fn known_tasks(journal: &JournalArg, words: &[String]) -> Option<Vec<Suggestion>> {
    let reader = files::open_journal(journal).ok()?;
    let looks_like_run =
        |word: &&String| word.len() >= MIN_RUN_NAME && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let named = words.iter().filter(looks_like_run).find_map(|word| reader.find_run(word).ok());
    let run = named.or_else(|| reader.find_run("last").ok())?;
    let view = history::read_view(&*reader, &run).ok()?;
    Some(view.result().tasks.iter().map(|(id, task)| (id.to_string(), task.title.clone())).collect())
}

/// Returns the agents of the agents file.
pub(crate) fn known_agents(agents: &AgentsArg) -> Option<Vec<Suggestion>> {
    let file = files::load_agents(agents).ok()?;
    Some(file.agents.into_keys().map(|id| (id.to_string(), None)).collect())
}

/// Returns the tools of all agents, as `AGENT.TOOL`.
pub(crate) fn known_tools(agents: &AgentsArg) -> Option<Vec<Suggestion>> {
    let (file, cache) = agents_and_cache(agents)?;
    let tools = file.agents.values().flat_map(|agent| {
        let tools = cache.get(agent).map(|(info, _)| info.tools).unwrap_or_default().into_iter();
        tools.map(|tool| (format!("{}.{}", agent.id, tool.name), first_line(tool.description.as_deref())))
    });
    Some(tools.collect())
}

/// Returns the arguments of the tool that the words of a command line call.
pub(crate) fn known_arguments(agents: &AgentsArg, words: &[String]) -> Option<Vec<Suggestion>> {
    let (agent, tool) =
        words.iter().skip_while(|word| *word != "call").skip(1).find_map(|word| word.split_once('.'))?;
    let (file, cache) = agents_and_cache(agents)?;
    let (info, _) = cache.get(file.agents.get(agent)?)?;
    let properties = info.tool(tool)?.input_schema.get("properties")?.as_object()?.clone();
    let suggestions = properties.into_iter().flat_map(|(name, property)| {
        let values = property.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
        let help = first_line(property.get("description").and_then(Value::as_str));
        let values = values.into_iter().filter_map(|value| value.as_str().map(str::to_owned));
        let values: Vec<Suggestion> = values.map(|value| (format!("{name}={value}"), help.clone())).collect();
        if values.is_empty() { vec![(format!("{name}="), help)] } else { values }
    });
    Some(suggestions.collect())
}

/// Returns the agents file, and what its agents offered when they were last asked.
pub(crate) fn agents_and_cache(agents: &AgentsArg) -> Option<(AgentsFile, OffersCache)> {
    let file = files::load_agents(agents).ok()?;
    let cache = OffersCache::new(&connect_options(&file, None).ok()?);
    Some((file, cache))
}

/// Returns the first line of a description.
pub(crate) fn first_line(text: Option<&str>) -> Option<String> {
    text.and_then(|text| text.lines().next()).map(str::to_owned)
}
