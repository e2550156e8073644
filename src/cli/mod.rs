//! The commands, one file each.

/// Prints a line for people to stderr, as [`common::exit::print_message`] does, from the arguments of `format!`.
macro_rules! message {
    ($($arguments:tt)*) => {
        $crate::cli::common::exit::print_message(&format!($($arguments)*))
    };
}

mod agents;
mod answer;
mod cancel;
mod common;
mod demo_agent;
mod doctor;
mod graph;
mod logs;
mod plan;
mod questions;
mod replay;
mod resume;
mod retry;
mod run;
mod runs;
mod schema;
mod validate;

use std::{
    borrow::Cow,
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::OnceLock,
};

use clap::{
    Args, CommandFactory, Parser, Subcommand, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser as _},
};
use tracing_appender::non_blocking::NonBlockingBuilder;

use crate::{
    journal::JournalLocation,
    model::Secrets,
    system::{environment, process},
    view::text::{printable_styled, printable_unstyled},
};

pub use common::exit::{CliError, Exit};

/// Runs task graphs over MCP agent servers, durably, and merges the results into one answer.
#[derive(Debug, Parser)]
#[command(name = "kapell", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run a plan, or plan a goal and run the plan
    Run(run::RunArgs),
    /// Resume a run that was interrupted or paused
    Resume(resume::ResumeArgs),
    /// Rerun part of a run, reusing earlier results
    Retry(retry::RetryArgs),
    /// Write a plan for a goal, to edit and run it later
    Plan(plan::PlanArgs),
    /// Check a plan and its agents file, and report all errors
    Validate(validate::ValidateArgs),
    /// Print the task graph of a plan
    Graph(graph::GraphArgs),
    /// List and test agents, and list their tools
    #[command(subcommand)]
    Agents(agents::AgentsCommand),
    /// Test which features of the language models work
    Doctor(doctor::DoctorArgs),
    /// List, show, compare, and delete runs
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Print the events of a run
    Logs(logs::LogsArgs),
    /// Replay the progress of a run
    Replay(replay::ReplayArgs),
    /// List open questions
    Questions(questions::QuestionsArgs),
    /// Answer a question of a running or paused run
    Answer(answer::AnswerArgs),
    /// Cancel a run; it cannot be resumed
    Cancel(cancel::CancelArgs),
    /// Print the JSON Schema of a file format
    Schema(schema::SchemaArgs),
    /// Run a built-in demo MCP server
    DemoAgent(demo_agent::DemoAgentArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The path of the agents file.
#[derive(Debug, Clone, Args)]
struct AgentsArg {
    /// The agents file [default: agents.toml in the current directory, or else in the configuration directory]
    #[arg(long, value_name = "PATH")]
    agents: Option<PathBuf>,
}

/// The location of the journal.
#[derive(Debug, Clone, Args)]
struct JournalArg {
    /// The journal [default: journal.db in the state directory]
    #[arg(long, value_name = "PATH", value_parser = PathBufValueParser::new().map(JournalLocation::from))]
    journal: Option<JournalLocation>,
}

/// The output format of a command that looks something up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// Plain text
    #[default]
    Text,
    /// JSON
    Json,
}

/// Parses the command line, runs the command, and returns the exit code.
pub fn main() -> Exit {
    process::harden();
    environment::seal();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            print_usage(&error);
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    let _logging = start_logging();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::failed("cli::runtime", "cannot start the async runtime", source))
        .and_then(|runtime| {
            let result = runtime.block_on(dispatch(cli.command));
            // A thread that still reads standard input must not block the end of the process.
            runtime.shutdown_background();
            result
        });
    result.unwrap_or_else(|error| error.report())
}

/// Prints an error or the help of the command line. It may contain arbitrary arguments, so it is escaped.
fn print_usage(error: &clap::Error) {
    let plain = error.render().to_string();
    if printable_unstyled(&plain) == plain {
        let _ = error.print();
    } else {
        message!("{plain}");
    }
}

async fn dispatch(command: CliCommand) -> Result<Exit, CliError> {
    match command {
        CliCommand::Run(args) => run::run(args).await,
        CliCommand::Resume(args) => resume::resume(args).await,
        CliCommand::Retry(args) => retry::retry(args).await,
        CliCommand::Plan(args) => plan::plan(args).await,
        CliCommand::Validate(args) => validate::validate(args).await,
        CliCommand::Graph(args) => graph::graph(args),
        CliCommand::Agents(command) => agents::agents(command).await,
        CliCommand::Doctor(args) => doctor::doctor(args).await,
        CliCommand::Runs(command) => runs::runs(command),
        CliCommand::Logs(args) => logs::logs(args),
        CliCommand::Replay(args) => replay::replay(args).await,
        CliCommand::Questions(args) => questions::questions(args),
        CliCommand::Answer(args) => answer::answer(args).await,
        CliCommand::Cancel(args) => cancel::cancel(args).await,
        CliCommand::Schema(args) => schema::schema(args),
        CliCommand::DemoAgent(args) => demo_agent::serve(args).await,
        CliCommand::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kapell", &mut std::io::stdout());
            Ok(Exit::Success)
        }
    }
}

/// Writes diagnostics of the host and its libraries to stderr if `KAPELL_LOG` asks for them (`debug`, `kapell=trace`).
///
/// A separate thread writes them, and drops lines rather than delay a run when stderr accepts none. The returned
/// guard writes the remaining lines when it is dropped.
fn start_logging() -> Option<tracing_appender::non_blocking::WorkerGuard> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("KAPELL_LOG").ok()?;
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_LOG_LINES).lossy(true).finish(SafeStderr);
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .with_writer(writer);
    // This fails only on a second call in one process; the first call's logging stays.
    drop(logging.try_init());
    Some(guard)
}

/// Limits how many lines of diagnostics wait for stderr.
const MAX_LOG_LINES: usize = 4_096;

/// The secrets of the agents file, for the diagnostics thread: libraries log messages of agents unchanged.
static SECRETS: OnceLock<Secrets> = OnceLock::new();

/// Masks `secrets` in diagnostics from now on.
fn mask_in_diagnostics(secrets: &Secrets) {
    // A process reads one agents file.
    let _ = SECRETS.set(secrets.clone());
}

/// Writes whole lines to stderr with secrets masked and unsafe characters escaped. Errors are ignored, since a closed
/// stderr does not end a run.
struct SafeStderr;

impl Write for SafeStderr {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(lines);
        let text = SECRETS.get().map_or(Cow::Borrowed(&*text), |secrets| secrets.mask_text(&text));
        let _ = std::io::stderr().write_all(printable_styled(&text).as_bytes());
        Ok(lines.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = std::io::stderr().flush();
        Ok(())
    }
}
