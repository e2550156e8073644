//! The commands: one file each.
//! Never holds logic that another room could own.

mod agents;
mod answer;
mod cancel;
mod demo_agent;
mod desk;
mod detach;
mod doctor;
mod elsewhere;
mod execute;
mod exit;
mod files;
mod goal;
mod graph;
mod logs;
mod plan;
mod questions;
mod replan;
mod replay;
mod resume;
mod retry;
mod run;
mod runs;
mod schema;
mod talk;
mod validate;

use std::{io::IsTerminal, path::PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use exit::{CliError, Exit};

/// Runs task graphs over MCP agent servers, durably, and merges the results into one answer.
#[derive(Debug, Parser)]
#[command(name = "kapell", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a plan, or plan a goal and run that
    Run(run::RunArgs),
    /// Go on with a run that was interrupted or paused
    Resume(resume::ResumeArgs),
    /// Do a part of an earlier run again, with the results before it
    Retry(retry::RetryArgs),
    /// Turn a goal into a plan that can be edited and run
    Plan(plan::PlanArgs),
    /// Find every mistake in a plan and its agents file
    Validate(validate::ValidateArgs),
    /// Draw a plan's task graph
    Graph(graph::GraphArgs),
    /// List, test and look into agents
    #[command(subcommand)]
    Agents(agents::AgentsCommand),
    /// Ask every language model for something small and say what works
    Doctor(doctor::DoctorArgs),
    /// List runs, show one, compare two, forget old ones
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Print the events of a run
    Logs(logs::LogsArgs),
    /// Show a run again, as it was shown when it ran
    Replay(replay::ReplayArgs),
    /// List the questions that wait for an answer
    Questions(questions::QuestionsArgs),
    /// Answer a question of a run that another process drives, or that goes on later
    Answer(answer::AnswerArgs),
    /// End a run that another process drives
    Cancel(cancel::CancelArgs),
    /// Print the JSON Schema of a file format
    Schema(schema::SchemaArgs),
    /// Be one of the demo agents: an MCP server
    DemoAgent(demo_agent::DemoAgentArgs),
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where the agents file is.
#[derive(Debug, Clone, Args)]
struct AgentsArg {
    /// The agents file [default: agents.toml here, else the one in the platform's configuration directory]
    #[arg(long, value_name = "PATH")]
    agents: Option<PathBuf>,
}

/// Where the journal is.
#[derive(Debug, Clone, Args)]
struct JournalArg {
    /// The journal [default: journal.db in the platform's state directory]
    #[arg(long, value_name = "PATH")]
    journal: Option<PathBuf>,
}

/// How a command that looks something up prints it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Reads the command line, does what it says, and gives the exit code.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    start_logging();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| CliError::failed("the runtime could not be started", source))
        .and_then(|runtime| {
            let result = runtime.block_on(dispatch(cli.command));
            // A thread that still reads standard input must not keep the process.
            runtime.shutdown_background();
            result
        });
    result.unwrap_or_else(|error| error.report())
}

async fn dispatch(command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Run(args) => run::run(args).await,
        Command::Resume(args) => resume::resume(args).await,
        Command::Retry(args) => retry::retry(args).await,
        Command::Plan(args) => plan::plan(args).await,
        Command::Validate(args) => validate::validate(args).await,
        Command::Graph(args) => graph::graph(args),
        Command::Agents(command) => agents::agents(command).await,
        Command::Doctor(args) => doctor::doctor(args).await,
        Command::Runs(command) => runs::runs(command),
        Command::Logs(args) => logs::logs(args),
        Command::Replay(args) => replay::replay(args).await,
        Command::Questions(args) => questions::questions(args),
        Command::Answer(args) => answer::answer(args).await,
        Command::Cancel(args) => cancel::cancel(args).await,
        Command::Schema(args) => schema::schema(args),
        Command::DemoAgent(args) => demo_agent::serve(args).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kapell", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    }
}

/// Writes what the host and its libraries say of their own working to stderr, if `KAPELL_LOG` asks for it (`debug`,
/// `kapell=trace`, …). What a person needs to know is in the events and the errors, and comes without asking.
fn start_logging() {
    use tracing_subscriber::EnvFilter;
    let Ok(filter) = EnvFilter::try_from_env("KAPELL_LOG") else { return };
    let colour = std::io::stderr().is_terminal();
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr);
    // Only a second call in one process fails, and then the first one's logging goes on.
    drop(logging.try_init());
}
