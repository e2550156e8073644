//! The commands of a session. Each runs what the command line runs.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Args, Command, CommandFactory, FromArgMatches as _, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use super::session_options::ReplArgs;
use crate::cli::history::{clean_tokens, logs, replay, result, runs};
use crate::cli::plans::{graph, plan, validate};
use crate::cli::runs::{answer, call, cancel, questions, resume, retry, run, signal};
use crate::cli::setup::{agents, doctor};
use crate::cli::{CliError, Exit};

/// The way in which a session describes its commands.
const USAGE: &str = "COMMAND [OPTIONS]\n       TOOL [KEY=VALUE]...\n       \"GOAL\"";

/// What is not a command.
const AFTER_HELP: &str = "`help COMMAND` describes a command, and `help TOOL` a tool. The name of a tool calls it, and asks \
                          for the arguments that are missing. A sentence in quotation marks is a goal: it is planned, \
                          shown, and run after approval. Tab completes, and the cursor keys recall earlier lines.";

/// A line of a session.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, about = None, override_usage = USAGE, after_help = AFTER_HELP, disable_help_flag = true)]
struct ReplLine {
    #[command(subcommand)]
    command: ReplCommand,
}

/// A command of a session.
#[derive(Debug, Subcommand)]
pub(super) enum ReplCommand {
    /// List the tools of the agents, or describe one tool: `list AGENT.TOOL`
    List(agents::OffersArgs),
    /// Call a tool, as its name alone does: `TOOL KEY=VALUE`
    Call(call::CallArgs),
    /// Run a plan
    Run(run::RunArgs),
    /// Plan a goal and run the plan, as a sentence in quotation marks does
    Goal(GoalArgs),
    /// List, show, compare, and delete runs; alone, it lists them
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// List open questions
    Questions(questions::QuestionsArgs),
    /// Answer a question of a running or paused run
    Answer(answer::AnswerArgs),
    /// Resume a run that was interrupted or paused
    Resume(resume::ResumeArgs),
    /// Rerun part of a run, reusing earlier results
    Retry(retry::RetryArgs),
    /// Send a signal to a run, for a task that waits for it
    Signal(signal::SignalArgs),
    /// Cancel a run; it cannot be resumed
    Cancel(cancel::CancelArgs),
    /// Print the result of a run, or of one of its tasks
    Result(result::ResultArgs),
    /// Print the events of a run
    Logs(logs::LogsArgs),
    /// Replay the progress of a run
    Replay(replay::ReplayArgs),
    /// Forget the saved sessions and cursors of interrupted and paused runs
    CleanTokens(clean_tokens::CleanTokensArgs),
    /// List and test agents, and list their tools
    #[command(subcommand)]
    Agents(agents::AgentsCommand),
    /// Write a plan for a goal, to edit and run it later
    Plan(plan::PlanArgs),
    /// Check a plan and its agents file, and report all errors
    Validate(validate::ValidateArgs),
    /// Print the task graph of a plan
    Graph(graph::GraphArgs),
    /// Check agents, runtimes, models, the journal, and the terminal, and name the fixes
    Doctor(doctor::DoctorArgs),
    /// End the session
    #[command(visible_alias = "exit")]
    Quit,
}

#[derive(Debug, Args)]
pub(super) struct GoalArgs {
    /// The goal; options of `run` follow it
    #[arg(required = true)]
    text: Vec<String>,
}

/// Returns the commands of a session with these options.
pub(super) fn commands(options: &ReplArgs) -> Command {
    options.set_defaults(ReplLine::command())
}

/// Returns the names of the commands.
pub(super) fn command_names() -> Vec<String> {
    let command = ReplLine::command();
    let names = command.get_subcommands().flat_map(|sub| std::iter::once(sub.get_name()).chain(sub.get_all_aliases()));
    names.chain(["help"]).map(str::to_owned).collect()
}

impl ReplCommand {
    /// Parses the words of a line.
    ///
    /// # Errors
    /// Returns the error or the help that clap prints.
    pub(super) fn parse(options: &ReplArgs, words: &[String]) -> Result<Self, clap::Error> {
        let matches = commands(options).try_get_matches_from(words)?;
        Ok(ReplLine::from_arg_matches(&matches)?.command)
    }

    /// Runs the command, except [`ReplCommand::Quit`], which a session does itself. Dropping the future ends the command.
    ///
    /// # Errors
    /// As the command on the command line.
    pub(super) async fn execute(self, options: &ReplArgs) -> Result<Exit, CliError> {
        match self {
            Self::List(args) => agents::agents(agents::AgentsCommand::Tools(args)).await,
            Self::Call(args) => call::call(args).await,
            Self::Run(args) => run::run(args).await,
            Self::Goal(GoalArgs { text }) => {
                let words = ["run".to_owned(), "--goal".to_owned(), text.join(" ")];
                match Self::parse(options, &words) {
                    Ok(Self::Run(args)) => run::run(args).await,
                    _ => Ok(Exit::Usage),
                }
            }
            Self::Runs(command) => runs::runs(command),
            Self::Questions(args) => questions::questions(args),
            Self::Answer(args) => answer::answer(args).await,
            Self::Resume(args) => resume::resume(args).await,
            Self::Retry(args) => retry::retry(args).await,
            Self::Signal(args) => signal::signal(args),
            Self::Cancel(args) => cancel::cancel(args).await,
            Self::Result(args) => result::result(&args),
            Self::Logs(args) => print_logs(args).await,
            Self::Replay(args) => replay::replay(args).await,
            Self::CleanTokens(args) => clean_tokens::clean_tokens(&args),
            Self::Agents(command) => agents::agents(command).await,
            Self::Plan(args) => plan::plan(args).await,
            Self::Validate(args) => validate::validate(args).await,
            Self::Graph(args) => graph::graph(args),
            Self::Doctor(args) => doctor::doctor(args).await,
            Self::Quit => Ok(Exit::Success),
        }
    }
}

/// Prints the events of a run on another thread, since `--follow` waits for more. Dropping the future ends it.
async fn print_logs(args: logs::LogsArgs) -> Result<Exit, CliError> {
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let printing = tokio::task::spawn_blocking(move || logs::logs(args, &mut StoppableOutput { stop }));
    printing.await.unwrap_or_else(|error| {
        Err(CliError::failed("cli::output", "the events of the run cannot be printed", io::Error::other(error)))
    })
}

/// Standard output until it is stopped. After that, it is like a closed pipe.
struct StoppableOutput {
    stop: CancellationToken,
}

impl StoppableOutput {
    fn check(&self) -> io::Result<()> {
        if self.stop.is_cancelled() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Write for StoppableOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        io::stdout().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        io::stdout().flush()
    }
}

/// Returns the words as clap reads them.
pub(super) fn os_words(words: &[String]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_consistent() {
        ReplLine::command().debug_assert();
    }
}
