//! `kapell answer`: answers a question of a run that any process may drive.

use std::time::Duration;

use clap::{ArgGroup, Args};

use super::{CliError, Exit, JournalArg, common::remote_run::RemoteRun};
use crate::{
    journal::ControlRequest,
    ui::{
        forms::form_prompt::AnswerInput,
        history::{AskedQuestion, QuestionLog, answer_action},
    },
    view::text::printable,
};

/// The longest wait until the process that drives the run has accepted the answer. It polls five times a second.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("answer").required(true).multiple(true).args(["field", "accept", "decline", "cancel"])))]
pub(super) struct AnswerArgs {
    /// The run: its id, the beginning or end of it, or `last`
    run: String,
    /// The question, such as q1; `kapell questions` lists them
    question: String,
    /// Say yes, with this field of the form; may be repeated
    #[arg(long, value_name = "NAME=VALUE", conflicts_with_all = ["decline", "cancel"])]
    field: Vec<String>,
    /// Say yes
    #[arg(long, conflicts_with_all = ["decline", "cancel"])]
    accept: bool,
    /// With --accept: say yes to every further call of the same task in this run too
    #[arg(long, requires = "accept", conflicts_with_all = ["field", "decline", "cancel"])]
    all: bool,
    /// Say no
    #[arg(long, conflicts_with = "cancel")]
    decline: bool,
    /// Say neither: dismiss the question
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    journal: JournalArg,
}

impl AnswerArgs {
    fn input(&self) -> AnswerInput {
        if self.decline {
            AnswerInput::Decline
        } else if self.cancel {
            AnswerInput::Cancel
        } else {
            AnswerInput::Accept(self.field.clone())
        }
    }
}

pub(super) async fn answer(args: AnswerArgs) -> Result<Exit, CliError> {
    let elsewhere = RemoteRun::find(&args.journal, &args.run)?;
    let (run, id) = (&elsewhere.run, &args.question);
    let questions = QuestionLog::read(&elsewhere.reader, run)?;
    let asked = questions.get(id).ok_or_else(|| unknown_question(id, &questions))?;
    if let Some((answer, by)) = &asked.answer {
        return Err(CliError::usage(
            format!("question `{id}` was answered already: {} by {}", answer_action(answer), printable(by)),
            format!("`kapell questions {run}` lists what is open"),
        ));
    }
    let answer = args.input().into_answer(&asked.question.form).map_err(|problem| {
        CliError::usage(
            format!("question `{id}` does not take that: {}", printable(&problem)),
            format!("`kapell questions {run}` shows what it takes"),
        )
    })?;
    if args.all && asked.question.item.is_none() {
        return Err(CliError::usage(
            format!("question `{id}` is about one call, so `--all` has nothing to add"),
            "leave `--all` out; it is for the approvals of a `foreach` task",
        ));
    }
    let request = ControlRequest::Answer { question: asked.question.id.clone(), answer: answer.clone(), all: args.all };
    let sender = elsewhere.send(&request)?.to_string();
    let taken_up = elsewhere
        .wait_for_effect(WAIT_TIMEOUT, |reader| {
            let questions = QuestionLog::read(reader, run)?;
            Ok(questions.get(id).and_then(|asked| asked.answer.clone()))
        })
        .await?;
    match taken_up {
        Some((taken, by)) if taken == answer && by == sender => {
            message!("{id} of run {run}: {}", answer_action(&answer))
        }
        Some((taken, by)) => {
            let said = format!(
                "question `{id}` was answered a moment before: {} by {}",
                answer_action(&taken),
                printable(&by)
            );
            return Err(CliError::usage(said, format!("`kapell runs show {run}` tells how the run went on")));
        }
        None if !elsewhere.reader.pending_answers(run)?.contains(&asked.question.id) => {
            return Err(CliError::usage(
                format!("run {run} refused the answer to `{id}`"),
                format!("`kapell logs {run}` says why"),
            ));
        }
        None => match elsewhere.summary()?.driver {
            Some(driver) => message!("{id} of run {run}: the answer is kept, but {driver} has not taken it up yet"),
            None => message!("{id} of run {run}: the answer is kept; the next `kapell resume {run}` takes it up"),
        },
    }
    Ok(Exit::Success)
}

fn unknown_question(id: &str, questions: &QuestionLog) -> CliError {
    let open: Vec<String> =
        questions.open().map(|AskedQuestion { question, .. }| format!("`{}`", question.id)).collect();
    let help = match open.as_slice() {
        [] => "none is open".to_owned(),
        open => format!("open are {}", open.join(", ")),
    };
    CliError::usage(format!("the run has no question `{id}`"), help)
}
