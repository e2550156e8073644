//! `kapell agents login` and `kapell agents logout`: log in to the server of an agent with OAuth, and forget the login.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _};
use std::os::fd::AsFd as _;

use clap::Args;

use crate::cli::common::args::AgentsArg;
use crate::cli::common::exit::print;
use crate::cli::common::files;
use crate::cli::common::run_options::speaks_for_a_person;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::mcp::{LoginStart, Options, PageLogin, begin_login, log_out};
use crate::model::{AgentSpec, LoginInfo};
use crate::runtime;
use crate::ui::forms::typed_text::strip_control_sequences;
use crate::ui::forms::url_prompt::{Browser, PageUrl};
use crate::ui::terminal::controlling_terminal::is_in_foreground;
use crate::ui::terminal::line_reader::LineReader;
use crate::view::text::printable;
use crate::view::time::format_time;

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The agent
    #[arg(add = completion::agents())]
    agent: String,
    #[command(flatten)]
    agents: AgentsArg,
    /// Print the address of the login page instead of opening it
    #[arg(long)]
    no_browser: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The agent
    #[arg(add = completion::agents())]
    agent: String,
    #[command(flatten)]
    agents: AgentsArg,
}

pub(crate) async fn login(args: LoginArgs) -> Result<Exit, CliError> {
    // An agent must not log the host in to an account of its choice.
    speaks_for_a_person()?;
    let (spec, options) = find_agent(&args.agents, &args.agent)?;
    let agent = &spec.id;
    let info = match begin_login(&spec, &options).await? {
        LoginStart::NotRequired => {
            message!("agent `{agent}` requires no login");
            return Ok(Exit::Success);
        }
        LoginStart::LoggedIn(info) => Some(info),
        LoginStart::Page(login) => log_in_on_page(*login, args.no_browser).await?,
    };
    message!("agent `{agent}`: {}", info.as_ref().map_or_else(|| "logged in".to_owned(), login_text));
    Ok(Exit::Success)
}

pub(crate) fn logout(args: &LogoutArgs) -> Result<Exit, CliError> {
    speaks_for_a_person()?;
    let (spec, options) = find_agent(&args.agents, &args.agent)?;
    match log_out(&spec, &options)? {
        true => message!("agent `{}`: logged out", spec.id),
        false => message!("agent `{}`: not logged in", spec.id),
    }
    Ok(Exit::Success)
}

/// Describes a login.
pub(super) fn login_text(info: &LoginInfo) -> String {
    let renewal = if info.is_renewable { ", then renewed automatically" } else { "" };
    match info.expires_at {
        Some(end) => format!("logged in until {}{renewal}", format_time(end, &files::time_zone())),
        None => "logged in".to_owned(),
    }
}

fn find_agent(arg: &AgentsArg, name: &str) -> Result<(AgentSpec, Options), CliError> {
    let (spec, file) = files::load_agent(arg, name)?;
    let options = runtime::connect_options(&file, None)?;
    Ok((spec, options))
}

/// Shows the login page, and waits until the person has logged in.
async fn log_in_on_page(login: PageLogin, no_browser: bool) -> Result<Option<LoginInfo>, CliError> {
    let page = PageUrl::parse(login.url()).map_err(|problem| {
        CliError::usage("cli::login_page", printable(&problem), "the authorization server of the agent names this page")
    })?;
    let opened = match no_browser {
        true => Err(None),
        false => Browser::default().open(&page).await.map_err(Some),
    };
    match opened {
        Ok(()) => message!("log in on the page of {} that was opened:\n{}", page.displayed_host(), page.address()),
        Err(problem) => {
            if let Some(problem) = problem {
                message!("{problem}; open the address yourself");
            }
            print(&format!("{}\n", page.address()))?;
        }
    }
    page.warnings().into_iter().for_each(|warning| message!("warning: {warning}"));
    let lines = pasted_lines();
    let pasted = async || match &lines {
        Some(lines) => lines.next_line().await.map(|line| strip_control_sequences(&line)),
        None => None,
    };
    let reject = || message!("this is not the address that the login page redirects to; paste it completely");
    Ok(login.complete(pasted, reject).await?)
}

/// Returns the lines of standard input: on a machine without a browser, a person pastes the redirect address there.
fn pasted_lines() -> Option<LineReader> {
    let stdin = io::stdin();
    let input = File::from(stdin.as_fd().try_clone_to_owned().ok()?);
    // Reading from the terminal in the background would stop the process.
    let is_readable = !stdin.is_terminal() || is_in_foreground(&input);
    is_readable.then(|| LineReader::new(BufReader::new(input)).ok()).flatten()
}
