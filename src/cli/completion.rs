//! Completes arguments in a shell: runs, tasks, agents, tools, and arguments of tools. It starts no agent: tools are those
//! that agents offered when a command last asked them.

use std::ffi::OsStr;
use std::io;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
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

/// Returns a completer for the tasks of the latest run.
pub(crate) fn tasks() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| matching(current, known_tasks(&NO_JOURNAL).unwrap_or_default()))
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
        // The shell passes the words of its command line as arguments.
        let words: Vec<String> = std::env::args().collect();
        matching(current, known_arguments(&NO_AGENTS, &words).unwrap_or_default())
    })
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

/// Returns the tasks of the latest run of a journal.
pub(crate) fn known_tasks(journal: &JournalArg) -> Option<Vec<Suggestion>> {
    let reader = files::open_journal(journal).ok()?;
    let view = history::read_view(&*reader, &reader.find_run("last").ok()?).ok()?;
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
