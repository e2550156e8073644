//! Measures the requests of planning, so that a person sees what a slow model does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::llm::{Llm, Models, OnDelta};
use crate::model::{ChatError, ChatReply, ChatRequest};
use crate::ui::terminal::screen::Screen;
use crate::ui::terminal::status_line::show_text_while;
use crate::view::text::{count_text, format_elapsed};

/// The interval of lines about planning without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(20);

/// The average number of characters of a token.
const CHARACTERS_PER_TOKEN: u64 = 4;

/// The state of the current request.
#[derive(Debug, Default)]
pub(crate) struct PlanningMeter {
    /// The estimated tokens of its prompt; zero before the first request.
    prompt_tokens: AtomicU64,
    /// The characters of the reply so far.
    reply_characters: AtomicU64,
}

impl PlanningMeter {
    /// Describes what `model` does.
    fn text(&self, model: &str) -> String {
        let tokens = |number: u64| count_text(usize::try_from(number.max(1)).unwrap_or(usize::MAX), "token");
        let written = self.reply_characters.load(Ordering::Relaxed) / CHARACTERS_PER_TOKEN;
        match (self.prompt_tokens.load(Ordering::Relaxed), written) {
            (0, _) => format!("planning with {model}"),
            (prompt, 0) => format!("planning: {model} reads about {}", tokens(prompt)),
            (_, written) => format!("planning: {model} has written about {}", tokens(written)),
        }
    }

    /// Shows what `model` does until `work` ends: in the status line of a terminal, elsewhere in a line from time to time.
    pub(crate) async fn show_while<T>(
        self: &Arc<Self>,
        screen: &Screen,
        model: String,
        work: impl Future<Output = T>,
    ) -> T {
        if screen.capabilities().live {
            let meter = Arc::clone(self);
            return show_text_while(screen, move || meter.text(&model), work).await;
        }
        let start = Instant::now();
        let lines = async {
            loop {
                tokio::time::sleep(LINE_INTERVAL).await;
                screen.println(format!("{} … {}", self.text(&model), format_elapsed(start.elapsed())));
            }
        };
        tokio::select! {
            done = work => done,
            () = lines => unreachable!("the lines never end"),
        }
    }
}

/// Models whose requests are measured.
pub(crate) struct MeteredModels<'m> {
    /// The models.
    pub(crate) models: &'m Models,
    /// The meter.
    pub(crate) meter: Arc<PlanningMeter>,
}

#[async_trait::async_trait]
impl Llm for MeteredModels<'_> {
    async fn chat_stream(&self, request: &ChatRequest, on_delta: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        let prompt = request.estimate_tokens().saturating_sub(u64::from(request.max_tokens));
        self.meter.prompt_tokens.store(prompt, Ordering::Relaxed);
        self.meter.reply_characters.store(0, Ordering::Relaxed);
        let count = |piece: &str| {
            self.meter.reply_characters.fetch_add(piece.chars().count() as u64, Ordering::Relaxed);
            on_delta(piece);
        };
        self.models.chat_stream(request, &count).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_whether_the_model_reads_or_writes() {
        let meter = PlanningMeter::default();
        assert_eq!(meter.text("tiny"), "planning with tiny");
        meter.prompt_tokens.store(1_234, Ordering::Relaxed);
        assert_eq!(meter.text("tiny"), "planning: tiny reads about 1234 tokens");
        meter.reply_characters.store(40, Ordering::Relaxed);
        assert_eq!(meter.text("tiny"), "planning: tiny has written about 10 tokens");
    }
}
