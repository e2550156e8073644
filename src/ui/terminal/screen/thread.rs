//! The thread that writes to the device: lines, the live view, prompts, and answers.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::device::{Device, OutputStream, ScreenCapabilities, ScreenSize};
use super::frame::FrameParts;
use super::paint::{PaintStep, Painter};
use super::state::{ScreenShared, WaitReason};

/// The minimum interval between two frames of the live view, and between two writes of lines that are not urgent.
///
/// A person reads no faster, and the thread does not wake for each line.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// The last line of a screen whose thread has panicked.
pub(super) const FAILED: &str = "\ninternal error: kapell can no longer show progress (this is a bug in kapell); \
                                 `kapell logs` has every event of a run\n";

/// The screen thread, which ends when its last user drops it.
pub(super) struct ScreenThread {
    pub(super) shared: Arc<ScreenShared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for ScreenThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScreenThread").field("capabilities", &self.shared.capabilities).finish_non_exhaustive()
    }
}

impl ScreenThread {
    /// Starts the thread that writes to `device`.
    pub(super) fn start(device: impl Device + 'static, capabilities: ScreenCapabilities) -> io::Result<Self> {
        let shared = Arc::new(ScreenShared::new(capabilities));
        let writer = ScreenWriter { shared: Arc::clone(&shared), painter: Painter::new(capabilities), device };
        let thread = std::thread::Builder::new().name("screen".to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for ScreenThread {
    fn drop(&mut self) {
        self.shared.update(|state| {
            state.is_closing = true;
            state.is_paused = false;
            state.is_stale = true;
            state.release_held_lines();
        });
        if let Some(thread) = self.thread.take() {
            // The thread itself has already reported a panic.
            let _ = thread.join();
        }
    }
}

/// The state of the screen thread.
struct ScreenWriter<D> {
    shared: Arc<ScreenShared>,
    painter: Painter,
    device: D,
}

impl<D: Device> ScreenWriter<D> {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _end = WakeWaitersOnDrop(&shared);
        if catch_unwind(AssertUnwindSafe(|| self.serve(&shared))).is_err() {
            shared.failed.cancel();
            // The device may be the cause of the panic.
            let _ = catch_unwind(AssertUnwindSafe(|| self.device.write(OutputStream::Messages, FAILED)));
        }
    }

    fn serve(&mut self, shared: &ScreenShared) {
        let mut drawn = None::<Instant>;
        let mut state = shared.state();
        loop {
            let frame = state.frame(shared.capabilities);
            if state.is_idle() && (frame.is_empty() || state.flush_waiters > 0) {
                if state.is_closing {
                    return;
                }
                state.wait_reason = WaitReason::Work;
                shared.has_work.wait(&mut state);
                state.wait_reason = WaitReason::Nothing;
                continue;
            }
            let due = drawn.map_or(Duration::ZERO, |drawn| FRAME_INTERVAL.saturating_sub(drawn.elapsed()));
            if !due.is_zero() && !state.is_urgent() {
                state.wait_reason = WaitReason::Frame;
                shared.has_work.wait_for(&mut state, due);
                state.wait_reason = WaitReason::Nothing;
                continue;
            }
            let steps = std::mem::take(&mut state.queue);
            state.queued_bytes = 0;
            state.is_stale = false;
            state.is_prompt_changed = false;
            state.is_writing = true;
            // What was queued before the pause is written, and the frame is erased.
            let pauses = state.pauses > 0;
            drop(state);
            drawn = Some(Instant::now());
            self.write(steps, &frame);
            state = shared.state();
            state.is_writing = false;
            state.is_paused = pauses && state.pauses > 0;
            state.report_omitted();
            shared.drained.notify_all();
        }
    }

    fn write(&mut self, steps: VecDeque<PaintStep>, frame: &FrameParts) {
        // Only a frame must fit the screen; lines are written in full.
        let size = if self.shared.capabilities.live { self.device.size() } else { ScreenSize::default() };
        for (output, text) in self.painter.paint(steps, frame, size) {
            self.device.write(output, &text);
        }
    }
}

/// Wakes all waiters when the screen thread ends, including by panic.
struct WakeWaitersOnDrop<'a>(&'a ScreenShared);

impl Drop for WakeWaitersOnDrop<'_> {
    fn drop(&mut self) {
        self.0.state().has_ended = true;
        self.0.drained.notify_all();
    }
}
