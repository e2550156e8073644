//! What covers the live view while it is open: a prompt, and an answer that is being written.
//! Never writes by itself; the thread of the screen does.

use super::{OutputStream, Screen, paint::PaintStep};

/// An open prompt.
#[derive(Debug)]
pub struct OpenPrompt {
    screen: Screen,
}

impl OpenPrompt {
    pub(super) fn new(screen: Screen) -> Self {
        screen.shared().update(|state| {
            state.open_prompts += 1;
            state.is_stale = true;
        });
        Self { screen }
    }

    /// Writes text as it is; the cursor stays behind it.
    pub fn write(&self, text: &str) {
        self.screen
            .shared()
            .update(|state| state.queue.push_back(PaintStep::Text(OutputStream::Messages, text.to_owned())));
    }

    /// Waits until a panic has ended the screen, so that nobody can see the prompt.
    pub async fn failed(&self) {
        self.screen.failed().await;
    }

    /// Writes whole lines.
    pub fn write_lines<Line: AsRef<str>>(&self, lines: impl IntoIterator<Item = Line>) {
        let text = lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n");
        self.write(&text);
    }

    /// Notes that a line was typed, which the terminal has shown with its line break.
    pub fn record_input(&self) {
        self.screen.shared().update(|state| state.queue.push_back(PaintStep::LineBreakTyped));
    }
}

impl Drop for OpenPrompt {
    fn drop(&mut self) {
        let shared = self.screen.shared();
        shared.update(|state| {
            state.open_prompts -= 1;
            state.close_overlay(shared.capabilities);
        });
    }
}

/// An answer that is being written.
#[derive(Debug)]
pub struct OpenAnswer {
    screen: Screen,
}

impl OpenAnswer {
    pub(super) fn new(screen: Screen) -> Self {
        screen.shared().update(|state| {
            state.open_answers += 1;
            state.is_stale = true;
        });
        Self { screen }
    }

    /// Writes more of it, as it is. What the terminal has not taken yet gathers in one piece.
    pub fn write(&self, more: &str) {
        self.screen.shared().update(|state| match state.queue.back_mut() {
            Some(PaintStep::Text(OutputStream::Answer, text)) => text.push_str(more),
            _ => state.queue.push_back(PaintStep::Text(OutputStream::Answer, more.to_owned())),
        });
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        let shared = self.screen.shared();
        shared.update(|state| {
            state.open_answers -= 1;
            state.close_overlay(shared.capabilities);
        });
    }
}
