//! The options of all commands that drive a run: its files, who answers questions, what is printed, and how durable the
//! journal is.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::args::{AgentsArg, JournalArg, JsonArg};
use super::files;
use crate::cli::CliError;
use crate::config::{self, AgentsFile, AgentsFiles, Diagnostics, HostPermissionError};
use crate::journal::Durability;
use crate::model::{HostPattern, Plan, RunId};
use crate::system::process::RequestSender;
use crate::ui::answers::policy::{NoInput, RemoteAnswers, RulesThenHuman};
use crate::ui::answers::rules::AnswerRules;
use crate::ui::human::Human;
use crate::ui::terminal::prompter::TerminalPrompter;
use crate::ui::terminal::screen::Screen;

#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) agents: AgentsArg,
    #[command(flatten)]
    pub(crate) journal: JournalArg,
    /// The output format of stdout
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: RunOutputFormat,
    /// Never prompt: decline agents' questions, and pause the run at approvals
    #[arg(long)]
    no_input: bool,
    /// A YAML file with rules that answer questions first; - for standard input
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Also save a copy of each image, audio, or other binary content of a result in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
    /// The durability of the journal on power loss; a killed process loses nothing in either mode
    #[arg(long, value_enum, default_value_t)]
    pub(crate) durability: Durability,
}

/// What the command line allows plans to have the host do, in addition to the agents file.
#[derive(Debug, Clone, Args)]
pub(crate) struct PermissionArgs {
    /// Allow the plan to run shell commands, as `enabled = true` in `[shell]` of the agents file does
    #[arg(long)]
    allow_shell: bool,
    /// Allow HTTP requests of the plan to this host, in addition to the `hosts` in `[http]` of the agents file; may be
    /// repeated
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    allow_http: Vec<HostPattern>,
}

impl PermissionArgs {
    /// Reads the agents files of a run. Without one, a plan can still do what the command line allows.
    ///
    /// # Errors
    /// Returns all diagnostics of a file, or an error if there is none.
    pub(crate) fn read_agents(&self, files: &AgentsFiles) -> Result<AgentsFile, CliError> {
        let is_allowed = self.allow_shell || !self.allow_http.is_empty();
        let mut agents = match files.first() {
            None if is_allowed => AgentsFile::default(),
            _ => files::read_agents(files)?,
        };
        self.extend_permissions(&mut agents);
        Ok(agents)
    }

    /// Adds what the command line allows to what the agents file allows plans to have the host do.
    pub(crate) fn extend_permissions(&self, agents: &mut AgentsFile) {
        agents.host.shell.enabled |= self.allow_shell;
        agents.host.http.hosts.extend(self.allow_http.iter().cloned());
    }
}

impl ValueEnum for Durability {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Full, Self::Normal]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Full => PossibleValue::new("full").help("Sync every step to disk; nothing is lost"),
            Self::Normal => {
                PossibleValue::new("normal").help("Do not wait for the disk; a power loss may lose the last steps")
            }
        })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunOutputFormat {
    /// Plain text
    #[default]
    Text,
    /// One JSON object with all tasks
    Json,
    /// One JSON object per line: events, pieces of an answer as they arrive, and finally the result
    StreamJson,
}

/// The source of answers to questions that no rule answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interaction {
    /// The person at the terminal.
    Terminal,
    /// Another process, such as `kapell answer`.
    Remote,
}

impl RunOptions {
    /// Returns the options with the output format JSON if `--json` is given.
    pub(crate) fn with_json(mut self, json: JsonArg) -> Self {
        if json.is_given() {
            self.output = RunOutputFormat::Json;
        }
        self
    }

    /// Builds the human of the run: the rules first, then a person if one may be asked.
    ///
    /// # Errors
    /// Fails if the rules are invalid or the terminal cannot be read.
    pub(crate) fn build_human(
        &self,
        screen: &Screen,
        run: &RunId,
        interaction: Interaction,
    ) -> Result<Arc<dyn Human>, CliError> {
        let person: Box<dyn Human> = match interaction {
            _ if self.no_input => Box::new(NoInput),
            Interaction::Remote => Box::new(RemoteAnswers),
            Interaction::Terminal => person_at_terminal(screen, run)?,
        };
        match self.answer_rules()? {
            Some(rules) => Ok(Arc::new(RulesThenHuman::new(rules, person, screen.clone()))),
            None => Ok(person.into()),
        }
    }

    /// Refuses an answers file from a process that belongs to an agent.
    ///
    /// # Errors
    /// Fails if there is such a file and this process belongs to an agent.
    pub(crate) fn check_speaker(&self) -> Result<(), CliError> {
        if self.answers.is_some() { speaks_for_a_person() } else { Ok(()) }
    }

    fn answer_rules(&self) -> Result<Option<AnswerRules>, CliError> {
        let Some(path) = &self.answers else { return Ok(None) };
        let name = path.display().to_string();
        let rules = config::read_answer_rules(&name, &config::read_text(path)?)?;
        let answers = AnswerRules::new(rules)
            .map_err(|invalid| Diagnostics::for_file(&name, "answers::invalid_rule", invalid.to_string()))?;
        Ok(Some(answers))
    }
}

/// Returns the person at the terminal, or a human that answers nothing if there is none.
///
/// # Errors
/// Fails if the terminal cannot be read.
pub(crate) fn person_at_terminal(screen: &Screen, run: &RunId) -> Result<Box<dyn Human>, CliError> {
    // An agent can open a terminal, so that alone does not prove a person.
    if speaks_for_a_person().is_err() {
        return Ok(Box::new(NoInput));
    }
    match TerminalPrompter::open(screen.clone(), run.clone()) {
        Ok(Some(prompter)) => Ok(Box::new(prompter)),
        Ok(None) => Ok(Box::new(NoInput)),
        Err(error) => Err(CliError::failed("cli::terminal", "cannot read the terminal", error)),
    }
}

fn parse_host(text: &str) -> Result<HostPattern, String> {
    HostPattern::parse(text).map_err(|problem| format!("`{text}` {problem}"))
}

/// Checks that the agents file and the command line allow what the tasks of an earlier run have the host do.
///
/// # Errors
/// Fails for the first task that is not allowed.
pub(crate) fn check_permissions(agents: &AgentsFile, plan: &Plan) -> Result<(), CliError> {
    agents.host.check_plan(plan).map_err(|(task, HostPermissionError { code, message, help })| {
        let code = if code == "shell_disabled" { "cli::shell_disabled" } else { "cli::http_host" };
        CliError::usage(code, format!("task `{task}`: {message}"), help)
    })
}

/// Checks that this process does not belong to an agent.
///
/// # Errors
/// Fails if it does.
pub(crate) fn speaks_for_a_person() -> Result<(), CliError> {
    RequestSender::current().objection(&[]).map_or(Ok(()), |reason| Err(not_a_person(&reason)))
}

/// Returns the error for a process that must not speak for a person.
pub(crate) fn not_a_person(reason: &str) -> CliError {
    CliError::usage(
        "cli::not_a_person",
        format!("this process must not answer on behalf of a person: {reason}"),
        "run the command in your own terminal",
    )
}
