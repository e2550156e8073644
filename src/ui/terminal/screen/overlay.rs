//! Overlays that cover the live view while they are open: prompts, and answers that are being written.

use std::sync::Arc;

use super::device::OutputStream;
use super::paint::PaintStep;
use super::thread::ScreenThread;

/// Covers the live view until it is dropped.
#[derive(Debug)]
struct Overlay {
    thread: Arc<ScreenThread>,
    output: OutputStream,
}

impl Overlay {
    fn open(thread: Arc<ScreenThread>, output: OutputStream) -> Self {
        thread.shared.update(|state| {
            *state.open_overlays(output) += 1;
            state.is_stale = true;
        });
        Self { thread, output }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let shared = &self.thread.shared;
        shared.update(|state| {
            *state.open_overlays(self.output) -= 1;
            state.close_overlay(shared.capabilities);
        });
    }
}

/// An open prompt.
#[derive(Debug)]
pub struct OpenPrompt(Overlay);

impl OpenPrompt {
    pub(super) fn new(thread: Arc<ScreenThread>) -> Self {
        Self(Overlay::open(thread, OutputStream::Messages))
    }

    /// Writes text unchanged; the cursor stays at its end.
    pub fn write(&self, text: &str) {
        self.push(PaintStep::Text(OutputStream::Messages, text.to_owned()));
    }

    /// Waits until the screen thread panics, after which the prompt cannot be shown.
    pub async fn failed(&self) {
        self.0.thread.shared.failed.cancelled().await;
    }

    /// Writes complete lines.
    pub fn write_lines<Line: AsRef<str>>(&self, lines: impl IntoIterator<Item = Line>) {
        let text = lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n");
        self.write(&text);
    }

    /// Records that a line was typed, which the terminal echoed with its line break.
    pub fn record_input(&self) {
        self.push(PaintStep::LineBreakTyped);
    }

    fn push(&self, step: PaintStep) {
        self.0.thread.shared.update(|state| state.queue.push_back(step));
    }
}

/// An answer that is being written.
#[derive(Debug)]
pub struct OpenAnswer(Overlay);

impl OpenAnswer {
    pub(super) fn new(thread: Arc<ScreenThread>) -> Self {
        Self(Overlay::open(thread, OutputStream::Answer))
    }

    /// Appends text unchanged. Text that the terminal has not accepted yet is merged into one piece.
    pub fn write(&self, more: &str) {
        self.0.thread.shared.update(|state| match state.queue.back_mut() {
            Some(PaintStep::Text(OutputStream::Answer, text)) => text.push_str(more),
            _ => state.queue.push_back(PaintStep::Text(OutputStream::Answer, more.to_owned())),
        });
    }
}
