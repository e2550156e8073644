//! What covers the live view while it is open: a prompt, and an answer that is being written.
//! Never writes by itself; the thread of the screen does.

use super::{Output, Screen, paint::Step};

/// An open prompt.
#[derive(Debug)]
pub struct Prompt {
    screen: Screen,
}

impl Prompt {
    pub(super) fn over(screen: Screen) -> Self {
        screen.shared().change(|state| {
            state.asking += 1;
            state.stale = true;
        });
        Self { screen }
    }

    /// Writes text as it is; the cursor stays behind it.
    pub fn write(&self, text: &str) {
        self.screen.shared().change(|state| state.queue.push_back(Step::Text(Output::Talk, text.to_owned())));
    }

    /// Waits until a panic has ended the screen, so that nobody can see the prompt.
    pub async fn failed(&self) {
        self.screen.failed().await;
    }

    /// Writes whole lines.
    pub fn lines<Line: AsRef<str>>(&self, lines: impl IntoIterator<Item = Line>) {
        let text = lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n");
        self.write(&text);
    }

    /// Notes that a line was typed, which the terminal has shown with its line break.
    pub fn typed(&self) {
        self.screen.shared().change(|state| state.queue.push_back(Step::Typed));
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        let shared = self.screen.shared();
        shared.change(|state| {
            state.asking -= 1;
            state.uncover(shared.abilities);
        });
    }
}

/// An answer that is being written.
#[derive(Debug)]
pub struct OpenAnswer {
    screen: Screen,
}

impl OpenAnswer {
    pub(super) fn over(screen: Screen) -> Self {
        screen.shared().change(|state| {
            state.answering += 1;
            state.stale = true;
        });
        Self { screen }
    }

    /// Writes more of it, as it is. What the terminal has not taken yet gathers in one piece.
    pub fn write(&self, more: &str) {
        self.screen.shared().change(|state| match state.queue.back_mut() {
            Some(Step::Text(Output::Answer, text)) => text.push_str(more),
            _ => state.queue.push_back(Step::Text(Output::Answer, more.to_owned())),
        });
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        let shared = self.screen.shared();
        shared.change(|state| {
            state.answering -= 1;
            state.uncover(shared.abilities);
        });
    }
}
