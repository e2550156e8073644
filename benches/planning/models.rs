//! Models for the benchmark: recorded answers, and a counter of requests and tokens.

use std::sync::Mutex;

use kapell::llm::{Llm, OnDelta};
use kapell::model::{ChatError, ChatPart, ChatReply, ChatRequest, Usage};

/// A model that returns recorded answers in order, and then the last one. It does not know the steps to a goal.
pub(crate) struct RecordedAnswers {
    answers: Mutex<Vec<String>>,
}

impl RecordedAnswers {
    pub(crate) fn new(answers: impl IntoIterator<Item = String>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()) }
    }
}

#[async_trait::async_trait]
impl Llm for RecordedAnswers {
    async fn chat_stream(&self, request: &ChatRequest, _: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        let is_plan = request.output.as_ref().is_none_or(|output| output.name != "steps");
        let mut answers = self.answers.lock().expect("no panic");
        let text = match (is_plan, answers.len()) {
            (false, _) => "{\"steps\": [], \"tools\": []}".to_owned(),
            (true, 0 | 1) => answers.first().cloned().unwrap_or_default(),
            (true, _) => answers.remove(0),
        };
        Ok(reply(text))
    }
}

/// Returns a complete reply.
pub(crate) fn reply(text: String) -> ChatReply {
    let (model, stop_reason) = ("recorded".to_owned(), "endTurn".to_owned());
    ChatReply { parts: vec![ChatPart::Text { text }], model, stop_reason, usage: None, cost_usd: None, warning: None }
}

/// A model whose requests and tokens are counted.
pub(crate) struct CountingModel<'m> {
    model: &'m dyn Llm,
    counted: Mutex<(u32, Usage)>,
}

impl<'m> CountingModel<'m> {
    pub(crate) fn new(model: &'m dyn Llm) -> Self {
        Self { model, counted: Mutex::default() }
    }

    /// Returns the number of requests for plans.
    pub(crate) fn plan_requests(&self) -> u32 {
        self.counted.lock().expect("no panic").0
    }

    pub(crate) fn usage(&self) -> Usage {
        self.counted.lock().expect("no panic").1
    }
}

#[async_trait::async_trait]
impl Llm for CountingModel<'_> {
    async fn chat_stream(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        let reply = self.model.chat_stream(request, on_delta).await?;
        let mut counted = self.counted.lock().expect("no panic");
        counted.0 += u32::from(request.output.as_ref().is_none_or(|output| output.name != "steps"));
        // Endpoints that report no usage are estimated with four characters a token.
        let texts = request.messages.iter().map(|message| message.text_content().len());
        let prompt = texts.sum::<usize>() + request.system.as_ref().map_or(0, String::len);
        let estimated = Usage { input_tokens: prompt as u64 / 4, output_tokens: reply.text().len() as u64 / 4 };
        let usage = reply.usage.unwrap_or(estimated);
        counted.1.input_tokens += usage.input_tokens;
        counted.1.output_tokens += usage.output_tokens;
        drop(counted);
        Ok(reply)
    }
}
