//! Owns the terminal: lines, a live view below them, and prompts on standard error, and an answer that is shown while it
//! is written on standard output; all written by one thread.
//! Nothing but [`Screen::flush`] waits for the output to accept text.

mod open;
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

use super::text::count;
pub use open::{OpenAnswer, Prompt};
use paint::{Painter, Step};

/// The shortest time between two drawings of the live view, and between two writings of lines where nobody waits for
/// them: a person reads no faster, and the thread is not woken for each line.
const FRAME: Duration = Duration::from_millis(100);

/// Limits the bytes of lines that wait to be written: tens of thousands of lines. While a terminal or pipe accepts
/// none, further lines are counted and left out: a run never waits for its reader, and the journal has every event.
const MAX_WAITING: usize = 1 << 22;

/// Limits the bytes of lines that wait for the next frame, so that they are written in time.
const MAX_UNHURRIED: usize = 1 << 17;

/// Most lines that an open prompt holds back; beyond that they are written in spite of it.
const MOST_HELD: usize = 256;

/// The last line of a screen whose thread has panicked.
const FAILED: &str = "\ninternal error: kapell can show nothing more here (this is a bug in kapell); \
                      `kapell logs` has every event of a run\n";

/// How much room there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

/// Where text goes; to a person at a terminal it is one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Talk,
    /// Standard output.
    Answer,
}

/// What a screen is written to.
pub trait Device: Send {
    /// Writes all of `text` at once. A failure has nobody to be told.
    fn write(&mut self, output: Output, text: &str);
    /// The room there is now.
    fn size(&self) -> Size;
}

/// What a device can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Whether lines can be overwritten, so that there can be a live view.
    pub live: bool,
    /// Whether colours are wanted; styles are taken out of every line where not.
    pub colour: bool,
}

/// Draws the live view: lines for the room there is, from the thread of the screen.
pub type Region = Arc<dyn Fn(Size) -> Vec<String> + Send + Sync>;

/// The screen; clones share it. The last one to go waits until all is written; who ends the process otherwise, or
/// writes a result to the same terminal, calls [`Screen::flush`] before.
#[derive(Clone)]
pub struct Screen {
    handle: Arc<Handle>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("abilities", &self.handle.shared.abilities).finish_non_exhaustive()
    }
}

struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    abilities: Abilities,
    /// Held for moments only: nothing is written or drawn under it.
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Something was written.
    emptied: Condvar,
    /// Cancelled when the thread has panicked: what was to be shown may be lost.
    failed: CancellationToken,
}

#[derive(Default)]
struct State {
    /// What is to be written, in order.
    queue: VecDeque<Step>,
    /// Bytes of the lines in `queue`.
    waiting: usize,
    /// Number of lines that were left out since the last one in `queue`.
    omitted: usize,
    /// Lines that an open prompt or answer holds back.
    held: VecDeque<String>,
    /// How many prompts are open.
    asking: usize,
    /// How many answers are being written.
    answering: usize,
    region: Option<Region>,
    /// Whether the live view came, went or was covered since it was drawn.
    stale: bool,
    /// How many wait for all to be written, so that the next frame is drawn early.
    hurrying: usize,
    writing: bool,
    /// What the thread does while it writes nothing.
    rest: Rest,
    closing: bool,
    /// Whether the thread has ended; then nobody waits for it.
    ended: bool,
}

/// What the thread waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Rest {
    /// Nothing: it looks at the state before it waits.
    #[default]
    None,
    /// The next frame, or something that cannot wait for it.
    Frame,
    /// Anything to do.
    Work,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole before anything in it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let wakes = match state.rest {
            Rest::None => false,
            Rest::Frame => state.hurries(),
            Rest::Work => true,
        };
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
        result
    }

    fn wait_while(&self, waiting: impl Fn(&State) -> bool) {
        let mut state = self.state();
        while waiting(&state) && !state.ended {
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    fn add_line(&mut self, line: String) {
        if self.waiting + line.len() > MAX_WAITING {
            self.omitted += 1;
            return;
        }
        self.report_omitted();
        self.waiting += line.len();
        self.queue.push_back(Step::Line(line));
    }

    /// Queues a line about the lines that were left out, if there are any.
    fn report_omitted(&mut self) {
        let omitted = std::mem::take(&mut self.omitted);
        if omitted > 0 {
            let line = format!(
                "… {} left out because the output accepted none; `kapell logs` has every event",
                count(omitted, "line")
            );
            self.waiting += line.len();
            self.queue.push_back(Step::Line(line));
        }
    }

    fn release(&mut self) {
        while let Some(line) = self.held.pop_front() {
            self.add_line(line);
        }
    }

    /// Whether what there is to do must not wait for the next frame: somebody reads along, waits or goes, or there is
    /// much of it.
    fn hurries(&self) -> bool {
        self.hurrying > 0 || self.closing || self.asking + self.answering > 0 || self.waiting >= MAX_UNHURRIED
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.stale
    }

    /// Whether a line would be written into the middle of something else.
    fn holds_lines(&self, abilities: Abilities) -> bool {
        self.answering > 0 || abilities.live && self.asking > 0
    }

    /// Ends a prompt or an answer, which counts no more.
    fn uncover(&mut self, abilities: Abilities) {
        self.queue.push_back(Step::EndText);
        self.stale = true;
        if !self.holds_lines(abilities) {
            self.release();
        }
    }

    /// The view to draw, which neither a prompt, an answer nor the end covers.
    fn view(&self, abilities: Abilities) -> Option<Region> {
        let is_covered = self.asking + self.answering > 0 || self.closing;
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
        Self::over(Standard, Abilities { live, colour })
    }

    /// A screen on any device.
    ///
    /// # Errors
    /// When the system gives no further thread.
    pub fn over(device: impl Device + 'static, abilities: Abilities) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            abilities,
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            failed: CancellationToken::new(),
        });
        let writer = Writer { shared: Arc::clone(&shared), painter: Painter::new(abilities), device };
        let thread = std::thread::Builder::new().name("screen".to_owned()).spawn(move || writer.run())?;
        Ok(Self { handle: Arc::new(Handle { shared, thread: Some(thread) }) })
    }

    fn shared(&self) -> &Shared {
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
    pub fn abilities(&self) -> Abilities {
        self.shared().abilities
    }

    /// Prints a line above the live view, or several with line breaks between them; after the answer, while one is
    /// written, and after the prompt, while one is open on a live screen. Does not wait for the output.
    pub fn println(&self, line: impl Into<String>) {
        let shared = self.shared();
        shared.change(|state| {
            if !state.holds_lines(shared.abilities) {
                state.add_line(line.into());
                return;
            }
            state.held.push_back(line.into());
            if state.held.len() > MOST_HELD {
                state.release();
            }
        });
    }

    /// Shows a live view, drawn anew ten times a second; nothing where the screen is not live.
    pub fn show(&self, region: Region) {
        self.shared().change(|state| {
            state.region = Some(region);
            state.stale = true;
        });
    }

    /// Takes the live view away.
    pub fn hide(&self) {
        self.shared().change(|state| {
            state.region = None;
            state.stale = true;
        });
    }

    /// Opens a prompt: until it is dropped there is no live view, and lines wait.
    pub fn prompt(&self) -> Prompt {
        Prompt::over(self.clone())
    }

    /// Begins an answer on standard output: until it is dropped there is no live view, and lines wait.
    pub fn answer(&self) -> OpenAnswer {
        OpenAnswer::over(self.clone())
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
        shared.change(|state| state.hurrying += 1);
        shared.wait_while(|state| !state.is_idle() || state.writing);
        shared.change(|state| state.hurrying -= 1);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.closing = true;
            state.stale = true;
            state.release();
        });
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Writer<D> {
    shared: Arc<Shared>,
    painter: Painter,
    device: D,
}

impl<D: Device> Writer<D> {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _end = Ended(&shared);
        if catch_unwind(AssertUnwindSafe(|| self.serve(&shared))).is_err() {
            shared.failed.cancel();
            // The device may be what has failed.
            let _ = catch_unwind(AssertUnwindSafe(|| self.device.write(Output::Talk, FAILED)));
        }
    }

    fn serve(&mut self, shared: &Shared) {
        let mut drawn = None::<Instant>;
        let mut state = shared.state();
        loop {
            let view = state.view(shared.abilities);
            if state.is_idle() && (view.is_none() || state.hurrying > 0) {
                if state.closing {
                    return;
                }
                state.rest = Rest::Work;
                state = shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.rest = Rest::None;
                continue;
            }
            let due = drawn.map_or(Duration::ZERO, |drawn| FRAME.saturating_sub(drawn.elapsed()));
            if !due.is_zero() && !state.hurries() {
                state.rest = Rest::Frame;
                state = shared.filled.wait_timeout(state, due).unwrap_or_else(PoisonError::into_inner).0;
                state.rest = Rest::None;
                continue;
            }
            let steps = std::mem::take(&mut state.queue);
            state.waiting = 0;
            state.stale = false;
            state.writing = true;
            drop(state);
            drawn = Some(Instant::now());
            self.write(steps, view);
            state = shared.state();
            state.writing = false;
            state.report_omitted();
            shared.emptied.notify_all();
        }
    }

    fn write(&mut self, steps: VecDeque<Step>, view: Option<Region>) {
        // Lines are written as they are; a live view has to fit.
        let size = if self.shared.abilities.live { self.device.size() } else { Size::default() };
        let view = view.map(|view| view(size)).unwrap_or_default();
        for (output, text) in self.painter.paint(steps, view, size) {
            self.device.write(output, &text);
        }
    }
}

/// Lets those go who wait for a thread that has ended, by a panic even.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.emptied.notify_all();
    }
}

/// The outputs of the process.
struct Standard;

impl Device for Standard {
    fn write(&mut self, output: Output, text: &str) {
        let _ = match output {
            Output::Talk => put(io::stderr().lock(), text),
            Output::Answer => put(io::stdout().lock(), text),
        };
    }

    fn size(&self) -> Size {
        let (rows, columns) = console::Term::stderr().size_checked().unwrap_or((24, 80));
        Size { rows: usize::from(rows), columns: usize::from(columns) }
    }
}

fn put(mut device: impl Write, text: &str) -> io::Result<()> {
    device.write_all(text.as_bytes())?;
    device.flush()
}

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;
