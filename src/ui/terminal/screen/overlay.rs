//! What is open on the screen until its owner drops it: prompts, answers that are being written, and pauses.

use std::sync::Arc;

use super::device::OutputStream;
use super::frame::{InputLine, PromptBlock, PromptStatus};
use super::paint::PaintStep;
use super::state::ScreenState;
use super::thread::ScreenThread;

/// An open prompt. A live screen shows its lines and the line that is typed below the live view; another screen appends
/// them.
#[derive(Debug)]
pub struct OpenPrompt {
    thread: Arc<ScreenThread>,
    id: u64,
}

impl OpenPrompt {
    pub(super) fn new(thread: Arc<ScreenThread>) -> Self {
        let is_live = thread.shared.capabilities.live;
        let id = thread.shared.update(|state| {
            state.last_prompt += 1;
            if is_live {
                state.prompts.push_back(PromptBlock { id: state.last_prompt, ..PromptBlock::default() });
                state.is_stale = true;
            }
            state.last_prompt
        });
        Self { thread, id }
    }

    /// Waits until the screen thread panics, after which the prompt cannot be shown.
    pub async fn failed(&self) {
        self.thread.shared.failed.cancelled().await;
    }

    /// Writes complete lines.
    pub fn write_lines<Line: AsRef<str>>(&self, lines: impl IntoIterator<Item = Line>) {
        if self.is_live() {
            let lines: Vec<String> = lines.into_iter().map(|line| line.as_ref().to_owned()).collect();
            self.change(|prompt| prompt.lines.extend(lines));
            return;
        }
        let text = lines.into_iter().fold(String::new(), |text, line| text + line.as_ref() + "\n");
        self.push(PaintStep::Text(OutputStream::Messages, text));
    }

    /// Shows the line that is being typed. A screen that is not live shows its label, and the terminal echoes the input.
    pub fn show_input(&self, input: InputLine) {
        if self.is_live() {
            self.change(|prompt| prompt.input = Some(input));
        } else {
            self.push(PaintStep::Label(input.label));
        }
    }

    /// Ends the line that was typed, which stays as a line of the prompt.
    pub fn end_input(&self) {
        if self.is_live() {
            self.change(|prompt| prompt.lines.extend(prompt.input.take().map(|input| input.shown())));
        } else {
            self.push(PaintStep::LineBreakTyped);
        }
    }

    /// Shows a message about the last key until the next call, on a live screen.
    pub fn show_notice(&self, notice: Option<String>) {
        self.change(|prompt| prompt.notice = notice);
    }

    /// Shows status lines above the input, which are updated ten times a second on a live screen.
    pub fn show_status(&self, status: PromptStatus) {
        if self.is_live() {
            self.change(|prompt| prompt.status = Some(status));
        } else {
            self.write_lines(status());
        }
    }

    /// Pauses the screen while another program uses the terminal.
    pub fn pause_screen(&self) -> ScreenPause {
        ScreenPause::new(Arc::clone(&self.thread))
    }

    /// Rings the bell.
    pub fn ring(&self) {
        self.push(PaintStep::Bell);
    }

    fn is_live(&self) -> bool {
        self.thread.shared.capabilities.live
    }

    fn change(&self, change: impl FnOnce(&mut PromptBlock)) {
        self.thread.shared.update(|state| state.change_prompt(self.id, change));
    }

    fn push(&self, step: PaintStep) {
        self.thread.shared.update(|state| push_step(state, step));
    }
}

fn push_step(state: &mut ScreenState, step: PaintStep) {
    state.queue.push_back(step);
    state.is_prompt_changed = true;
}

impl Drop for OpenPrompt {
    fn drop(&mut self) {
        self.thread.shared.update(|state| {
            let Some(at) = state.prompts.iter().position(|prompt| prompt.id == self.id) else {
                return push_step(state, PaintStep::EndText);
            };
            let Some(prompt) = state.prompts.remove(at) else { return };
            // A question that was withdrawn while a person was typing disappears.
            let lines = if prompt.input.is_none() { prompt.lines } else { Vec::new() };
            push_step(state, PaintStep::EndPrompt { id: self.id, lines });
            state.is_stale = true;
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
        self.thread.shared.update(|state| {
            state.open_answers -= 1;
            state.close_answer();
        });
    }
}

/// A pause of the screen, while another program uses the terminal.
#[derive(Debug)]
pub struct ScreenPause {
    thread: Arc<ScreenThread>,
}

impl ScreenPause {
    pub(super) fn new(thread: Arc<ScreenThread>) -> Self {
        thread.shared.update(|state| {
            state.pauses += 1;
            state.is_stale = true;
        });
        thread.shared.wait_while(|state| !state.is_paused);
        Self { thread }
    }
}

impl Drop for ScreenPause {
    fn drop(&mut self) {
        self.thread.shared.update(|state| {
            state.pauses -= 1;
            if state.pauses == 0 {
                state.is_paused = false;
                state.is_stale = true;
            }
        });
    }
}
