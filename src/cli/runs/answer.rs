//! `kapell answer`: answers a question of a run that any process may drive.

use std::time::Duration;

use clap::{ArgGroup, Args};

use super::call::parse_object;
use super::changed_call::DescribedCall;
use crate::cli::common::args::JournalArg;
use crate::cli::common::remote_run::RemoteRun;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::journal::ControlRequest;
use crate::mcp::{self, RedirectError};
use crate::model::{Answer, Form, JsonObject, Question, RunId};
use crate::ui::forms::form_prompt::AnswerInput;
use crate::ui::history::read_view;
use crate::view::RunView;
use crate::view::text::{answer_action, printable};

/// The longest wait until the process that drives the run has accepted the answer. It polls ten times a second.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("answer").required(true).multiple(true).args(["field", "arguments", "accept", "decline", "cancel", "redirect_url"])))]
pub(crate) struct AnswerArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(add = completion::runs())]
    run: String,
    /// The question, such as q1; `kapell questions` lists them
    #[arg(add = completion::questions())]
    question: String,
    /// Say yes, with this field of the form, or with this argument of the call that awaits approval; may be repeated
    #[arg(long, value_name = "NAME=VALUE", conflicts_with_all = ["decline", "cancel"])]
    field: Vec<String>,
    /// Say yes to the call with these arguments instead of those that it has; `--field` has precedence
    #[arg(long, value_name = "JSON", value_parser = parse_object, conflicts_with_all = ["decline", "cancel"])]
    arguments: Option<JsonObject>,
    /// Say yes
    #[arg(long, conflicts_with_all = ["decline", "cancel"])]
    accept: bool,
    /// With --accept: say yes to every further call of the same tool in this run too
    #[arg(long, requires = "accept", conflicts_with_all = ["field", "arguments", "decline", "cancel"])]
    all: bool,
    /// Say no
    #[arg(long, conflicts_with = "cancel")]
    decline: bool,
    /// Say neither: dismiss the question
    #[arg(long)]
    cancel: bool,
    /// Complete a login whose browser runs on another machine: the address at which the browser ended
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["field", "arguments", "accept", "decline", "cancel"])]
    redirect_url: Option<String>,
    #[command(flatten)]
    journal: JournalArg,
}

impl AnswerArgs {
    /// Returns whether the call that awaits approval gets other arguments.
    fn changes_arguments(&self) -> bool {
        self.arguments.is_some() || !self.field.is_empty()
    }

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

pub(crate) async fn answer(args: AnswerArgs) -> Result<Exit, CliError> {
    let remote = RemoteRun::find(&args.journal, &args.run)?;
    let (run, id) = (&remote.run, &args.question);
    let short = run.short();
    let view = read_view(&*remote.reader, run)?;
    let asked = view.question(id).ok_or_else(|| unknown_question(id, &view))?;
    if let Some((answer, by)) = &asked.answer {
        return Err(CliError::usage(
            "cli::already_answered",
            format!("question `{id}` was answered already: {} by {}", answer_action(answer), printable(by)),
            format!("`kapell questions {short}` lists the open questions"),
        ));
    }
    if let Some(address) = &args.redirect_url {
        return complete_login(run, &asked.question, address).await;
    }
    if args.arguments.is_some() && asked.question.call.is_none() {
        return Err(CliError::usage(
            "cli::no_call",
            format!("`--arguments` has no effect on question `{id}`: it is not an approval of a call"),
            "remove `--arguments`",
        ));
    }
    let answer = match &asked.question.call {
        Some(call) if args.changes_arguments() => {
            let described = DescribedCall::find(&*remote.reader, run, &view, call).await?;
            Answer::Accept { content: Some(described.changed(args.arguments.clone(), &args.field)?) }
        }
        _ => args.input().into_answer(&asked.question.form).map_err(|problem| {
            CliError::usage(
                "cli::invalid_answer",
                format!("invalid answer to question `{id}`: {}", printable(&problem)),
                format!("`kapell questions {short}` shows the fields of the question"),
            )
        })?,
    };
    if args.all && asked.question.call.is_none() && asked.question.item.is_none() {
        return Err(CliError::usage(
            "cli::not_an_item",
            format!("`--all` has no effect on question `{id}`: it is not an approval of a call"),
            "remove `--all`",
        ));
    }
    let request = ControlRequest::Answer { question: asked.question.id.clone(), answer: answer.clone(), all: args.all };
    let sender = remote.send(&request)?.to_string();
    let accepted = remote
        .wait_for_effect(WAIT_TIMEOUT, |reader| {
            let view = read_view(reader, run)?;
            Ok(view.question(id).and_then(|asked| asked.answer.clone()))
        })
        .await?;
    match accepted {
        Some((recorded, by)) if recorded == answer && by == sender => {
            message!("{id} of run {short}: {}", answer_action(&answer))
        }
        Some((recorded, by)) => {
            return Err(CliError::usage(
                "cli::already_answered",
                format!(
                    "question `{id}` was answered a moment earlier: {} by {}",
                    answer_action(&recorded),
                    printable(&by)
                ),
                format!("`kapell runs show {short}` shows the current state of the run"),
            ));
        }
        None if !remote.reader.pending_answers(run)?.contains(&asked.question.id) => {
            return Err(CliError::usage(
                "cli::answer_refused",
                format!("run `{short}` refused the answer to `{id}`"),
                format!("`kapell logs {short}` shows the reason"),
            ));
        }
        None => match remote.summary()?.driver {
            Some(driver) => message!("{id} of run {short}: the answer is saved, but {driver} has not read it yet"),
            None => message!("{id} of run {short}: the answer is saved; `kapell resume {short}` applies it"),
        },
    }
    Ok(Exit::Success)
}

/// Completes the login that the question asks for. The login withdraws its question when it is completed.
async fn complete_login(run: &RunId, question: &Question, address: &str) -> Result<Exit, CliError> {
    let page = match &question.form {
        Form::Url { url, .. } => url,
        Form::Approval | Form::Fields { .. } => "",
    };
    let (id, short) = (&question.id, run.short());
    mcp::complete_login(page, address).await.map_err(|error| {
        let help = match &error {
            RedirectError::NotALogin => format!("`kapell questions {short}` shows how to answer it"),
            RedirectError::OtherAddress(_) => {
                "copy the address from the browser after the login, and put it in quotation marks".to_owned()
            }
            _ => format!(
                "`kapell runs show {short}` shows the state of the run; `kapell resume {short}` begins another login"
            ),
        };
        CliError::usage("cli::login_not_completed", format!("question `{id}`: {}", printable(&error.to_string())), help)
    })?;
    message!("{id} of run {short}: logged in");
    Ok(Exit::Success)
}

fn unknown_question(id: &str, view: &RunView) -> CliError {
    let open: Vec<String> = view.open_questions().map(|asked| format!("`{}`", asked.question.id)).collect();
    let help = match open.as_slice() {
        [] => "the run has no open questions".to_owned(),
        open => format!("the open questions are {}", open.join(", ")),
    };
    CliError::usage("cli::unknown_question", format!("the run has no question `{id}`"), help)
}
