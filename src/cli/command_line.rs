//! The command line: the list of commands, and the dispatch to them.

use std::io;

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::CompleteEnv;

use super::common::args::OutputFormat;
use super::common::exit::{CliError, Exit, print_raw, print_usage};
use super::common::output::{OutputArgs, start_logging};
use super::completion::completion_script;
use super::help::{with_help, with_suggestion};
use super::history::{logs, replay, report, result, runs};
use super::plans::{fmt, graph, plan, saved, schema, validate};
use super::repl::session;
use super::runs::{answer, call, cancel, questions, read, resume, retry, run, serve, signal};
use super::setup::{agents, demo_agent, doctor, init, packaging_files};
use crate::system::{environment, process};

/// Runs task graphs over MCP agent servers, durably, and merges the results into one answer.
#[derive(Debug, Parser)]
#[command(name = "kapell", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Write a first agents file and a first plan in this directory
    Init(init::InitArgs),
    /// Run a plan, or plan a goal and run the plan
    Run(run::RunArgs),
    /// Call one tool of an agent
    Call(call::CallArgs),
    /// Read one resource of an agent
    Read(read::ReadArgs),
    /// Start an interactive session: call tools by name, run plans and goals, and look at runs
    Repl(session::ReplArgs),
    /// Resume a run that was interrupted or paused
    Resume(resume::ResumeArgs),
    /// Rerun part of a run, reusing earlier results
    Retry(retry::RetryArgs),
    /// Write a plan for a goal, to edit and run it later
    Plan(plan::PlanArgs),
    /// Save plans by name, and list, print, and remove them
    #[command(subcommand)]
    Plans(saved::PlansCommand),
    /// Check a plan and its agents file, and report all errors
    Validate(validate::ValidateArgs),
    /// Format plans: the indentation, the order of keys, and the lines between sections
    Fmt(fmt::FmtArgs),
    /// Print the task graph of a plan
    Graph(graph::GraphArgs),
    /// List and test agents, and list their tools
    #[command(subcommand)]
    Agents(agents::AgentsCommand),
    /// Check agents, runtimes, models, the journal, and the terminal, and name the fixes
    Doctor(doctor::DoctorArgs),
    /// List, show, compare, and delete runs
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Print the result of a run, or of one of its tasks
    Result(result::ResultArgs),
    /// Print the events of a run
    Logs(logs::LogsArgs),
    /// Replay the progress of a run
    Replay(replay::ReplayArgs),
    /// Write a run as one HTML file, which opens in a browser without a server
    Report(report::ReportArgs),
    /// List open questions
    Questions(questions::QuestionsArgs),
    /// Answer a question of a running or paused run
    Answer(answer::AnswerArgs),
    /// Send a signal to a run, for a task that waits for it
    Signal(signal::SignalArgs),
    /// Cancel a run; it cannot be resumed
    Cancel(cancel::CancelArgs),
    /// Serve pages on which people watch and steer runs in a browser
    Serve(serve::ServeArgs),
    /// Print the JSON Schema of a file format
    Schema(schema::SchemaArgs),
    /// Run a built-in demo MCP server
    DemoAgent(demo_agent::DemoAgentArgs),
    /// Print a completion script for a shell: `source <(kapell completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages and completion scripts for packages
    #[command(hide = true)]
    PackagingFiles(packaging_files::PackagingFilesArgs),
}

/// Returns the parser of the command line, with the help of all commands.
pub fn command() -> Command {
    with_help(Cli::command())
}

/// Parses the command line, runs the command, and returns the exit code.
pub fn main() -> Exit {
    // Before the environment is sealed: shells pass what is to be completed in variables.
    CompleteEnv::with_factory(command).complete();
    process::harden();
    environment::seal();
    let parsed = command().try_get_matches();
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, stdout_format(&matches))));
    let (cli, stdout) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return print_usage(&with_suggestion(error, std::env::args_os())),
    };
    cli.output.apply();
    let _logging = start_logging(&cli.output);
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
    result.unwrap_or_else(|error| error.report_to(stdout))
}

/// Returns the format in which the command prints to stdout. Of `kapell plan`, `--output` is a file.
fn stdout_format(matches: &ArgMatches) -> OutputFormat {
    let (mut name, mut matches) = ("", matches);
    while let Some((subcommand, of_subcommand)) = matches.subcommand() {
        (name, matches) = (subcommand, of_subcommand);
    }
    let output = matches.try_get_raw("output").ok().flatten().and_then(|mut values| values.next_back());
    let is_json = output.is_some_and(|format| format == "json" || format == "stream-json") && name != "plan";
    let is_alias = matches!(matches.try_get_one::<bool>("json"), Ok(Some(true)));
    if is_json || is_alias { OutputFormat::Json } else { OutputFormat::Text }
}

async fn dispatch(command: CliCommand) -> Result<Exit, CliError> {
    match command {
        CliCommand::Init(args) => init::init(args).await,
        CliCommand::Run(args) => run::run(args).await,
        CliCommand::Call(args) => call::call(args).await,
        CliCommand::Read(args) => read::read(args).await,
        CliCommand::Repl(args) => session::repl(args).await,
        CliCommand::Resume(args) => resume::resume(args).await,
        CliCommand::Retry(args) => retry::retry(args).await,
        CliCommand::Plan(args) => plan::plan(args).await,
        CliCommand::Plans(command) => saved::plans(command),
        CliCommand::Validate(args) => validate::validate(args).await,
        CliCommand::Fmt(args) => fmt::fmt(&args),
        CliCommand::Graph(args) => graph::graph(args),
        CliCommand::Agents(command) => agents::agents(command).await,
        CliCommand::Doctor(args) => doctor::doctor(args).await,
        CliCommand::Runs(command) => runs::runs(command),
        CliCommand::Result(args) => result::result(&args),
        CliCommand::Logs(args) => logs::logs(args, &mut io::stdout().lock()),
        CliCommand::Replay(args) => replay::replay(args).await,
        CliCommand::Report(args) => report::report(&args),
        CliCommand::Questions(args) => questions::questions(args),
        CliCommand::Answer(args) => answer::answer(args).await,
        CliCommand::Signal(args) => signal::signal(args),
        CliCommand::Cancel(args) => cancel::cancel(args).await,
        CliCommand::Serve(args) => serve::serve(args).await,
        CliCommand::Schema(args) => schema::schema(args),
        CliCommand::DemoAgent(args) => demo_agent::serve(args).await,
        CliCommand::Completions { shell } => {
            let script = completion_script(&shell.to_string());
            let script = script
                .map_err(|error| CliError::failed("cli::output", "the completion script cannot be written", error))?;
            print_raw(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Success)
        }
        CliCommand::PackagingFiles(args) => packaging_files::packaging_files(&args, self::command()),
    }
}
