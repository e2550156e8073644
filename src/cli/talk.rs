//! Who is asked while a run goes on, what is printed of it, and how surely it is kept: the options that all commands that
//! drive one share.
//! Never drives one.

use std::{io::IsTerminal, mem, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum, builder::PossibleValue};

use super::{
    CliError, Exit, Format,
    execute::Ran,
    exit::{print, print_json},
};
use crate::{
    config::{self, Diagnostics},
    human::{
        Human,
        answers::Answers,
        policy::{AnsweredElsewhere, NoInput, RulesFirst},
        terminal::Terminal,
    },
    journal::Durability,
    model::{RunId, RunStatus},
    report::{answer::Shown, screen::Screen},
    synthesizer::{self, RunResult, not_done},
    system::process::Sender,
};

#[derive(Debug, Clone, Args)]
pub(super) struct DriveArgs {
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
    /// Ask nobody: agents' questions are declined, and approvals pause the run
    #[arg(long)]
    no_input: bool,
    /// Answer questions by the rules of this YAML file first, or of standard input (-)
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// What may be lost of the journal; a process that is killed loses nothing, either way
    #[arg(long, value_enum, default_value_t)]
    pub(super) durability: Durability,
}

impl ValueEnum for Durability {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Full, Self::Normal]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Full => PossibleValue::new("full").help("Nothing: every step waits until the disk has it"),
            Self::Normal => PossibleValue::new("normal").help("The last steps, by a power cut; steps wait for no disk"),
        })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// The answer, for people
    #[default]
    Text,
    /// One object with every task
    Json,
    /// Each event as a line of JSON, and each piece of an answer while it is written; then the result
    StreamJson,
}

/// Who is asked what no rule answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// The person at the terminal.
    Terminal,
    /// Whoever answers from another one.
    Elsewhere,
}

impl DriveArgs {
    /// Who answers: the rules first, then a person if there may be one.
    ///
    /// # Errors
    /// When the rules are wrong, or the terminal cannot be read.
    pub(super) fn human(&self, screen: &Screen, run: &RunId, otherwise: Otherwise) -> Result<Arc<dyn Human>, CliError> {
        let last: Box<dyn Human> = match otherwise {
            _ if self.no_input => Box::new(NoInput),
            Otherwise::Elsewhere => Box::new(AnsweredElsewhere),
            // An agent can open a terminal of its own.
            Otherwise::Terminal if speaks_for_a_person().is_err() => Box::new(NoInput),
            Otherwise::Terminal => {
                let terminal = Terminal::open(screen.clone(), run.clone())
                    .map_err(|error| CliError::failed("the terminal cannot be read", error))?;
                match terminal {
                    Some(terminal) => Box::new(terminal),
                    None => Box::new(NoInput),
                }
            }
        };
        match self.rules()? {
            Some(rules) => Ok(Arc::new(RulesFirst::new(rules, last, screen.clone()))),
            None => Ok(last.into()),
        }
    }

    /// Refuses an answers file from a process that belongs to an agent.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn check_speaker(&self) -> Result<(), CliError> {
        if self.answers.is_some() { speaks_for_a_person() } else { Ok(()) }
    }

    fn rules(&self) -> Result<Option<Answers>, CliError> {
        let Some(path) = &self.answers else { return Ok(None) };
        let name = path.display().to_string();
        let rules = config::read_answers(&name, &config::read_text(path)?)?;
        let answers = Answers::new(rules)
            .map_err(|invalid| Diagnostics::whole_file(&name, "answers::invalid_rule", invalid.to_string()))?;
        Ok(Some(answers))
    }

    /// Prints what came of a run, but for the answer where all of it is shown already, and gives the exit of the process.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(super) fn print(&self, ran: Ran) -> Result<Exit, CliError> {
        let Ran { result, exit, shown } = ran;
        if self.output == Output::Text
            && result.has_structured_synthesis()
            && let Some(note) = not_done::note(&result.not_done)
        {
            // Below an answer in JSON, stdout must stay JSON.
            message!("{note}");
        }
        match self.output {
            Output::Text if shown == Shown::All => {}
            // What a run has given so far is no answer; `kapell runs show` has it.
            Output::Text if result.status == RunStatus::Interrupted => {}
            Output::Text => print_result(Format::Text, &result)?,
            Output::Json => print_result(Format::Json, &result)?,
            // Its last line said it.
            Output::StreamJson => {}
        }
        // The process ends, and gives its memory back at once rather than result by result.
        mem::forget(result);
        Ok(exit)
    }
}

/// Checks that this process does not belong to an agent.
///
/// # Errors
/// When it does.
pub(super) fn speaks_for_a_person() -> Result<(), CliError> {
    Sender::current().objection(&[]).map_or(Ok(()), |reason| Err(not_a_person(&reason)))
}

/// The error for a process that must not speak for a person.
pub(super) fn not_a_person(reason: &str) -> CliError {
    CliError::usage(
        format!("this process must not speak for a person: {reason}"),
        "run the command in a terminal of your own",
    )
}

/// Prints what came of a run.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn print_result(format: Format, result: &RunResult) -> Result<(), CliError> {
    match format {
        Format::Text => print_answer(&synthesizer::text(result)),
        Format::Json => print_json(result),
    }
}

/// Prints the answer; on a terminal, apart from the messages before it.
fn print_answer(answer: &str) -> Result<(), CliError> {
    if std::io::stdout().is_terminal() {
        print("\n")?;
    }
    print(answer)
}
