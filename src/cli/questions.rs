//! `kapell questions`: what waits for an answer.
//! Never answers.

use clap::Args;
use serde_json::Value;

use super::{
    CliError, Exit, Format, JournalArg,
    exit::{print, print_json},
    files,
};
use crate::{
    human::sheet,
    journal::{Reader, RunSummary},
    model::DefaultAnswer,
    report::history::{Asked, Questions, moment},
};

#[derive(Debug, Args)]
pub(super) struct QuestionsArgs {
    /// The run: its id, the beginning or end of it, or `last` [default: every run that has not ended]
    run: Option<String>,
    #[command(flatten)]
    journal: JournalArg,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn questions(args: QuestionsArgs) -> Result<Exit, CliError> {
    let reader = Reader::open(&files::journal(&args.journal)?)?;
    let runs = match &args.run {
        Some(name) => vec![reader.run(&reader.find_run(name)?)?],
        None => reader.open_runs()?,
    };
    let mut objects = Vec::new();
    let mut text = String::new();
    for run in runs.iter().filter(|run| run.is_open()) {
        let questions = Questions::read(&reader, &run.run)?;
        let answered = reader.waiting_answers(&run.run)?;
        for asked in questions.open() {
            let waits = answered.contains(&asked.question.id);
            objects.push(object(run, asked, waits));
            for line in lines(run, asked, waits) {
                text += &(line + "\n");
            }
        }
    }
    match args.output {
        Format::Json => print_json(&objects)?,
        Format::Text if objects.is_empty() => message!("no question waits for an answer"),
        Format::Text => print(&text)?,
    }
    Ok(Exit::Done)
}

fn lines(run: &RunSummary, asked: &Asked, answer_waits: bool) -> Vec<String> {
    let question = &asked.question;
    let mut lines = sheet::lines(&run.run, question);
    let command = lines.pop();
    if let Some(deadline) = question.deadline {
        let at = moment(deadline.at, &files::viewpoint().zone);
        let default = match deadline.default {
            DefaultAnswer::Accept => "accepted",
            DefaultAnswer::Decline => "declined",
            DefaultAnswer::Cancel => "dismissed",
        };
        lines.push(format!("    {default} by default at {at}"));
    }
    if answer_waits {
        lines.push(format!("    answered; the next `kapell resume {}` takes it up", run.run));
    } else {
        lines.extend(command);
    }
    lines
}

/// A question with where it is: the moment in milliseconds since the Unix epoch.
fn object(run: &RunSummary, asked: &Asked, answer_waits: bool) -> Value {
    let mut object = sheet::json(&asked.question);
    object["run"] = run.run.as_str().into();
    object["plan"] = run.name.as_str().into();
    object["asked"] = asked.at.0.into();
    object["left_open_because"] = asked.left_open_because.clone().into();
    object["answer_waits"] = answer_waits.into();
    object
}
