//! The state that the handles of a screen share with its thread.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::device::ScreenCapabilities;
use super::frame::{FrameParts, LiveRegion, PromptBlock};
use super::paint::PaintStep;
use crate::view::text::count_text;

/// Limits the bytes of lines that wait to be written: tens of thousands of lines.
///
/// If the output is stalled, further lines are counted and dropped. A run never waits for its reader, and the journal
/// has every event.
pub(super) const MAX_QUEUED_BYTES: usize = 1 << 22;

/// Limits the bytes of lines that wait for the next frame. Beyond that, they are written immediately.
pub(super) const MAX_DEFERRED_BYTES: usize = 1 << 17;

/// The maximum number of lines that an open answer holds back. Beyond that, they are written despite the answer.
pub(super) const MAX_HELD_LINES: usize = 256;

pub(super) struct ScreenShared {
    pub(super) capabilities: ScreenCapabilities,
    /// Held briefly, and never while writing or drawing.
    pub(super) state: Mutex<ScreenState>,
    /// Signals that the thread has work.
    pub(super) has_work: Condvar,
    /// Signals that the thread has written.
    pub(super) drained: Condvar,
    /// Cancelled when the thread has panicked, since queued output may be lost.
    pub(super) failed: CancellationToken,
}

#[derive(Default)]
pub(super) struct ScreenState {
    /// The steps to write, in order.
    pub(super) queue: VecDeque<PaintStep>,
    /// The bytes of the lines in `queue`.
    pub(super) queued_bytes: usize,
    /// The number of lines that were dropped after the last one in `queue`.
    pub(super) omitted_lines: usize,
    /// The lines that an open answer holds back.
    pub(super) held_lines: VecDeque<String>,
    /// The open prompts of a live screen. The first one is shown.
    pub(super) prompts: VecDeque<PromptBlock>,
    /// The ID of the last prompt.
    pub(super) last_prompt: u64,
    /// The number of answers that are being written.
    pub(super) open_answers: usize,
    /// The number of other programs that use the terminal.
    pub(super) pauses: usize,
    /// Set while the frame is erased and nothing is written, because another program uses the terminal.
    pub(super) is_paused: bool,
    /// Set if a prompt changed, which cannot wait for the next frame.
    pub(super) is_prompt_changed: bool,
    pub(super) region: Option<LiveRegion>,
    /// Set if the live view was shown, hidden, or covered since it was drawn.
    pub(super) is_stale: bool,
    /// The number of callers that wait for a flush, for which the next frame is drawn early.
    pub(super) flush_waiters: usize,
    pub(super) is_writing: bool,
    /// The condition that the idle thread waits for.
    pub(super) wait_reason: WaitReason,
    pub(super) is_closing: bool,
    /// Set once the thread has ended, after which waiting is pointless.
    pub(super) has_ended: bool,
}

/// The condition that the thread waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum WaitReason {
    /// No wait: the thread checks the state before it waits.
    #[default]
    Nothing,
    /// The next frame, or urgent work.
    Frame,
    /// Any work.
    Work,
}

impl ScreenShared {
    pub(super) fn new(capabilities: ScreenCapabilities) -> Self {
        Self {
            capabilities,
            state: Mutex::default(),
            has_work: Condvar::new(),
            drained: Condvar::new(),
            failed: CancellationToken::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ScreenState> {
        self.state.lock()
    }

    pub(super) fn update<T>(&self, change: impl FnOnce(&mut ScreenState) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let wakes = match state.wait_reason {
            WaitReason::Nothing => false,
            WaitReason::Frame => state.is_urgent(),
            WaitReason::Work => true,
        };
        drop(state);
        if wakes {
            self.has_work.notify_one();
        }
        result
    }

    pub(super) fn wait_while(&self, waiting: impl Fn(&ScreenState) -> bool) {
        let mut state = self.state();
        while waiting(&state) && !state.has_ended {
            self.drained.wait(&mut state);
        }
    }
}

impl ScreenState {
    pub(super) fn add_line(&mut self, line: String) {
        if self.queued_bytes + line.len() > MAX_QUEUED_BYTES {
            self.omitted_lines += 1;
            return;
        }
        self.report_omitted();
        self.queued_bytes += line.len();
        self.queue.push_back(PaintStep::Line(line));
    }

    /// Queues a line with the number of dropped lines, if any.
    pub(super) fn report_omitted(&mut self) {
        let omitted = std::mem::take(&mut self.omitted_lines);
        if omitted > 0 {
            let line = format!(
                "… {} dropped because the output is blocked; `kapell logs` has every event",
                count_text(omitted, "line")
            );
            self.queued_bytes += line.len();
            self.queue.push_back(PaintStep::Line(line));
        }
    }

    pub(super) fn release_held_lines(&mut self) {
        while let Some(line) = self.held_lines.pop_front() {
            self.add_line(line);
        }
    }

    /// Returns whether the work cannot wait for the next frame: a prompt changed, an answer is open, a caller waits, the
    /// screen closes, or much is queued.
    pub(super) fn is_urgent(&self) -> bool {
        self.flush_waiters > 0
            || self.is_closing
            || self.is_prompt_changed
            || self.open_answers > 0
            || self.pauses > 0
            || self.queued_bytes >= MAX_DEFERRED_BYTES
    }

    pub(super) fn is_idle(&self) -> bool {
        self.is_paused || self.queue.is_empty() && !self.is_stale
    }

    /// Ends an answer that is no longer counted as open.
    pub(super) fn close_answer(&mut self) {
        self.queue.push_back(PaintStep::EndText);
        self.is_stale = true;
        if self.open_answers == 0 {
            self.release_held_lines();
        }
    }

    /// Changes an open prompt of a live screen.
    pub(super) fn change_prompt(&mut self, id: u64, change: impl FnOnce(&mut PromptBlock)) {
        if let Some(prompt) = self.prompts.iter_mut().find(|prompt| prompt.id == id) {
            change(prompt);
            self.is_prompt_changed = true;
            self.is_stale = true;
        }
    }

    /// Returns the frame to draw, unless an answer, another program, or the closing of the screen hides it.
    pub(super) fn frame(&self, capabilities: ScreenCapabilities) -> FrameParts {
        if !capabilities.live || self.open_answers > 0 || self.pauses > 0 || self.is_closing {
            return FrameParts::default();
        }
        FrameParts { view: self.region.clone(), prompt: self.prompts.front().cloned() }
    }
}
