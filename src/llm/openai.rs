//! Client for an OpenAI-compatible endpoint. It always streams, and one deadline covers all attempts and delays.
//! The key is sent to the base URL only, and a reply that has begun is never requested again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config as _;
use backon::{BackoffBuilder, ExponentialBuilder};
use serde_json::Value;
use tokio::time::Instant;

use super::client::{Llm, OnDelta};
use super::error::{LlmError, RetryHint};
use super::rate_limiter::{MAX_SHARED_WAIT, RateLimiter, RequestPermit};
use super::reply_accumulator;
use super::request_body::{self, RequestBody};
use super::transport::{self, EndpointError, LlmEndpoint};
use crate::model::{ChatError, ChatReply, ChatRequest, HumanDuration, LlmSpec};

/// The delays if the endpoint names none: 0.5, 1, and 2 seconds, each plus a random jitter of up to the same length.
const RETRY_BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_factor(2.0)
    .with_max_times(3)
    .with_jitter();

/// The number of tokens below which a prompt fits every context.
const MIN_CHECKED_TOKENS: u64 = 2_000;

/// Advice for a context that is too small.
pub(super) const MORE_CONTEXT: &str = "start the server with a larger context (Ollama: the variable \
    `OLLAMA_CONTEXT_LENGTH`; llama.cpp: `--ctx-size`; vLLM: `--max-model-len`), or shorten the prompt";

/// A model behind an OpenAI-compatible endpoint.
pub struct OpenAi {
    spec: LlmSpec,
    endpoint: LlmEndpoint,
    client: Client<LlmEndpoint>,
    /// The rate limiter, shared with the other models of the endpoint.
    rate_limiter: Arc<RateLimiter>,
    /// Set once the user was warned that prompts are truncated.
    has_warned: AtomicBool,
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
    /// When the base URL, the key, or a header can never be sent.
    pub fn new(spec: LlmSpec) -> Result<Self, EndpointError> {
        let endpoint = LlmEndpoint::new(&spec)?;
        let http = endpoint.client()?;
        let service = tower::service_fn({
            let http = http.clone();
            move |request| transport::send(http.clone(), request)
        });
        let client = Client::build(http, endpoint.clone()).with_http_service(service);
        Ok(Self { spec, endpoint, client, rate_limiter: Arc::default(), has_warned: AtomicBool::default() })
    }

    /// Shares the rate limiter of another model.
    #[must_use]
    pub(super) fn with_shared_rate_limit(self, other: &Self) -> Self {
        Self { rate_limiter: Arc::clone(&other.rate_limiter), ..self }
    }

    /// Returns the configuration of the model.
    pub fn spec(&self) -> &LlmSpec {
        &self.spec
    }

    /// Returns the base URL without the query, which is safe to show.
    pub fn base_url(&self) -> &str {
        self.endpoint.api_base()
    }

    /// Checks that the model supports everything in the request.
    ///
    /// # Errors
    /// [`ChatError::Unsupported`] with what the model does not support.
    pub fn check_support(&self, request: &ChatRequest) -> Result<(), ChatError> {
        request_body::check_support(&self.spec, request)
    }

    /// Makes one request and reads the reply to its end.
    async fn attempt(
        &self,
        request: &ChatRequest,
        outgoing: OutgoingRequest<'_>,
        permit: RequestPermit,
    ) -> Result<Reply, LlmError> {
        let OutgoingRequest { body, on_delta } = outgoing;
        let timeout = request.timeout.map_or(self.spec.timeout, |HumanDuration(timeout)| timeout);
        let chats = self.client.chat();
        let begun = tokio::time::timeout(timeout, chats.create_stream_byot::<_, Value>(&body.json)).await;
        let chunks = match begun.map_err(|_| LlmError::idle_timeout(timeout))?.map_err(LlmError::from) {
            Ok(chunks) => chunks,
            Err(failed) => {
                if failed.is_limit {
                    permit.limited(failed.retry_after());
                }
                return Err(failed);
            }
        };
        let begun = permit.answered();
        let drafted = reply_accumulator::collect(chunks, on_delta, timeout).await;
        if let Err(failed) = &drafted
            && failed.is_limit
        {
            begun.limited(failed.retry_after());
        }
        let draft = drafted?;
        let read = draft.tokens_read();
        Ok(Reply { chat: draft.reply(&self.spec, request, body)?, read })
    }

    /// Requests a reply and returns the number of prompt tokens that were read, if the endpoint reports it.
    pub(super) async fn measure(&self, request: &ChatRequest) -> Result<Option<u64>, Unmeasured> {
        let asked = self.ask(request, &|_| {}).await;
        asked.map(|reply| reply.read).map_err(|unanswered| match unanswered {
            Unanswered::Failed(failed) if failed.is_too_long => Unmeasured::TooLong(self.to_chat_error(&failed)),
            Unanswered::Failed(failed) => Unmeasured::Other(self.to_chat_error(&failed)),
            Unanswered::Unsupported(error) => Unmeasured::Other(error),
        })
    }

    async fn ask(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<Reply, Unanswered> {
        let body = RequestBody::new(&self.spec, request).map_err(Unanswered::Unsupported)?;
        let attempt = |permit| self.attempt(request, OutgoingRequest { body: &body, on_delta }, permit);
        let deadlines = request.deadline.map(|HumanDuration(deadline)| deadline).into_iter().chain(self.spec.deadline);
        let limits = RetryLimits { deadline: deadlines.min(), single_try: request.single_try };
        retry(limits, &self.rate_limiter, attempt).await.map_err(Unanswered::Failed)
    }

    /// Returns a warning, once, if the endpoint read far fewer tokens of a prompt than were sent.
    ///
    /// The threshold is half of the estimated minimum, to allow for unusual tokenizers. Short prompts are never
    /// checked.
    fn warning(&self, request: &ChatRequest, read: Option<u64>) -> Option<String> {
        let read = read.filter(|read| *read > 0)?;
        let sent = request.least_tokens();
        if sent < MIN_CHECKED_TOKENS || read >= sent / 2 || self.has_warned.swap(true, Ordering::Relaxed) {
            return None;
        }
        let model = &self.spec.model;
        Some(format!(
            "model `{model}` read only {read} tokens of a prompt of at least {sent}: the endpoint truncated it without an \
             error; {MORE_CONTEXT}"
        ))
    }

    /// Converts a failure into an error that names the model, the endpoint, and the advice.
    fn to_chat_error(&self, failed: &LlmError) -> ChatError {
        let advice = failed.hint.as_ref().and_then(|advice| advice.text(&self.spec));
        let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        let message = format!("model `{}` at `{}` {}{advice}", self.spec.model, self.base_url(), failed.message);
        let (message, status) = (self.endpoint.redact(&message), failed.status);
        match failed.retry {
            RetryHint::No => ChatError::Endpoint { message, status },
            RetryHint::Backoff | RetryHint::After(_) => {
                ChatError::Unavailable { message, status, retry_after: failed.retry_after().map(HumanDuration) }
            }
        }
    }
}

/// A request in its wire form, and the callback for the text of the reply.
#[derive(Clone, Copy)]
struct OutgoingRequest<'a> {
    body: &'a RequestBody,
    on_delta: OnDelta<'a>,
}

#[async_trait::async_trait]
impl Llm for OpenAi {
    async fn chat_stream(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        match self.ask(request, on_delta).await {
            Ok(Reply { chat, read }) => Ok(ChatReply { warning: self.warning(request, read), ..chat }),
            Err(Unanswered::Unsupported(error)) => Err(error),
            Err(Unanswered::Failed(failed)) => Err(self.to_chat_error(&failed)),
        }
    }
}

/// A reply, and the number of prompt tokens that the endpoint read, if reported.
struct Reply {
    chat: ChatReply,
    read: Option<u64>,
}

/// The reason that a request has no reply.
enum Unanswered {
    /// The request was not sent.
    Unsupported(ChatError),
    Failed(LlmError),
}

/// The reason that the number of prompt tokens is unknown.
#[derive(Debug)]
pub(super) enum Unmeasured {
    /// The endpoint rejected the request as too long.
    TooLong(ChatError),
    Other(ChatError),
}

/// Limits on the duration and the number of attempts.
#[derive(Debug, Clone, Copy)]
struct RetryLimits {
    deadline: Option<Duration>,
    single_try: bool,
}

/// Retries until a reply arrives, a permanent failure occurs, or no time remains.
async fn retry<Tried, T>(
    limits: RetryLimits,
    gate: &Arc<RateLimiter>,
    mut attempt: impl FnMut(RequestPermit) -> Tried,
) -> Result<T, LlmError>
where
    Tried: Future<Output = Result<T, LlmError>>,
{
    let ends_at = limits.deadline.map(|deadline| Instant::now() + deadline);
    let limit = limits.deadline.unwrap_or_default();
    let mut pauses = RETRY_BACKOFF.build();
    let mut last: Option<LlmError> = None;
    loop {
        let Some(permit) = before_deadline(ends_at, gate.acquire()).await else {
            return Err(LlmError::deadline_exceeded(limit, last));
        };
        let Some(tried) = before_deadline(ends_at, attempt(permit)).await else {
            return Err(LlmError::deadline_exceeded(limit, last));
        };
        let failed = match tried {
            Ok(reply) => return Ok(reply),
            Err(failed) if limits.single_try || failed.is_final => return Err(failed),
            Err(failed) => failed,
        };
        let pause = match (failed.retry, pauses.next()) {
            (RetryHint::No, _) | (_, None) => return Err(failed),
            (RetryHint::Backoff, Some(pause)) => pause,
            (RetryHint::After(pause), Some(_)) if pause > MAX_SHARED_WAIT => return Err(failed),
            (RetryHint::After(pause), Some(_)) => pause,
        };
        if ends_at.is_some_and(|ends_at| Instant::now() + pause >= ends_at) {
            return Err(failed);
        }
        // After a rate limit, the limiter itself delays the next request.
        if !failed.is_limit {
            tokio::time::sleep(pause).await;
        }
        last = Some(failed);
    }
}

/// Returns the output of a future, or `None` if it is not ready by `ends_at`.
async fn before_deadline<T>(ends_at: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match ends_at {
        Some(ends_at) => tokio::time::timeout_at(ends_at, future).await.ok(),
        None => Some(future.await),
    }
}

#[cfg(test)]
mod tests;
