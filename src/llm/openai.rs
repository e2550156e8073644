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
use crate::model::{ChatError, ChatReply, ChatRequest, HumanDuration, LlmSpec, describe_unset};

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
    pub(super) rate_limiter: Arc<RateLimiter>,
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
        (body, on_delta): (&RequestBody, OnDelta<'_>),
        mut permit: RequestPermit,
    ) -> Result<Reply, LlmError> {
        let timeout = request.timeout.map_or(self.spec.timeout, |HumanDuration(timeout)| timeout);
        let exchange = async {
            let chats = self.client.chat();
            let response = tokio::time::timeout(timeout, chats.create_stream_byot::<_, Value>(&body.json)).await;
            let chunks = response.map_err(|_| LlmError::idle_timeout(timeout))??;
            permit.mark_answered();
            let accumulated = reply_accumulator::collect(chunks, on_delta, timeout).await?;
            let tokens_read = accumulated.tokens_read();
            Ok(Reply { chat: accumulated.reply(&self.spec, request, body)?, tokens_read })
        };
        exchange.await.inspect_err(|error: &LlmError| {
            if error.is_limit {
                permit.report_limit(error.retry_after());
            }
        })
    }

    /// Requests a reply, with retries.
    pub(super) async fn request_reply(
        &self,
        request: &ChatRequest,
        on_delta: OnDelta<'_>,
    ) -> Result<Reply, RequestFailure> {
        if let Some(variables) = describe_unset(&self.spec.unset_variables) {
            let message = format!(
                "model `{}` cannot be used: {variables}; set it in the environment or in `.env` beside the agents file",
                self.spec.model
            );
            let error = ChatError::Endpoint { message, status: None };
            return Err(RequestFailure { error, is_too_long: false });
        }
        let body = RequestBody::new(&self.spec, request);
        let body = body.map_err(|error| RequestFailure { error, is_too_long: false })?;
        let attempt = |permit| self.attempt(request, (&body, on_delta), permit);
        let deadlines = request.deadline.map(|HumanDuration(deadline)| deadline).into_iter().chain(self.spec.deadline);
        let limits = RetryLimits { deadline: deadlines.min(), single_try: request.single_try };
        retry(limits, &self.rate_limiter, attempt).await.map_err(|error| {
            let is_too_long = error.is_too_long;
            RequestFailure { error: self.to_chat_error(error), is_too_long }
        })
    }

    /// Returns a warning, once, if the endpoint read far fewer tokens of a prompt than were sent.
    ///
    /// The threshold is half of the estimated minimum, to allow for unusual tokenizers. Short prompts are never
    /// checked.
    fn warning(&self, request: &ChatRequest, read: Option<u64>) -> Option<String> {
        let read = read.filter(|read| *read > 0)?;
        let sent = request.min_tokens();
        if sent < MIN_CHECKED_TOKENS || read >= sent / 2 || self.has_warned.swap(true, Ordering::Relaxed) {
            return None;
        }
        let model = &self.spec.model;
        Some(format!(
            "model `{model}` read only {read} tokens of a prompt of at least {sent}: the endpoint truncated it without an \
             error; {MORE_CONTEXT}"
        ))
    }

    /// Adds the model, the endpoint, and the advice to an error.
    fn to_chat_error(&self, error: LlmError) -> ChatError {
        let advice = error.hint.as_ref().and_then(|hint| hint.text(&self.spec));
        let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        let message = format!("model `{}` at `{}` {}{advice}", self.spec.model, self.base_url(), error.message);
        let (message, status) = (self.endpoint.redact(&message), error.status);
        match error.retry {
            RetryHint::No => ChatError::Endpoint { message, status },
            RetryHint::Backoff | RetryHint::After(_) => {
                ChatError::Unavailable { message, status, retry_after: error.retry_after().map(HumanDuration) }
            }
        }
    }
}

#[async_trait::async_trait]
impl Llm for OpenAi {
    async fn chat_stream(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        let reply = self.request_reply(request, on_delta).await.map_err(|failure| failure.error)?;
        Ok(ChatReply { warning: self.warning(request, reply.tokens_read), ..reply.chat })
    }
}

/// A reply, and the number of prompt tokens that the endpoint read, if reported.
pub(super) struct Reply {
    chat: ChatReply,
    pub(super) tokens_read: Option<u64>,
}

/// The reason that a request has no reply.
#[derive(Debug)]
pub(super) struct RequestFailure {
    pub(super) error: ChatError,
    /// Set if the endpoint rejected the request as too long.
    pub(super) is_too_long: bool,
}

/// Limits on the duration and the number of attempts.
#[derive(Debug, Clone, Copy)]
struct RetryLimits {
    deadline: Option<Duration>,
    single_try: bool,
}

/// Retries until a reply arrives, a permanent failure occurs, or no time remains.
async fn retry<T, Attempt: Future<Output = Result<T, LlmError>>>(
    limits: RetryLimits,
    rate_limiter: &Arc<RateLimiter>,
    mut attempt: impl FnMut(RequestPermit) -> Attempt,
) -> Result<T, LlmError> {
    let ends_at = limits.deadline.map(|deadline| Instant::now() + deadline);
    let mut delays = RETRY_BACKOFF.build();
    let mut last: Option<LlmError> = None;
    loop {
        let attempted = async { attempt(rate_limiter.acquire().await).await };
        let Some(result) = before_deadline(ends_at, attempted).await else {
            return Err(LlmError::deadline_exceeded(limits.deadline.unwrap_or_default(), last));
        };
        let error = match result {
            Ok(reply) => return Ok(reply),
            Err(error) if limits.single_try || error.is_final => return Err(error),
            Err(error) => error,
        };
        let delay = match (error.retry, delays.next()) {
            (RetryHint::Backoff, Some(delay)) => delay,
            (RetryHint::After(delay), Some(_)) if delay <= MAX_SHARED_WAIT => delay,
            _ => return Err(error),
        };
        if ends_at.is_some_and(|ends_at| Instant::now() + delay >= ends_at) {
            return Err(error);
        }
        // After a rate limit, the limiter itself delays the next request.
        if !error.is_limit {
            tokio::time::sleep(delay).await;
        }
        last = Some(error);
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
