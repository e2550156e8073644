//! Completes the word at the cursor: commands, tools, agents, arguments, runs, and files.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;

use clap::builder::ValueHint;
use clap::{Arg, Command};
use clap_complete::engine::{self, ArgValueCompleter};
use indexmap::IndexMap;
use rustyline::completion::{Completer, Pair, Quote, escape, extract_word, unescape};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::command_words::split_line;
use super::known_tools::{Offers, ToolMatch, cached_offers, match_tool, tool_words};
use super::repl_command::{command_names, commands, os_words};
use super::server_completion::ServerCompletion;
use super::session_options::ReplArgs;
use crate::cli::completion::{self, Suggestion};
use crate::model::{CompletionRequest, CompletionTarget};
use crate::view::text::printable;

/// Completes the lines of a session. It reads what agents offered when they were last asked, and asks a server only for
/// the value of an argument of a prompt or a resource template.
#[derive(Clone)]
pub(super) struct LineCompleter {
    options: ReplArgs,
    servers: Arc<ServerCompletion>,
}

impl LineCompleter {
    pub(super) fn new(options: ReplArgs, servers: ServerCompletion) -> Self {
        Self { options, servers: Arc::new(servers) }
    }

    /// Returns the values that complete `current` after the words before it.
    fn values(&self, before: &str, current: &str) -> Vec<String> {
        let offers = cached_offers(&self.options.agents);
        let Ok(words) = split_line(before) else { return Vec::new() };
        let mut values = match words.as_slice() {
            [] => first_words(&offers, current),
            [help] if help == "help" => first_words(&offers, current),
            _ => self.argument_values(with_known_tool(words, &offers), current),
        };
        // Options would hide the values among them.
        let is_hidden = |value: &String| value.starts_with('-') && !current.starts_with('-');
        values.retain(|value| value.starts_with(current) && printable(value) == *value && !is_hidden(value));
        let mut seen = HashSet::new();
        values.retain(|value| seen.insert(value.clone()));
        values
    }

    /// Returns values for the word after those of a command.
    fn argument_values(&self, words: Vec<String>, current: &str) -> Vec<String> {
        let command = self.with_completers(commands(&self.options), &words);
        let mut all = os_words(&words);
        all.push(current.into());
        let index = words.len();
        let directory = std::env::current_dir().ok();
        let candidates = engine::complete(&mut { command }, all, index, directory.as_deref()).unwrap_or_default();
        let visible = candidates.into_iter().filter(|candidate| !candidate.is_hide_set());
        visible.filter_map(|candidate| candidate.get_value().to_str().map(str::to_owned)).collect()
    }

    /// Makes the arguments of a command complete with what this session knows.
    fn with_completers(&self, command: Command, words: &[String]) -> Command {
        let command = command.mut_args(|arg| self.with_completer(arg, words));
        command.mut_subcommands(|subcommand| self.with_completers(subcommand, words))
    }

    fn with_completer(&self, arg: Arg, words: &[String]) -> Arg {
        let (journal, agents) = (self.options.journal.clone(), self.options.agents.clone());
        let (completer, words) = (self.clone(), words.to_vec());
        match arg.get_id().as_str() {
            "run" | "first" | "second" => complete_with(arg, move |_| completion::known_runs(&journal)),
            "question" => complete_with(arg, move |_| completion::known_questions(&journal, words.get(1)?)),
            "task" | "from" => complete_with(arg, move |_| completion::known_tasks(&journal, &words)),
            "names" | "agent" => complete_with(arg, move |_| completion::known_agents(&agents)),
            "target" => complete_with(arg, move |_| completion::known_tools(&agents)),
            "arguments" => complete_with(arg, move |_| completion::known_arguments(&agents, &words)),
            "prompt" | "resource" | "argument" => {
                let id = arg.get_id().to_string();
                complete_with(arg, move |current| completer.offered_values(&id, &words, current))
            }
            "plan" if arg.is_positional() => arg.value_hint(ValueHint::FilePath),
            _ => arg,
        }
    }

    /// Returns values for an argument of `agents complete`. Those of a prompt or a template come from its server.
    fn offered_values(&self, argument: &str, words: &[String], current: &str) -> Option<Vec<Suggestion>> {
        let option = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
        let agent = words.get(2)?;
        let offers = cached_offers(&self.options.agents);
        let offers = offers.get(agent.as_str())?.offers.as_deref()?;
        let values: Vec<String> = match argument {
            "prompt" => offers.prompts.iter().flatten().map(|prompt| prompt.name.clone()).collect(),
            "resource" => {
                offers.resource_templates.iter().flatten().map(|template| template.uri_template.clone()).collect()
            }
            _ => {
                let target = match (option("--prompt"), option("--resource")) {
                    (Some(prompt), _) => CompletionTarget::Prompt(prompt.clone()),
                    (None, template) => CompletionTarget::ResourceTemplate(template?.clone()),
                };
                match (current.split_once('='), &target) {
                    (Some((name, value)), _) => {
                        let request = CompletionRequest {
                            target,
                            argument: name.to_owned(),
                            value: value.to_owned(),
                            context: IndexMap::new(),
                        };
                        let values = self.servers.values(agent, request);
                        values.into_iter().map(|value| format!("{name}={value}")).collect()
                    }
                    (None, CompletionTarget::Prompt(name)) => {
                        let prompt = offers.prompts.iter().flatten().find(|prompt| prompt.name == *name)?;
                        prompt.arguments.iter().map(|argument| format!("{}=", argument.name)).collect()
                    }
                    (None, CompletionTarget::ResourceTemplate(_)) => Vec::new(),
                }
            }
        };
        Some(values.into_iter().map(|value| (value, None)).collect())
    }
}

/// Makes an argument complete with suggestions for the current word.
fn complete_with(arg: Arg, suggestions: impl Fn(&str) -> Option<Vec<Suggestion>> + Send + Sync + 'static) -> Arg {
    arg.add(ArgValueCompleter::new(move |current: &OsStr| {
        completion::matching(current, suggestions(&current.to_string_lossy()).unwrap_or_default())
    }))
}

/// Returns the words that a line can begin with: commands and tools. `AGENT.TOOL` is offered once it is being typed.
fn first_words(offers: &Offers, current: &str) -> Vec<String> {
    let mut words = command_names();
    words.extend(tool_words(offers).into_iter().map(|(word, _)| word));
    if !current.is_empty() {
        let tools = offers.iter().flat_map(|(agent, info)| info.tools.iter().map(move |tool| (agent, &tool.name)));
        words.extend(tools.map(|(agent, tool)| format!("{agent}.{tool}")));
    }
    words.sort_unstable();
    words
}

/// Replaces the name of a known tool by the command that calls it.
fn with_known_tool(mut words: Vec<String>, offers: &Offers) -> Vec<String> {
    let is_call = words[0] == "call";
    let at = usize::from(is_call);
    if let (true, Some(name)) = (is_call || !command_names().contains(&words[0]), words.get(at))
        && let ToolMatch::One(target) = match_tool(name, offers)
    {
        words[at] = target;
        if !is_call {
            words.insert(0, "call".to_owned());
        }
    }
    words
}

/// Returns whether a character ends a word or has a meaning of its own, so that it is escaped.
fn is_special(character: char) -> bool {
    character.is_whitespace() || matches!(character, '"' | '\'' | '\\' | '#')
}

impl Completer for LineCompleter {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, word) = extract_word(line, pos, Some('\\'), char::is_whitespace);
        let current = unescape(word, Some('\\'));
        let pairs = self.values(&line[..start], &current).into_iter().map(|value| {
            let is_whole = !value.ends_with(['=', '/', '.']);
            let escaped = escape(value.clone(), Some('\\'), is_special, Quote::None);
            Pair { display: value, replacement: escaped + if is_whole { " " } else { "" } }
        });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for LineCompleter {
    type Hint = String;
}

impl Highlighter for LineCompleter {}
impl Validator for LineCompleter {}
impl Helper for LineCompleter {}
