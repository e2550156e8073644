//! Owns the terminal. Standard error has lines, a live view below them, and prompts; standard output has the answer as
//! it is written. One thread writes both.
//! Only [`Screen::flush`] waits for the output to accept text.

mod overlay;
mod paint;

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::view::text::count_text;
pub use overlay::{OpenAnswer, OpenPrompt};
use paint::{PaintStep, Painter};

/// The minimum interval between two frames of the live view, and between two writes of lines that are not urgent.
///
/// A person reads no faster, and the thread does not wake for each line.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// Limits the bytes of lines that wait to be written: tens of thousands of lines.
///
/// If the output is stalled, further lines are counted and dropped. A run never waits for its reader, and the journal
/// has every event.
const MAX_QUEUED_BYTES: usize = 1 << 22;

/// Limits the bytes of lines that wait for the next frame. Beyond that, they are written immediately.
const MAX_DEFERRED_BYTES: usize = 1 << 17;

/// The maximum number of lines that an open prompt holds back. Beyond that, they are written despite the prompt.
const MAX_HELD_LINES: usize = 256;

/// The last line of a screen whose thread has panicked.
const FAILED: &str = "\ninternal error: kapell can show nothing more here (this is a bug in kapell); \
                      `kapell logs` has every event of a run\n";

/// The size of a screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScreenSize {
    /// The number of lines.
    pub rows: usize,
    /// The number of columns.
    pub columns: usize,
}

/// An output of the process. At a terminal, both appear in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard error.
    Messages,
    /// Standard output.
    Answer,
}

/// The device that a screen writes to.
pub trait Device: Send {
    /// Writes all of `text`. Failures are ignored, because they cannot be reported.
    fn write(&mut self, output: OutputStream, text: &str);
    /// Returns the current size.
    fn size(&self) -> ScreenSize;
}

/// The capabilities of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScreenCapabilities {
    /// Set if lines can be overwritten, which a live view needs.
    pub live: bool,
    /// Set if colors are enabled. Otherwise, styles are removed from every line.
    pub color: bool,
}

/// A callback that returns the lines of the live view for a screen size. It runs on the screen thread.
pub type LiveRegion = Arc<dyn Fn(ScreenSize) -> Vec<String> + Send + Sync>;

/// A handle to the screen; clones share it.
///
/// Dropping the last clone waits until everything is written. Before exiting in another way or writing to the same
/// terminal, call [`Screen::flush`].
#[derive(Clone)]
pub struct Screen {
    handle: Arc<ScreenHandle>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("abilities", &self.handle.shared.capabilities).finish_non_exhaustive()
    }
}

struct ScreenHandle {
    shared: Arc<ScreenShared>,
    thread: Option<JoinHandle<()>>,
}

struct ScreenShared {
    capabilities: ScreenCapabilities,
    /// Held briefly, and never while writing or drawing.
    state: Mutex<ScreenState>,
    /// Signals that the thread has work.
    has_work: Condvar,
    /// Signals that the thread has written.
    drained: Condvar,
    /// Cancelled when the thread has panicked, since queued output may be lost.
    failed: CancellationToken,
}

#[derive(Default)]
struct ScreenState {
    /// The steps to write, in order.
    queue: VecDeque<PaintStep>,
    /// The bytes of the lines in `queue`.
    queued_bytes: usize,
    /// The number of lines that were dropped after the last one in `queue`.
    omitted_lines: usize,
    /// The lines that an open prompt or answer holds back.
    held_lines: VecDeque<String>,
    /// The number of open prompts.
    open_prompts: usize,
    /// The number of answers that are being written.
    open_answers: usize,
    region: Option<LiveRegion>,
    /// Set if the live view was shown, hidden, or covered since it was drawn.
    is_stale: bool,
    /// The number of callers that wait for a flush, for which the next frame is drawn early.
    flush_waiters: usize,
    is_writing: bool,
    /// The condition that the idle thread waits for.
    wait_reason: WaitReason,
    is_closing: bool,
    /// Set once the thread has ended, after which waiting is pointless.
    has_ended: bool,
}

/// The condition that the thread waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum WaitReason {
    /// No wait: the thread checks the state before it waits.
    #[default]
    Nothing,
    /// The next frame, or urgent work.
    Frame,
    /// Any work.
    Work,
}

impl ScreenShared {
    fn state(&self) -> MutexGuard<'_, ScreenState> {
        self.state.lock()
    }

    fn update<T>(&self, change: impl FnOnce(&mut ScreenState) -> T) -> T {
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

    fn wait_while(&self, waiting: impl Fn(&ScreenState) -> bool) {
        let mut state = self.state();
        while waiting(&state) && !state.has_ended {
            self.drained.wait(&mut state);
        }
    }
}

impl ScreenState {
    fn add_line(&mut self, line: String) {
        if self.queued_bytes + line.len() > MAX_QUEUED_BYTES {
            self.omitted_lines += 1;
            return;
        }
        self.report_omitted();
        self.queued_bytes += line.len();
        self.queue.push_back(PaintStep::Line(line));
    }

    /// Queues a line with the number of dropped lines, if any.
    fn report_omitted(&mut self) {
        let omitted = std::mem::take(&mut self.omitted_lines);
        if omitted > 0 {
            let line = format!(
                "… {} left out because the output accepted none; `kapell logs` has every event",
                count_text(omitted, "line")
            );
            self.queued_bytes += line.len();
            self.queue.push_back(PaintStep::Line(line));
        }
    }

    fn release_held_lines(&mut self) {
        while let Some(line) = self.held_lines.pop_front() {
            self.add_line(line);
        }
    }

    /// Returns whether the work cannot wait for the next frame: a prompt or answer is open, a caller waits, the screen
    /// closes, or much is queued.
    fn is_urgent(&self) -> bool {
        self.flush_waiters > 0
            || self.is_closing
            || self.open_prompts + self.open_answers > 0
            || self.queued_bytes >= MAX_DEFERRED_BYTES
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_stale
    }

    /// Returns whether lines are held back, because they would interrupt a prompt or an answer.
    fn holds_lines(&self, abilities: ScreenCapabilities) -> bool {
        self.open_answers > 0 || abilities.live && self.open_prompts > 0
    }

    /// Ends a prompt or an answer that is no longer counted as open.
    fn close_overlay(&mut self, abilities: ScreenCapabilities) {
        self.queue.push_back(PaintStep::EndText);
        self.is_stale = true;
        if !self.holds_lines(abilities) {
            self.release_held_lines();
        }
    }

    /// Returns the live view to draw, unless a prompt, an answer, or the closing of the screen hides it.
    fn view(&self, abilities: ScreenCapabilities) -> Option<LiveRegion> {
        let is_covered = self.open_prompts + self.open_answers > 0 || self.is_closing;
        self.region.clone().filter(|_| abilities.live && !is_covered)
    }
}

impl Screen {
    /// Opens the screen on standard error.
    ///
    /// It is live on a terminal whose `TERM` is set and not `dumb`. Variables such as `NO_COLOR` control colors.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn stderr() -> io::Result<Self> {
        let stderr = io::stderr();
        let live = stderr.is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let colour = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
        Self::with_device(StdioDevice, ScreenCapabilities { live, color: colour })
    }

    /// Opens a screen on any device.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn with_device(device: impl Device + 'static, abilities: ScreenCapabilities) -> io::Result<Self> {
        let shared = Arc::new(ScreenShared {
            capabilities: abilities,
            state: Mutex::default(),
            has_work: Condvar::new(),
            drained: Condvar::new(),
            failed: CancellationToken::new(),
        });
        let writer = ScreenWriter { shared: Arc::clone(&shared), painter: Painter::new(abilities), device };
        let thread = std::thread::Builder::new().name("screen".to_owned()).spawn(move || writer.run())?;
        Ok(Self { handle: Arc::new(ScreenHandle { shared, thread: Some(thread) }) })
    }

    fn shared(&self) -> &ScreenShared {
        &self.handle.shared
    }

    /// Returns whether the screen thread has panicked, so that output may be lost.
    pub fn has_failed(&self) -> bool {
        self.shared().failed.is_cancelled()
    }

    /// Waits until the screen thread panics.
    pub async fn failed(&self) {
        self.shared().failed.cancelled().await;
    }

    /// Returns the capabilities of the device.
    pub fn capabilities(&self) -> ScreenCapabilities {
        self.shared().capabilities
    }

    /// Prints one or more lines above the live view, without waiting for the output.
    ///
    /// Lines are held back while an answer is written, and while a prompt is open on a live screen.
    pub fn println(&self, line: impl Into<String>) {
        let shared = self.shared();
        shared.update(|state| {
            if !state.holds_lines(shared.capabilities) {
                state.add_line(line.into());
                return;
            }
            state.held_lines.push_back(line.into());
            if state.held_lines.len() > MAX_HELD_LINES {
                state.release_held_lines();
            }
        });
    }

    /// Shows a live view that is redrawn ten times a second. Does nothing if the screen is not live.
    pub fn show(&self, region: LiveRegion) {
        self.shared().update(|state| {
            state.region = Some(region);
            state.is_stale = true;
        });
    }

    /// Hides the live view.
    pub fn hide(&self) {
        self.shared().update(|state| {
            state.region = None;
            state.is_stale = true;
        });
    }

    /// Opens a prompt. Until it is dropped, the live view is hidden and lines are held back on a live screen.
    pub fn prompt(&self) -> OpenPrompt {
        OpenPrompt::new(self.clone())
    }

    /// Starts an answer on standard output. Until it is dropped, the live view is hidden and lines are held back.
    pub fn answer(&self) -> OpenAnswer {
        OpenAnswer::new(self.clone())
    }

    /// Runs `act` while the live view is hidden and nothing is written, for output that bypasses the screen.
    pub fn suspend<T>(&self, act: impl FnOnce() -> T) -> T {
        let _prompt = self.prompt();
        self.flush();
        act()
    }

    /// Waits until everything is written that no open prompt holds back.
    pub fn flush(&self) {
        let shared = self.shared();
        shared.update(|state| state.flush_waiters += 1);
        shared.wait_while(|state| !state.is_idle() || state.is_writing);
        shared.update(|state| state.flush_waiters -= 1);
    }
}

impl Drop for ScreenHandle {
    fn drop(&mut self) {
        self.shared.update(|state| {
            state.is_closing = true;
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
            let view = state.view(shared.capabilities);
            if state.is_idle() && (view.is_none() || state.flush_waiters > 0) {
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
            state.is_writing = true;
            drop(state);
            drawn = Some(Instant::now());
            self.write(steps, view);
            state = shared.state();
            state.is_writing = false;
            state.report_omitted();
            shared.drained.notify_all();
        }
    }

    fn write(&mut self, steps: VecDeque<PaintStep>, view: Option<LiveRegion>) {
        // Only a live view must fit the screen; lines are written in full.
        let size = if self.shared.capabilities.live { self.device.size() } else { ScreenSize::default() };
        let view = view.map(|view| view(size)).unwrap_or_default();
        for (output, text) in self.painter.paint(steps, view, size) {
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

/// The standard streams of the process.
struct StdioDevice;

impl Device for StdioDevice {
    fn write(&mut self, output: OutputStream, text: &str) {
        let _ = match output {
            OutputStream::Messages => write_text(io::stderr().lock(), text),
            OutputStream::Answer => write_text(io::stdout().lock(), text),
        };
    }

    fn size(&self) -> ScreenSize {
        let (rows, columns) = console::Term::stderr().size_checked().unwrap_or((24, 80));
        ScreenSize { rows: usize::from(rows), columns: usize::from(columns) }
    }
}

fn write_text(mut device: impl Write, text: &str) -> io::Result<()> {
    device.write_all(text.as_bytes())?;
    device.flush()
}

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;
