//! Owns the terminal: lines, a live view below them, and prompts on standard error, and an answer that is shown while it
//! is written on standard output; all written by one thread.
//! Nothing but [`Screen::flush`] waits for the output to accept text.

mod overlay;
mod paint;

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::text::count_text;
pub use overlay::{OpenAnswer, OpenPrompt};
use paint::{PaintStep, Painter};

/// The shortest time between two drawings of the live view, and between two writings of lines where nobody waits for
/// them: a person reads no faster, and the thread is not woken for each line.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// Limits the bytes of lines that wait to be written: tens of thousands of lines. While a terminal or pipe accepts
/// none, further lines are counted and left out: a run never waits for its reader, and the journal has every event.
const MAX_QUEUED_BYTES: usize = 1 << 22;

/// Limits the bytes of lines that wait for the next frame, so that they are written in time.
const MAX_DEFERRED_BYTES: usize = 1 << 17;

/// Most lines that an open prompt holds back; beyond that they are written in spite of it.
const MAX_HELD_LINES: usize = 256;

/// The last line of a screen whose thread has panicked.
const FAILED: &str = "\ninternal error: kapell can show nothing more here (this is a bug in kapell); \
                      `kapell logs` has every event of a run\n";

/// How much room there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScreenSize {
    /// Lines.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// Where text goes; to a person at a terminal it is one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard error.
    Messages,
    /// Standard output.
    Answer,
}

/// What a screen is written to.
pub trait Device: Send {
    /// Writes all of `text` at once. A failure has nobody to be told.
    fn write(&mut self, output: OutputStream, text: &str);
    /// The room there is now.
    fn size(&self) -> ScreenSize;
}

/// What a device can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScreenCapabilities {
    /// Whether lines can be overwritten, so that there can be a live view.
    pub live: bool,
    /// Whether colours are wanted; styles are taken out of every line where not.
    pub color: bool,
}

/// Draws the live view: lines for the room there is, from the thread of the screen.
pub type LiveRegion = Arc<dyn Fn(ScreenSize) -> Vec<String> + Send + Sync>;

/// The screen; clones share it. The last one to go waits until all is written; who ends the process otherwise, or
/// writes a result to the same terminal, calls [`Screen::flush`] before.
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
    /// Held for moments only: nothing is written or drawn under it.
    state: Mutex<ScreenState>,
    /// There is something to write.
    has_work: Condvar,
    /// Something was written.
    drained: Condvar,
    /// Cancelled when the thread has panicked: what was to be shown may be lost.
    failed: CancellationToken,
}

#[derive(Default)]
struct ScreenState {
    /// What is to be written, in order.
    queue: VecDeque<PaintStep>,
    /// Bytes of the lines in `queue`.
    queued_bytes: usize,
    /// Number of lines that were left out since the last one in `queue`.
    omitted_lines: usize,
    /// Lines that an open prompt or answer holds back.
    held_lines: VecDeque<String>,
    /// How many prompts are open.
    open_prompts: usize,
    /// How many answers are being written.
    open_answers: usize,
    region: Option<LiveRegion>,
    /// Whether the live view came, went or was covered since it was drawn.
    is_stale: bool,
    /// How many wait for all to be written, so that the next frame is drawn early.
    flush_waiters: usize,
    is_writing: bool,
    /// What the thread does while it writes nothing.
    wait_reason: WaitReason,
    is_closing: bool,
    /// Whether the thread has ended; then nobody waits for it.
    has_ended: bool,
}

/// What the thread waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum WaitReason {
    /// Nothing: it looks at the state before it waits.
    #[default]
    Nothing,
    /// The next frame, or something that cannot wait for it.
    Frame,
    /// Anything to do.
    Work,
}

impl ScreenShared {
    fn state(&self) -> MutexGuard<'_, ScreenState> {
        // Each change of the state is whole before anything in it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
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

    /// Queues a line about the lines that were left out, if there are any.
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

    /// Whether what there is to do must not wait for the next frame: somebody reads along, waits or goes, or there is
    /// much of it.
    fn is_urgent(&self) -> bool {
        self.flush_waiters > 0
            || self.is_closing
            || self.open_prompts + self.open_answers > 0
            || self.queued_bytes >= MAX_DEFERRED_BYTES
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_stale
    }

    /// Whether a line would be written into the middle of something else.
    fn holds_lines(&self, abilities: ScreenCapabilities) -> bool {
        self.open_answers > 0 || abilities.live && self.open_prompts > 0
    }

    /// Ends a prompt or an answer, which counts no more.
    fn close_overlay(&mut self, abilities: ScreenCapabilities) {
        self.queue.push_back(PaintStep::EndText);
        self.is_stale = true;
        if !self.holds_lines(abilities) {
            self.release_held_lines();
        }
    }

    /// The view to draw, which neither a prompt, an answer nor the end covers.
    fn view(&self, abilities: ScreenCapabilities) -> Option<LiveRegion> {
        let is_covered = self.open_prompts + self.open_answers > 0 || self.is_closing;
        self.region.clone().filter(|_| abilities.live && !is_covered)
    }
}

impl Screen {
    /// The screen on standard error. It is live on a terminal whose `TERM` is set and not `dumb`; `NO_COLOR` and the like
    /// decide about colours.
    ///
    /// # Errors
    /// When the system gives no further thread.
    pub fn stderr() -> io::Result<Self> {
        let stderr = io::stderr();
        let live = stderr.is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let colour = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
        Self::with_device(StdioDevice, ScreenCapabilities { live, color: colour })
    }

    /// A screen on any device.
    ///
    /// # Errors
    /// When the system gives no further thread.
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

    /// Returns whether a panic has ended the screen, so that what was to be shown may be lost.
    pub fn has_failed(&self) -> bool {
        self.shared().failed.is_cancelled()
    }

    /// Waits until a panic has ended the screen.
    pub async fn failed(&self) {
        self.shared().failed.cancelled().await;
    }

    /// What can be shown.
    pub fn capabilities(&self) -> ScreenCapabilities {
        self.shared().capabilities
    }

    /// Prints a line above the live view, or several with line breaks between them; after the answer, while one is
    /// written, and after the prompt, while one is open on a live screen. Does not wait for the output.
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

    /// Shows a live view, drawn anew ten times a second; nothing where the screen is not live.
    pub fn show(&self, region: LiveRegion) {
        self.shared().update(|state| {
            state.region = Some(region);
            state.is_stale = true;
        });
    }

    /// Takes the live view away.
    pub fn hide(&self) {
        self.shared().update(|state| {
            state.region = None;
            state.is_stale = true;
        });
    }

    /// Opens a prompt: until it is dropped there is no live view, and lines wait.
    pub fn prompt(&self) -> OpenPrompt {
        OpenPrompt::new(self.clone())
    }

    /// Begins an answer on standard output: until it is dropped there is no live view, and lines wait.
    pub fn answer(&self) -> OpenAnswer {
        OpenAnswer::new(self.clone())
    }

    /// Runs `act` while there is no live view and nothing is written, for output that goes past the screen.
    pub fn suspend<T>(&self, act: impl FnOnce() -> T) -> T {
        let _prompt = self.prompt();
        self.flush();
        act()
    }

    /// Waits until all is written that no open prompt holds back.
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
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// The thread's own.
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
            // The device may be what has failed.
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
                state = shared.has_work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.wait_reason = WaitReason::Nothing;
                continue;
            }
            let due = drawn.map_or(Duration::ZERO, |drawn| FRAME_INTERVAL.saturating_sub(drawn.elapsed()));
            if !due.is_zero() && !state.is_urgent() {
                state.wait_reason = WaitReason::Frame;
                state = shared.has_work.wait_timeout(state, due).unwrap_or_else(PoisonError::into_inner).0;
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
        // Lines are written as they are; a live view has to fit.
        let size = if self.shared.capabilities.live { self.device.size() } else { ScreenSize::default() };
        let view = view.map(|view| view(size)).unwrap_or_default();
        for (output, text) in self.painter.paint(steps, view, size) {
            self.device.write(output, &text);
        }
    }
}

/// Lets those go who wait for a thread that has ended, by a panic even.
struct WakeWaitersOnDrop<'a>(&'a ScreenShared);

impl Drop for WakeWaitersOnDrop<'_> {
    fn drop(&mut self) {
        self.0.state().has_ended = true;
        self.0.drained.notify_all();
    }
}

/// The outputs of the process.
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
