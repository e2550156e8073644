//! Answers, signals, and cancellations, through the control queue of a run.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::request_data::{json_response, read_json};
use crate::HostError;
use crate::journal::{ControlRequest, JournalError};
use crate::model::{Answer, Form, JsonObject, Question, QuestionId, RunId, RunStatus};
use crate::runtime::ResumableRun;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{ServeState, Shared, blocking};
use crate::system::process::RequestSender;
use crate::ui::forms::changed_arguments::check_arguments;
use crate::ui::forms::form_prompt::AnswerInput;
use crate::view::run_view::AgentConnection;
use crate::view::text::{answer_action, printable};

/// The longest wait until the process that drives a run has accepted a request.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval between looks at the effect of a request.
const EFFECT_INTERVAL: Duration = Duration::from_millis(40);

/// An answer of a page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerBody {
    action: AnswerAction,
    /// The typed text of each field.
    #[serde(default)]
    fields: Map<String, Value>,
    /// Set to approve all further calls like it.
    #[serde(default)]
    all: bool,
    /// The changed arguments of a call.
    #[serde(default)]
    arguments: Option<JsonObject>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum AnswerAction {
    Accept,
    Decline,
    Cancel,
}

impl AnswerBody {
    /// Returns the answer to a question.
    fn into_request(self, question: &Question) -> Result<ControlRequest, PageApiError> {
        let invalid = |problem: String| {
            PageApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "serve::invalid_answer", printable(&problem))
        };
        let id = question.id.clone();
        let all = self.all && self.action == AnswerAction::Accept;
        if all && question.call.is_none() && question.item.is_none() {
            return Err(invalid("the question is not an approval of a call".to_owned()));
        }
        if let Some(arguments) = self.arguments {
            let is_possible = self.action == AnswerAction::Accept
                && matches!(question.form, Form::Approval)
                && question.call.as_ref().is_some_and(|call| call.arguments.is_object());
            if !is_possible || all {
                return Err(invalid("only the arguments of one approved call can be changed".to_owned()));
            }
            let checked = match &question.call {
                Some(call) => check_arguments(call, arguments).map_err(|problems| invalid(problems.join("; ")))?,
                None => arguments,
            };
            let answer = Answer::Accept { content: Some(Value::Object(checked)) };
            return Ok(ControlRequest::Answer { question: id, answer, all: false });
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let input = match self.action {
            AnswerAction::Accept => {
                AnswerInput::Accept(self.fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect())
            }
            AnswerAction::Decline => AnswerInput::Decline,
            AnswerAction::Cancel => AnswerInput::Cancel,
        };
        let answer = input.into_answer(&question.form).map_err(invalid)?;
        Ok(ControlRequest::Answer { question: id, answer, all })
    }
}

/// Sends a request to a run. Returns its sender as the run will record it.
///
/// # Errors
/// Fails if this process must not act for a person, or if the run accepts no requests.
fn send(state: &ServeState, run: &RunId, request: &ControlRequest) -> Result<String, PageApiError> {
    let reader = state.settings.store.open_reader()?;
    let sender = RequestSender::current().from_page();
    let driver = reader.driver(run)?.and_then(|driver| driver.pid);
    if let Some(reason) = sender.objection(driver.as_slice()) {
        return Err(PageApiError::forbidden(
            "serve::not_a_person",
            &format!("this server must not act for a person: {reason}"),
            "start `kapell serve` in your own terminal",
        ));
    }
    state.settings.store.control_queue(run).send(request, &sender)?;
    Ok(sender.to_string())
}

/// The effect of an answer.
enum AnswerEffect {
    /// The question has this answer, by this author.
    Answered(Answer, String),
    /// The run refused it.
    Refused,
    /// It is saved for the next process.
    Saved,
    /// The process has not read it yet.
    Pending,
}

/// Answers a question, and waits until the run has accepted it.
pub(super) async fn answer(
    State(state): State<Shared>,
    Path((name, question)): Path<(String, String)>,
    request: Request,
) -> Result<Response<Body>, PageApiError> {
    let body: AnswerBody = read_json(request.into_body()).await?;
    let id = QuestionId::from(question);
    let asked = id.clone();
    let (run, sent, by) = blocking(&state, move |state| {
        let (run, page) = state.open(&name)?;
        let question = find_open_question(page.lock().page().view(), &asked)?;
        let request = body.into_request(&question)?;
        let by = send(state, &run, &request)?;
        Ok((run, request, by))
    })
    .await?;
    let ControlRequest::Answer { answer: sent, all, .. } = sent else {
        return Err(PageApiError::internal("the request is not an answer"));
    };
    let give_up = Instant::now() + EFFECT_TIMEOUT;
    let effect = loop {
        let (run, id) = (run.clone(), id.clone());
        let effect = blocking(&state, move |state| answer_effect(state, &run, &id)).await?;
        match effect {
            AnswerEffect::Pending if Instant::now() < give_up => sleep(EFFECT_INTERVAL).await,
            effect => break effect,
        }
    };
    let short = run.short();
    let (status, message) = match effect {
        AnswerEffect::Answered(recorded, author) if author == by && (all || recorded == sent) => {
            ("answered", format!("{id}: {}", answer_action(&recorded)))
        }
        AnswerEffect::Answered(recorded, author) => (
            "refused",
            format!("{id} was answered a moment earlier: {} by {}", answer_action(&recorded), printable(&author)),
        ),
        AnswerEffect::Refused => {
            ("refused", format!("run {short} refused the answer to {id}; its events have the reason"))
        }
        AnswerEffect::Saved => ("saved", format!("the answer is saved; resuming run {short} applies it")),
        AnswerEffect::Pending => ("saved", "the answer is saved, but the run has not read it yet".to_owned()),
    };
    json_response(StatusCode::OK, &json!({"status": status, "message": message}))
}

fn find_open_question(view: &crate::view::RunView, id: &QuestionId) -> Result<std::sync::Arc<Question>, PageApiError> {
    let asked = view.question(id.as_str()).ok_or_else(|| {
        PageApiError::not_found(
            "serve::unknown_question",
            format!("the run has no question `{}`", printable(id.as_str())),
        )
    })?;
    match &asked.answer {
        None => {
            describe_call(view, &asked.question);
            Ok(std::sync::Arc::clone(&asked.question))
        }
        Some((answer, by)) => Err(PageApiError::new(
            StatusCode::CONFLICT,
            "serve::already_answered",
            format!("question `{id}` was answered already: {} by {}", answer_action(answer), printable(by)),
        )),
    }
}

/// Adds the schema of the arguments to a call that awaits approval, if its agent has described the tool in this run.
fn describe_call(view: &crate::view::RunView, question: &Question) {
    let Some(call) = &question.call else { return };
    if let Some(AgentConnection::Connected(info)) = view.agents().get(&call.agent)
        && let Some(tool) = info.tool(&call.tool)
    {
        call.input_schema.set(&tool.input_schema);
    }
}

fn answer_effect(state: &ServeState, run: &RunId, id: &QuestionId) -> Result<AnswerEffect, PageApiError> {
    let page = state.pages.open(run)?;
    let page = page.lock();
    if let Some((answer, by)) = page.page().view().question(id.as_str()).and_then(|asked| asked.answer.clone()) {
        return Ok(AnswerEffect::Answered(answer, by));
    }
    if !page.reader().pending_answers(run)?.contains(id) {
        // The event that removed it may have been written since the page was updated.
        drop(page);
        let page = state.pages.open(run)?;
        let answer = page.lock().page().view().question(id.as_str()).and_then(|asked| asked.answer.clone());
        return Ok(answer.map_or(AnswerEffect::Refused, |(answer, by)| AnswerEffect::Answered(answer, by)));
    }
    Ok(if page.driver().is_none() { AnswerEffect::Saved } else { AnswerEffect::Pending })
}

/// The data of a signal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalBody {
    #[serde(default)]
    data: Value,
}

/// Sends a signal. One that no task waits for yet is kept for the first one that does.
pub(super) async fn signal(
    State(state): State<Shared>,
    Path((name, signal)): Path<(String, String)>,
    request: Request,
) -> Result<Response<Body>, PageApiError> {
    let SignalBody { data } = read_json(request.into_body()).await?;
    let run = blocking(&state, move |state| {
        let run = state.find_run(&name)?;
        send(state, &run, &ControlRequest::Signal { name: signal, data })?;
        Ok(run)
    });
    let message = format!("the signal is sent to run {}", run.await?.short());
    json_response(StatusCode::OK, &json!({"message": message}))
}

/// Cancels a run, whether or not a process drives it.
pub(super) async fn cancel(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Response<Body>, PageApiError> {
    let handle = Handle::current();
    let cancelled = blocking(&state, move |state| {
        let run = state.find_run(&name)?;
        let is_ended = cancel_here(state, &run, &handle)?;
        if !is_ended {
            send(state, &run, &ControlRequest::Cancel)?;
        }
        Ok((run, is_ended))
    });
    let (run, is_ended) = cancelled.await?;
    let short = run.short();
    if is_ended {
        return json_response(StatusCode::OK, &json!({"message": format!("run {short} is cancelled")}));
    }
    let give_up = Instant::now() + EFFECT_TIMEOUT;
    loop {
        let asked = run.clone();
        let (status, driver) = blocking(&state, move |state| {
            let summary = state.settings.store.open_reader()?.run(&asked)?;
            Ok((summary.status, summary.driver))
        })
        .await?;
        let message = match (status, driver) {
            (RunStatus::Cancelled, _) => format!("run {short} is cancelled"),
            (status, _) if !status.is_unfinished() => format!("run {short} ended before: {status}"),
            (_, Some(_)) if Instant::now() < give_up => {
                sleep(EFFECT_INTERVAL).await;
                continue;
            }
            (_, Some(_)) => format!("run {short} is being cancelled"),
            (_, None) => format!("agents may still be working on calls of run {short}; resuming it cancels them"),
        };
        return json_response(StatusCode::OK, &json!({"message": message}));
    }
}

/// Cancels a run that no process drives. Returns whether it has ended.
fn cancel_here(state: &ServeState, run: &RunId, handle: &Handle) -> Result<bool, PageApiError> {
    let sender = RequestSender::current().from_page();
    if let Some(reason) = sender.objection(&[]) {
        return Err(PageApiError::forbidden(
            "serve::not_a_person",
            &reason,
            "start `kapell serve` in your own terminal",
        ));
    }
    let store = &*state.settings.store;
    match ResumableRun::load(store, run, Some(&state.settings.content_root), false) {
        Ok(resumable) => handle.block_on(resumable.cancel(store, sender.to_string())).map_err(host_error),
        Err(HostError::Journal(JournalError::Driven { .. })) => Ok(false),
        Err(error) => Err(host_error(error)),
    }
}

fn host_error(error: HostError) -> PageApiError {
    match error {
        HostError::Journal(error) => error.into(),
        HostError::Ended { status, .. } => {
            PageApiError::new(StatusCode::CONFLICT, "journal::ended", format!("the run has already ended: {status}"))
        }
        other => PageApiError::internal(other),
    }
}
