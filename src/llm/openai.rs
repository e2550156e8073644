//! Asks an OpenAI-compatible endpoint, always as a stream, within one deadline that covers every retry.
//! Never sends the key anywhere but to the base URL, and never repeats a reply that had begun.

use std::time::Duration;

use async_openai::{Client, config::Config as _};
use backon::{BackoffBuilder, ExponentialBuilder};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Hear, Llm,
    body::{self, Body},
    draft,
    failed::{Again, Failed},
    transport::{self, Endpoint, EndpointError},
};
use crate::model::{ChatError, ChatReply, ChatRequest, LlmSpec};

/// The pauses where the endpoint names none: 0.5, 1 and 2 seconds, each plus up to as much again by chance.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(500))
    .with_factor(2.0)
    .with_max_times(3)
    .with_jitter();

/// The longest pause that an endpoint can ask for; a longer one fails at once.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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

    /// What is known of the model.
    pub fn spec(&self) -> &LlmSpec {
        &self.spec
    }

    /// Where it is, without the query: safe to show.
    pub fn base_url(&self) -> &str {
        self.endpoint.api_base()
    }

    /// Whether the model takes all that the request holds.
    ///
    /// # Errors
    /// [`ChatError::Unsupported`] with what it does not take.
    pub fn fits(&self, request: &ChatRequest) -> Result<(), ChatError> {
        body::fits(&self.spec, request)
    }

    /// One request, from its first byte to the last of its reply.
    async fn attempt(&self, request: &ChatRequest, body: &Body, hear: Hear<'_>) -> Result<ChatReply, Failed> {
        let chunks = self.client.chat().create_stream_byot::<_, Value>(&body.json).await.map_err(Failed::from)?;
        draft::collect(chunks, hear).await?.reply(&self.spec, request, body)
    }

    /// The failure in words: where, what, and what to do.
    fn explain(&self, failed: &Failed) -> ChatError {
        let advice = failed.advice.as_ref().and_then(|advice| advice.words(&self.spec.section(), &self.spec.dialect));
        let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        let message = format!("model `{}` at `{}` {}{advice}", self.spec.model, self.base_url(), failed.message);
        ChatError::Endpoint { message: self.endpoint.redact(&message), status: failed.status }
    }
}

#[async_trait::async_trait]
impl Llm for OpenAi {
    async fn chat_aloud(&self, request: &ChatRequest, hear: Hear<'_>) -> Result<ChatReply, ChatError> {
        let body = Body::new(&self.spec, request)?;
        let attempt = || self.attempt(request, &body, hear);
        persist(self.spec.timeout, attempt).await.map_err(|failed| self.explain(&failed))
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

#[cfg(test)]
mod tests;
