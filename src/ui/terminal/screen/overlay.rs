//! Overlays that cover the live view while they are open: prompts, and answers that are being written.

use std::sync::Arc;

use super::device::OutputStream;
use super::paint::PaintStep;
use super::thread::ScreenThread;

/// An open prompt.
#[derive(Debug)]
pub struct OpenPrompt {
    thread: Arc<ScreenThread>,
}

impl OpenPrompt {
    pub(super) fn new(thread: Arc<ScreenThread>) -> Self {
        thread.shared.update(|state| {
            state.open_prompts += 1;
            state.is_stale = true;
        });
        Self { thread }
    }

    /// Writes text unchanged; the cursor stays at its end.
    pub fn write(&self, text: &str) {
        self.thread
            .shared
            .update(|state| state.queue.push_back(PaintStep::Text(OutputStream::Messages, text.to_owned())));
    }

    /// Waits until the screen thread panics, after which the prompt cannot be shown.
    pub async fn failed(&self) {
        self.thread.shared.failed.cancelled().await;
    }

    /// Writes complete lines.
    pub fn write_lines<Line: AsRef<str>>(&self, lines: impl IntoIterator<Item = Line>) {
        let text = lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n");
        self.write(&text);
    }

    /// Records that a line was typed, which the terminal echoed with its line break.
    pub fn record_input(&self) {
        self.thread.shared.update(|state| state.queue.push_back(PaintStep::LineBreakTyped));
    }
}

impl Drop for OpenPrompt {
    fn drop(&mut self) {
        let shared = &self.thread.shared;
        shared.update(|state| {
            state.open_prompts -= 1;
            state.close_overlay(shared.capabilities);
        });
    }
}

/// An answer that is being written.
#[derive(Debug)]
pub struct OpenAnswer {
    thread: Arc<ScreenThread>,
}

impl OpenAnswer {
    pub(super) fn new(thread: Arc<ScreenThread>) -> Self {
        thread.shared.update(|state| {
            state.open_answers += 1;
            state.is_stale = true;
        });
        Self { thread }
    }

    /// Appends text unchanged. Text that the terminal has not accepted yet is merged into one piece.
    pub fn write(&self, more: &str) {
        self.thread.shared.update(|state| match state.queue.back_mut() {
            Some(PaintStep::Text(OutputStream::Answer, text)) => text.push_str(more),
            _ => state.queue.push_back(PaintStep::Text(OutputStream::Answer, more.to_owned())),
        });
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        let shared = &self.thread.shared;
        shared.update(|state| {
            state.open_answers -= 1;
            state.close_overlay(shared.capabilities);
        });
    }
}
