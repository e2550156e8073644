//! `kapell serve`: serves the run pages, on which people watch and steer runs in a browser.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::HostError;
use crate::cli::common::args::{AgentsArg, JournalArg};
use crate::cli::common::command_agents::CommandAgents;
use crate::cli::common::exit::print;
use crate::cli::common::files;
use crate::cli::common::run_options::speaks_for_a_person;
use crate::cli::{CliError, Exit};
use crate::journal;
use crate::model::Timestamp;
use crate::runtime::schedules::{self, ScheduleNotice};
use crate::runtime::shutdown;
use crate::serve::{DriverProgram, PageServer, PageToken, ScheduledProcesses, ServeError, ServeSettings};
use crate::system::environment;
use crate::ui::forms::url_prompt::{Browser, PageUrl};

/// The directory with plans, if there is one and no other is named.
const DEFAULT_PLANS: &str = "plans";

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The address to listen at; port 0 chooses a free port. Beyond this machine, `--token-env` is required
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7440")]
    addr: SocketAddr,
    /// The directory with the plans that can be started, and that run by their schedules [default: plans, if it exists, but
    /// without schedules]
    #[arg(long, value_name = "DIR")]
    plans: Option<PathBuf>,
    /// Open the page in a browser
    #[arg(long)]
    open: bool,
    /// The environment variable with the token that gives access [default: a new token each time]
    #[arg(long, value_name = "VAR")]
    token_env: Option<String>,
    /// Another name of this machine that browsers use, such as that of a proxy; may be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    journal: JournalArg,
}

pub(crate) async fn serve(args: ServeArgs) -> Result<Exit, CliError> {
    // The page answers questions, so no agent may serve it.
    speaks_for_a_person()?;
    let settings = settings(&args)?;
    let token = settings.token.clone();
    // Only a person who names the directory expects runs to start by themselves.
    let scheduled = settings.plans.clone().filter(|_| args.plans.is_some());
    let schedules = scheduled.map(|plans| {
        let runs = Arc::new(ScheduledProcesses::new(settings.program.clone(), report_schedule));
        (Arc::clone(&settings.store), plans, runs)
    });
    let stopped = shutdown::interrupted().map_err(HostError::Signals)?;
    let server = PageServer::bind(args.addr, settings).await.map_err(cannot_serve)?;
    let address = server.address();
    match &args.token_env {
        // A token that a person chose is not printed.
        Some(variable) => {
            message!("open http://{address}/#t=TOKEN with the value of `{variable}` as TOKEN; Ctrl-C ends the server");
            print(&format!("http://{address}/\n"))?;
        }
        None => {
            message!("open this address in a browser; Ctrl-C ends the server, and no run");
            print(&format!("http://{address}/#t={}\n", token.as_str()))?;
        }
    }
    if args.open {
        open_page(&format!("http://{address}/#t={}", token.as_str())).await;
    }
    let serving = Box::pin(server.serve(stopped));
    let scheduling = async {
        match schedules {
            Some((store, plans, runs)) => schedules::drive(store, &plans, runs, CancellationToken::new()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        served = serving => served.map_err(cannot_serve)?,
        // Runs have processes of their own, which outlive this one.
        () = Box::pin(scheduling) => {}
    }
    Ok(Exit::Success)
}

/// Prints what happened to a schedule.
fn report_schedule(notice: &ScheduleNotice<'_>) {
    let time = |at: Timestamp| at.to_rfc3339();
    match notice {
        ScheduleNotice::Added { plan, next: Some(next) } => {
            message!("`{}` runs by its schedule, next at {}", plan.display(), time(*next));
        }
        ScheduleNotice::Removed { plan } => message!("`{}` no longer runs by its schedule", plan.display()),
        ScheduleNotice::Unreadable { path, reason } => {
            message!("the schedule of `{}` cannot be read: {reason}", path.display());
        }
        ScheduleNotice::Starting { plan, run, occurrence, is_resumed } => {
            let verb = if *is_resumed { "resuming" } else { "starting" };
            message!("{verb} run `{}` of `{}` for {}", run.short(), plan.display(), time(*occurrence));
        }
        ScheduleNotice::Missed { plan, until } => {
            message!("`{}` missed its schedule until {}, and skips it", plan.display(), time(*until));
        }
        ScheduleNotice::Failed { plan, run, reason } => {
            message!("run `{}` of `{}` is given up: {reason}", run.short(), plan.display());
        }
        ScheduleNotice::JournalFailed { error } => message!("schedules wait for the journal: {error}"),
        _ => {}
    }
}

fn settings(args: &ServeArgs) -> Result<ServeSettings, CliError> {
    let journal = files::journal_location(&args.journal)?;
    Ok(ServeSettings {
        store: journal::store(&journal),
        content_root: files::content_root(&journal),
        agents: std::sync::Arc::new(CommandAgents(args.agents.clone())),
        plans: plans_directory(args)?,
        program: program(args, &journal)?,
        token: token(args)?,
        hosts: args.allow_host.clone(),
    })
}

/// Returns the absolute path of the directory with plans.
fn plans_directory(args: &ServeArgs) -> Result<Option<PathBuf>, CliError> {
    match &args.plans {
        Some(directory) if directory.is_dir() => Ok(Some(files::absolute(directory).into())),
        Some(directory) => Err(CliError::usage(
            "cli::no_directory",
            format!("`{}` is not a directory", directory.display()),
            "pass the directory with the plans",
        )),
        None => {
            Ok(Some(Path::new(DEFAULT_PLANS)).filter(|path| path.is_dir()).map(|path| files::absolute(path).into()))
        }
    }
}

/// Returns this program with the options of this command, for the runs that the page starts.
fn program(args: &ServeArgs, journal: &journal::JournalLocation) -> Result<DriverProgram, CliError> {
    let executable = std::env::current_exe()
        .map_err(|error| CliError::failed("cli::program", "the path of this program is unknown", error))?;
    let agents = args.agents.agents.iter().flat_map(|path| ["--agents".into(), files::absolute(path).into()]);
    let journal = files::absolute(Path::new(&journal.to_string()));
    Ok(DriverProgram {
        executable,
        agents_options: agents.collect(),
        journal_options: vec!["--journal".into(), journal.into()],
        hidden_variables: args.token_env.iter().cloned().collect(),
    })
}

fn token(args: &ServeArgs) -> Result<PageToken, CliError> {
    let Some(variable) = &args.token_env else {
        if !args.addr.ip().is_loopback() {
            return Err(CliError::usage(
                "cli::token_required",
                format!("`{}` can be reached from other machines, so the token must be one that you chose", args.addr),
                "put a token into an environment variable, and name it with `--token-env VAR`",
            ));
        }
        return PageToken::random()
            .map_err(|error| CliError::failed("cli::no_random_numbers", "no token can be made", error));
    };
    let value = environment::variable(variable).and_then(|value| value.into_string().ok()).unwrap_or_default();
    PageToken::chosen(&value).map_err(|problem| {
        CliError::usage(
            "cli::invalid_token",
            format!("invalid token in the environment variable `{variable}`: {problem}"),
            "`openssl rand -hex 32` prints one",
        )
    })
}

async fn open_page(address: &str) {
    let opened = match PageUrl::parse(address) {
        Ok(page) => Browser::default().open(&page).await,
        Err(problem) => Err(problem),
    };
    if let Err(problem) = opened {
        message!("{problem}; open the address yourself");
    }
}

fn cannot_serve(error: ServeError) -> CliError {
    match error {
        ServeError::Bind { address, source } => CliError::usage(
            "cli::address",
            format!("cannot listen at {address}: {source}"),
            "`--addr 127.0.0.1:0` chooses a free port",
        ),
        error => CliError::failed("cli::server", "the server stopped", error),
    }
}
