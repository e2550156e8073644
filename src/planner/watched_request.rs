//! Requests a reply, reports its tasks as they are written, and ends it once it only repeats itself.

use std::future::poll_fn;
use std::task::Poll;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::answer::streamed_reply::StreamedReply;
use super::planning::PlanningProgress;
use super::schema::answer_schema::{FormLimits, PlanForm};
use crate::llm::Llm;
use crate::model::text::truncate_chars;
use crate::model::{ChatError, ChatPart, ChatReply, ChatRequest, Usage};

/// The reason of a reply that was ended because it only repeats itself.
const REPETITION: &str = "repetition";
/// The average number of bytes of a token.
const BYTES_PER_TOKEN: u64 = 4;
/// The maximum length of a title in a report.
const MAX_TITLE_CHARS: usize = 80;

/// A reply, and how it ended.
pub(super) struct WatchedReply {
    /// The reply.
    pub(super) reply: ChatReply,
    /// How it ended.
    pub(super) end: ReplyEnd,
}

/// How a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyEnd {
    /// The endpoint ended it.
    Endpoint,
    /// It was ended, because the model only repeated itself.
    Repetition,
}

/// Requests a reply of `model`, and calls `on_task` with the number and the text of each task once it is complete. Where
/// the form has bounds, an endless reply is ended.
///
/// # Errors
/// Returns the error of the request.
pub(super) async fn request_reply(
    llm: &dyn Llm,
    request: &ChatRequest,
    (limits, model): (FormLimits, &str),
    on_task: &mut (dyn FnMut(usize, &Value) + Send),
) -> Result<WatchedReply, ChatError> {
    // A callback can only share what it changes.
    let streamed = Mutex::new(StreamedReply::default());
    let on_delta = |piece: &str| {
        streamed.lock().push(piece);
    };
    let mut chat = llm.chat_stream(request, &on_delta);
    let mut reported = 0;
    let ended = poll_fn(|context| {
        let polled = chat.as_mut().poll(context);
        let streamed = streamed.lock();
        for (index, task) in streamed.tasks().iter().enumerate().skip(reported) {
            on_task(index + 1, task);
        }
        reported = streamed.tasks().len();
        match polled {
            Poll::Ready(reply) => Poll::Ready(Some(reply)),
            Poll::Pending if limits.has_bounds && is_endless(&streamed, limits.form) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    if let Some(reply) = ended {
        return Ok(WatchedReply { reply: reply?, end: ReplyEnd::Endpoint });
    }
    // Cancels the request.
    drop(chat);
    let reply = ended_reply(&streamed.into_inner(), request, (limits.form, model));
    Ok(WatchedReply { reply, end: ReplyEnd::Repetition })
}

/// Returns whether a model writes nothing new. In the compact form, a task is never written twice.
fn is_endless(streamed: &StreamedReply, form: PlanForm) -> bool {
    streamed.is_endless() || (form == PlanForm::Compact && streamed.has_repeated_task())
}

/// Returns the reply that was ended. The endpoint reports no usage of it, so its tokens are estimated.
fn ended_reply(streamed: &StreamedReply, request: &ChatRequest, (form, model): (PlanForm, &str)) -> ChatReply {
    let text = match form {
        PlanForm::Full => streamed.text().to_owned(),
        PlanForm::Compact => json!({"tasks": streamed.tasks()}).to_string(),
    };
    let written = u64::try_from(streamed.text().len()).unwrap_or(u64::MAX) / BYTES_PER_TOKEN;
    let texts = request.messages.iter().map(|message| message.text_content().len());
    let read = texts.sum::<usize>() + request.system.as_ref().map_or(0, String::len);
    let read = u64::try_from(read).unwrap_or(u64::MAX) / BYTES_PER_TOKEN;
    ChatReply {
        parts: vec![ChatPart::Text { text }],
        model: model.to_owned(),
        stop_reason: REPETITION.to_owned(),
        usage: Some(Usage { input_tokens: read, output_tokens: written }),
        cost_usd: None,
        warning: None,
    }
}

/// Returns the progress that a complete task is.
pub(super) fn task_written(number: usize, task: &Value) -> PlanningProgress {
    let text = |key: &str| {
        let text = task.get(key).and_then(Value::as_str).unwrap_or_default();
        truncate_chars(text, MAX_TITLE_CHARS).into_owned()
    };
    PlanningProgress::TaskWritten { number, title: text("title"), tool: text("tool") }
}
