//! `kapell questions`: lists open questions.

use clap::Args;
use owo_colors::OwoColorize;
use serde_json::Value;

use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::exit::{print_json, print_styled};
use crate::cli::common::files;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::journal::RunSummary;
use crate::model::DefaultAnswer;
use crate::ui::forms::form_prompt;
use crate::ui::history::read_view;
use crate::view::run_view::AskedQuestion;
use crate::view::text::printable;
use crate::view::time::format_time;

#[derive(Debug, Args)]
pub(crate) struct QuestionsArgs {
    /// The run: its ID, the start or end of its ID, or `last` [default: every run that has not ended]
    #[arg(add = completion::runs())]
    run: Option<String>,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

pub(crate) fn questions(args: QuestionsArgs) -> Result<Exit, CliError> {
    let (mut objects, mut text) = (Vec::new(), String::new());
    let reader = match &args.run {
        Some(_) => Some(files::open_journal(&args.journal)?),
        None => files::open_journal_if_present(&args.journal)?,
    };
    if let Some(reader) = reader {
        let runs = match &args.run {
            Some(name) => vec![reader.run(&reader.find_run(name)?)?],
            None => reader.unfinished_runs()?,
        };
        for run in runs.iter().filter(|run| run.status.is_unfinished()) {
            let view = read_view(&*reader, &run.run)?;
            let answered = reader.pending_answers(&run.run)?;
            for asked in view.open_questions() {
                let waits = answered.contains(&asked.question.id);
                objects.push(question_json(run, asked, waits));
                text += &question_text(run, asked, waits);
            }
        }
    }
    match args.output {
        OutputFormat::Json => print_json(&objects)?,
        OutputFormat::Text if objects.is_empty() => message!("no open questions"),
        OutputFormat::Text => print_styled(&text)?,
    }
    Ok(Exit::Success)
}

/// Formats a question below a heading that names its run and its plan.
fn question_text(run: &RunSummary, asked: &AskedQuestion, answer_waits: bool) -> String {
    let question = &asked.question;
    let mut lines = form_prompt::question_lines(&run.run, question);
    let command = lines.pop().map(|command| command.cyan().to_string());
    if let Some(first) = lines.first_mut() {
        *first = format!("{}  {}", first.bold(), format!("{}, run {}", printable(&run.name), run.run.short()).dimmed());
    }
    if let Some(deadline) = question.deadline {
        let at = format_time(deadline.at, &files::display_context().zone);
        let default = match deadline.default {
            DefaultAnswer::Accept => "accepted",
            DefaultAnswer::Decline => "declined",
            DefaultAnswer::Cancel => "dismissed",
        };
        lines.push(format!("    {default} by default at {at}"));
    }
    if answer_waits {
        lines.push(format!("    answered; `kapell resume {}` applies the answer", run.run.short()));
    } else {
        lines.extend(command);
    }
    lines.join("\n") + "\n"
}

/// Returns a question and its run as JSON. Times are in milliseconds since the Unix epoch.
fn question_json(run: &RunSummary, asked: &AskedQuestion, answer_waits: bool) -> Value {
    let mut object = form_prompt::question_json(&asked.question);
    object["run"] = run.run.as_str().into();
    object["plan"] = run.name.as_str().into();
    object["asked"] = asked.at.0.into();
    object["left_open_because"] = asked.deferred_reason().into();
    object["answer_waits"] = answer_waits.into();
    object
}
