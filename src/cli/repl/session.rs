//! The session: reads lines and runs their commands until it ends.

use std::pin::pin;
use std::sync::Arc;

use super::command_editor::{CommandEditor, HistoryPolicy, TypedLine};
use super::command_source::CommandSource;
use super::command_words::split_line;
use super::known_tools::KnownTools;
use super::line_completer::LineCompleter;
use super::repl_command::{ReplCommand, command_names};
use super::resume_offer::ResumeOffer;
use super::server_completion::ServerCompletion;
pub(crate) use super::session_options::ReplArgs;
use crate::cli::common::execute::start_guard;
use crate::cli::common::exit::{print, print_usage};
use crate::cli::{CliError, Exit};
use crate::runtime::shutdown::SessionSignals;

/// The prompt of a session.
const PROMPT: &str = "kapell> ";

pub(crate) async fn repl(args: ReplArgs) -> Result<Exit, CliError> {
    // Forked before there are other threads and a run is in memory, since the guard would keep that memory.
    start_guard()?;
    let signals = SessionSignals::start()
        .map_err(|error| CliError::failed("cli::signals", "termination signals cannot be handled", error))?;
    let tools = Arc::new(KnownTools::new(args.agents.clone()));
    let completion = ServerCompletion::start(&args.agents);
    let source = CommandSource::open(LineCompleter::new(args.clone(), completion))?;
    let session = ReplSession { options: args, signals, tools, commands: command_names() };
    match &source {
        CommandSource::Terminal(editor) => session.run_interactively(editor, &source).await,
        CommandSource::Input => session.run_input(&source).await,
    }
}

/// A session.
struct ReplSession {
    options: ReplArgs,
    signals: Arc<SessionSignals>,
    tools: Arc<KnownTools>,
    commands: Vec<String>,
}

/// What follows a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineOutcome {
    /// The line was empty.
    Nothing,
    /// A command ended.
    Ended(Exit),
    /// The session ends.
    Quit,
}

impl ReplSession {
    /// Runs the commands that a person types.
    async fn run_interactively(&self, editor: &CommandEditor, source: &CommandSource) -> Result<Exit, CliError> {
        message!("kapell {}: `help` lists the commands, Ctrl-D ends the session", env!("CARGO_PKG_VERSION"));
        let tools = Arc::clone(&self.tools);
        // Completion offers what this finds, and the session does not wait for it.
        tokio::spawn(async move { drop(tools.discover().await) });
        if self.offer_to_resume(editor).await == LineOutcome::Quit {
            return Ok(Exit::Interrupted);
        }
        loop {
            let Some(typed) = self.unless_terminated(PROMPT, source.next_line(PROMPT)).await else {
                editor.restore_terminal();
                return Ok(Exit::Interrupted);
            };
            match typed? {
                TypedLine::Line(line) => {
                    if self.run_line(&line).await == LineOutcome::Quit {
                        return Ok(Exit::Success);
                    }
                }
                TypedLine::Cleared => {}
                TypedLine::End => return Ok(Exit::Success),
            }
            if self.signals.is_terminated() {
                return Ok(Exit::Interrupted);
            }
        }
    }

    /// Runs the commands of a pipe or a file. The exit code is that of the last command that failed.
    async fn run_input(&self, source: &CommandSource) -> Result<Exit, CliError> {
        let mut exit = Exit::Success;
        loop {
            let typed = tokio::select! {
                typed = source.next_line("") => typed?,
                () = self.signals.interrupted() => return Ok(Exit::Interrupted),
                () = self.signals.terminated() => return Ok(Exit::Interrupted),
            };
            let TypedLine::Line(line) = typed else { return Ok(exit) };
            match self.run_line(&line).await {
                LineOutcome::Nothing | LineOutcome::Ended(Exit::Success) => {}
                LineOutcome::Ended(failed) => exit = failed,
                LineOutcome::Quit => return Ok(exit),
            }
            if self.signals.is_terminated() {
                return Ok(Exit::Interrupted);
            }
        }
    }

    /// Waits for a line. On a terminal without editing, Ctrl-C is a signal and discards what was typed, so the prompt is
    /// printed again. Returns `None` if the session has to end.
    async fn unless_terminated<T>(&self, prompt: &str, line: impl Future<Output = T>) -> Option<T> {
        let mut line = pin!(line);
        loop {
            tokio::select! {
                line = &mut line => return Some(line),
                // A terminal that cannot be written ends the input too.
                () = self.signals.interrupted() => drop(print(&format!("\n{prompt}"))),
                () = self.signals.terminated() => return None,
            }
        }
    }

    /// Runs the command of a line, and reports its error. Ctrl-C ends the command.
    async fn run_line(&self, line: &str) -> LineOutcome {
        let running = async {
            match self.parse_line(line).await {
                Ok(Some(ReplCommand::Quit)) => LineOutcome::Quit,
                Ok(Some(command)) => {
                    let ended = Box::pin(command.execute(&self.options)).await;
                    LineOutcome::Ended(ended.unwrap_or_else(CliError::report))
                }
                Ok(None) => LineOutcome::Nothing,
                Err(exit) => LineOutcome::Ended(exit),
            }
        };
        tokio::select! {
            biased;
            outcome = running => outcome,
            // A run in progress is interrupted by the signal itself, and ends in an orderly way.
            () = self.signals.interrupted() => {
                message!("stopped");
                LineOutcome::Ended(Exit::Interrupted)
            }
        }
    }

    /// Parses a line. Returns `None` for an empty one, and the exit code of an error, which is reported, or of help.
    async fn parse_line(&self, line: &str) -> Result<Option<ReplCommand>, Exit> {
        let words = split_line(line).map_err(CliError::report)?;
        if words.is_empty() {
            return Ok(None);
        }
        let words = self.with_resolved_tool(words).await.map_err(CliError::report)?;
        ReplCommand::parse(&self.options, &words).map(Some).map_err(|error| print_usage(&error))
    }

    /// Replaces the name of a tool by the command that calls or describes it.
    async fn with_resolved_tool(&self, mut words: Vec<String>) -> Result<Vec<String>, CliError> {
        let is_command = |word: &String| self.commands.contains(word);
        match words[0].as_str() {
            "call" if words.get(1).is_some_and(|name| !name.contains('.') && !name.starts_with('-')) => {
                words[1] = self.tools.resolve(&words[1], &[]).await?;
            }
            "help" if words.get(1).is_some_and(|name| !is_command(name)) => {
                let target = self.tools.resolve(&words[1], &self.commands).await?;
                words = vec!["list".to_owned(), target];
            }
            word if word.starts_with('-') || is_command(&words[0]) => {}
            _ => {
                words[0] = self.tools.resolve(&words[0], &self.commands).await?;
                words.insert(0, "call".to_owned());
            }
        }
        Ok(words)
    }

    /// Offers to resume the run that an earlier process left behind.
    async fn offer_to_resume(&self, editor: &CommandEditor) -> LineOutcome {
        let offer = match ResumeOffer::find(&self.options.journal, &self.options.agents) {
            Ok(Some(offer)) => offer,
            Ok(None) => return LineOutcome::Nothing,
            Err(error) => return LineOutcome::Ended(error.report()),
        };
        let run = offer.run.short();
        let question = format!("resume run {run} ({})? [Y/n] ", offer.activity);
        let accepted = loop {
            let read = editor.read_line(&question, HistoryPolicy::Omit);
            let Some(typed) = self.unless_terminated(&question, read).await else {
                editor.restore_terminal();
                return LineOutcome::Quit;
            };
            match typed {
                TypedLine::Line(line) => match line.trim().to_ascii_lowercase().as_str() {
                    "" | "y" | "yes" => break true,
                    "n" | "no" => break false,
                    _ => message!("type `y` or `n`"),
                },
                TypedLine::Cleared | TypedLine::End => break false,
            }
        };
        if offer.others > 0 {
            let noun = if offer.others == 1 { "run is" } else { "runs are" };
            message!("{} more {noun} interrupted; `runs` lists them", offer.others);
        }
        if accepted {
            return self.run_line(&format!("resume {}", offer.run)).await;
        }
        message!("run {run} stays interrupted; `resume {run}` resumes it");
        LineOutcome::Nothing
    }
}
