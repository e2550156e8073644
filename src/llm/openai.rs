//! Asks an OpenAI-compatible endpoint, always as a stream, within one deadline that covers every retry.
//! Never sends the key anywhere but to the base URL, and never repeats a reply that had begun.

use std::time::Duration;

use async_openai::{
    Client,
    error::{OpenAIError, StreamError},
};
use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{Stream, StreamExt};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Llm,
    transport::{self, Endpoint, EndpointError, Refusal},
    wire::{Body, Chunk, Trouble, stops},
};
use crate::model::{ChatError, ChatPart, ChatReply, ChatRequest, LlmSpec};

/// The pauses where the endpoint names none: 0.5, 1 and 2 seconds, each plus up to as much again by chance.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_factor(2.0)
    .with_max_times(3)
    .with_jitter();

/// The longest pause that an endpoint can ask for; a longer one fails at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Most stop sequences that endpoints take.
const MOST_STOPS: usize = 4;

/// A model behind an OpenAI-compatible endpoint.
pub struct OpenAi {
    spec: LlmSpec,
    endpoint: Endpoint,
    client: Client<Endpoint>,
}

impl std::fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OpenAi").field(&self.spec).finish()
    }
}

impl OpenAi {
    /// Sets up the client; sends nothing.
    ///
    /// # Errors
    /// When the base URL, the key or a header can never be sent.
    pub fn new(spec: LlmSpec) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::new(&spec)?;
        let http = endpoint.client()?;
        let service = tower::service_fn({
            let http = http.clone();
            move |request| transport::send(http.clone(), request)
        });
        let client = Client::build(http, endpoint.clone()).with_http_service(service);
        Ok(Self { spec, endpoint, client })
    }

    /// One request, from its first byte to the last of its reply.
    async fn attempt(&self, request: &ChatRequest) -> Result<ChatReply, Failed> {
        let body = Body::new(&self.spec, request);
        let chunks = self.client.chat().create_stream_byot::<_, Value>(body).await.map_err(Failed::from)?;
        let mut draft = collect(chunks).await?;
        let model = draft.model.take().filter(|model| !model.is_empty());
        Ok(draft.reply(request, model.unwrap_or_else(|| self.spec.model.clone())))
    }

    /// The failure in words: where, what, and what to do.
    fn explain(&self, failed: &Failed) -> ChatError {
        let advice = failed.advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        let message = format!(
            "model `{}` at `{}` {}{advice}",
            self.spec.model,
            async_openai::config::Config::api_base(&self.endpoint),
            failed.message
        );
        ChatError::Endpoint { message: self.endpoint.redact(&message), status: failed.status }
    }
}

#[async_trait::async_trait]
impl Llm for OpenAi {
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        let stops = stops(request).count();
        if stops > MOST_STOPS {
            let message = format!("the request has {stops} stop sequences; at most {MOST_STOPS} can be asked for");
            return Err(ChatError::Unsupported { message });
        }
        persist(self.spec.timeout, || self.attempt(request)).await.map_err(|failed| self.explain(&failed))
    }
}

/// Tries until there is a reply, a failure that another try would not mend, or no time left.
async fn persist<Tried>(limit: Duration, mut attempt: impl FnMut() -> Tried) -> Result<ChatReply, Failed>
where
    Tried: Future<Output = Result<ChatReply, Failed>>,
{
    let deadline = Instant::now() + limit;
    let mut pauses = PAUSES.build();
    let mut last: Option<Failed> = None;
    loop {
        let Ok(tried) = tokio::time::timeout_at(deadline, attempt()).await else {
            return Err(Failed::late(limit, last));
        };
        let failed = match tried {
            Ok(reply) => return Ok(reply),
            Err(failed) => failed,
        };
        let pause = match (failed.again, pauses.next()) {
            (Again::No, _) | (_, None) => return Err(failed),
            (Again::Later, Some(pause)) => pause,
            (Again::After(pause), Some(_)) if pause > LONGEST_PAUSE => return Err(failed),
            (Again::After(pause), Some(_)) => pause,
        };
        if Instant::now() + pause >= deadline {
            return Err(failed);
        }
        last = Some(failed);
        tokio::time::sleep(pause).await;
    }
}

/// Whether and when another try may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Later,
    After(Duration),
}

/// A try without a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failed {
    /// What the endpoint did: a predicate, such as `answered 404 Not Found: no such model`.
    message: String,
    status: Option<u16>,
    again: Again,
    /// What to do about it.
    advice: Option<&'static str>,
}

impl Failed {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: None, again: Again::No, advice: None }
    }

    /// An answer with `status`, of HTTP or in the body of a success.
    fn answered(status: Option<u16>, trouble: &Trouble) -> Self {
        let status_text = status.map(|status| {
            let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
        });
        let head = format!("answered {}", status_text.as_deref().unwrap_or("with an error"));
        let message = if trouble.message.is_empty() { head } else { format!("{head}: {}", trouble.message) };
        let passing = matches!(status, Some(408 | 409 | 429 | 500..=599)) && !trouble.is_out_of_credit();
        let again = if passing { Again::Later } else { Again::No };
        Self { status, again, advice: advice(status, trouble), ..Self::new(message) }
    }

    fn late(limit: Duration, last: Option<Self>) -> Self {
        let limit = crate::model::Span(limit);
        let earlier = last.as_ref().map(|last| format!("; before that it {}", last.message)).unwrap_or_default();
        Self {
            status: last.and_then(|last| last.status),
            advice: Some("a higher `timeout` in [llm] allows for more"),
            ..Self::new(format!("gave no reply within {limit}{earlier}"))
        }
    }
}

/// What to do about an answer with `status`.
fn advice(status: Option<u16>, trouble: &Trouble) -> Option<&'static str> {
    if trouble.is_out_of_credit() {
        return Some("the account has no credit left");
    }
    match status? {
        400 if trouble.message.contains("max_completion_tokens") => {
            Some("set `max_tokens_field = \"max_completion_tokens\"` in [llm]")
        }
        401 | 403 => Some("check `api_key_env_var` in [llm]"),
        402 => Some("the account has no credit left"),
        404 => Some("check `base_url` and `model` in [llm]"),
        429 => Some("it limits how much may be asked; try again later"),
        _ => None,
    }
}

impl From<OpenAIError> for Failed {
    fn from(error: OpenAIError) -> Self {
        let error = match error {
            OpenAIError::Boxed(boxed) => match boxed.downcast::<Refusal>() {
                Ok(refusal) => return (*refusal).into(),
                Err(other) => OpenAIError::Boxed(other),
            },
            other => other,
        };
        match error {
            OpenAIError::JSONDeserialize(_, content) => {
                Self::new(format!("sent what is not JSON: {}", Trouble::from_body(content.as_bytes()).message))
            }
            OpenAIError::StreamError(stream) => match *stream {
                StreamError::EventStream(message) => Self::new(format!("broke off its reply: {message}")),
                other => Self::new(format!("broke off its reply: {other}")),
            },
            other => Self::new(format!("could not be asked: {}", transport::cause(&other))),
        }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Status { status, location: Some(location), .. } if (300..400).contains(&status) => {
                let message = format!("answered {status}, a redirect to `{location}`, which is not followed");
                let advice = Some("set `base_url` in [llm] to where it really is");
                Self { status: Some(status), advice, ..Self::new(message) }
            }
            Refusal::Status { status, trouble, wait, .. } => {
                let failed = Self::answered(Some(status), &trouble);
                match (failed.again, wait) {
                    (Again::Later, Some(wait)) => {
                        let asked = crate::model::Span(wait);
                        let message = format!("{} (asks to wait {asked})", failed.message);
                        Self { message, again: Again::After(wait), ..failed }
                    }
                    _ => failed,
                }
            }
            Refusal::WebPage { status, message } => Self {
                status: Some(status),
                advice: Some("check `base_url` in [llm]"),
                ..Self::new(format!("answered {status} with {message} instead of JSON"))
            },
            Refusal::Unreachable { message } => Self {
                again: Again::Later,
                advice: Some("is it running? check `base_url` in [llm]"),
                ..Self::new(format!("cannot be reached: {message}"))
            },
            Refusal::Lost { message } => Self::new(format!("closed the connection before it answered: {message}")),
        }
    }
}

/// A reply as far as it has come.
#[derive(Debug, Default)]
struct Draft {
    text: String,
    refusal: String,
    model: Option<String>,
    finish_reason: Option<String>,
    stop_reason: Value,
    usage: Option<crate::model::Usage>,
    /// Whether a whole message came, rather than parts of one.
    is_whole: bool,
}

impl Draft {
    fn add(&mut self, chunk: Chunk) {
        self.model = chunk.model.or(self.model.take());
        self.usage = chunk.usage.and_then(|tokens| tokens.usage()).or(self.usage);
        for choice in chunk.choices.into_iter().filter(|choice| choice.index.unwrap_or(0) == 0) {
            self.is_whole |= choice.message.is_some();
            if let Some(part) = choice.delta.or(choice.message) {
                self.text.push_str(&part.text());
                self.refusal.push_str(part.refusal.as_deref().unwrap_or_default());
            }
            self.finish_reason = choice.finish_reason.filter(|word| !word.is_empty()).or(self.finish_reason.take());
            if !choice.stop_reason.is_null() {
                self.stop_reason = choice.stop_reason;
            }
        }
    }

    /// The reply, with `stopReason` in MCP's words where they fit and in the provider's own where not.
    fn reply(self, request: &ChatRequest, model: String) -> ChatReply {
        let refused = self.text.is_empty() && !self.refusal.is_empty();
        let at_stop = self.stop_reason.as_str().is_some_and(|at| stops(request).any(|stop| stop == at));
        let stop_reason = match self.finish_reason.as_deref() {
            _ if refused => "refusal",
            Some("length" | "max_tokens") => "maxTokens",
            Some("stop") if at_stop => "stopSequence",
            Some("stop_sequence") => "stopSequence",
            Some("stop" | "end_turn" | "eos") => "endTurn",
            Some(word) => word,
            None => "unknown",
        };
        ChatReply {
            stop_reason: stop_reason.to_owned(),
            parts: vec![ChatPart::Text { text: if refused { self.refusal } else { self.text } }],
            model,
            usage: self.usage,
            cost_usd: None,
        }
    }
}

/// Reads the stream to its end. A stream that ends without a finish reason was cut, and its text is no answer.
async fn collect(mut chunks: impl Stream<Item = Result<Value, OpenAIError>> + Unpin) -> Result<Draft, Failed> {
    let mut draft = Draft::default();
    let mut began = false;
    while let Some(chunk) = chunks.next().await {
        let chunk = Chunk::read(chunk?);
        if let Some(error) = &chunk.error {
            let trouble = Trouble::read(error);
            let failed = Failed::answered(trouble.status, &trouble);
            return Err(if began { Failed { again: Again::No, ..failed } } else { failed });
        }
        draft.add(chunk);
        began |= !draft.text.is_empty();
    }
    match draft {
        draft if draft.finish_reason.is_some() || draft.is_whole => Ok(draft),
        draft if draft.text.is_empty() => Err(Failed::new("ended its reply before it began")),
        draft => Err(Failed::new(format!("broke off its reply after {} characters", draft.text.chars().count()))),
    }
}

#[cfg(test)]
mod tests;
