//! The handle to a screen.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use super::device::{Device, ScreenCapabilities, StdioDevice};
use super::frame::LiveRegion;
use super::overlay::{OpenAnswer, OpenPrompt, ScreenPause};
use super::state::{MAX_HELD_LINES, ScreenShared};
use super::thread::ScreenThread;

/// A handle to the screen; clones share it.
///
/// Dropping the last clone waits until everything is written. Before exiting in another way or writing to the same
/// terminal, call [`Screen::flush`].
#[derive(Debug, Clone)]
pub struct Screen {
    thread: Arc<ScreenThread>,
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
        let color = anstream::AutoStream::choice(&stderr) != anstream::ColorChoice::Never;
        Self::with_device(StdioDevice, ScreenCapabilities { live, color })
    }

    /// Opens a screen on any device.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn with_device(device: impl Device + 'static, capabilities: ScreenCapabilities) -> io::Result<Self> {
        Ok(Self { thread: Arc::new(ScreenThread::start(device, capabilities)?) })
    }

    fn shared(&self) -> &ScreenShared {
        &self.thread.shared
    }

    /// Returns whether the screen thread has panicked, so that output may be lost.
    pub fn has_failed(&self) -> bool {
        self.shared().failed.is_cancelled()
    }

    /// Returns the capabilities of the device.
    pub fn capabilities(&self) -> ScreenCapabilities {
        self.shared().capabilities
    }

    /// Prints one or more lines above the live view, without waiting for the output.
    ///
    /// Lines are held back while an answer is written, and while another program uses the terminal.
    pub fn println(&self, line: impl Into<String>) {
        let shared = self.shared();
        shared.update(|state| {
            if state.open_answers == 0 {
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

    /// Opens a prompt. On a live screen, it stays below the live view until it is dropped.
    pub fn prompt(&self) -> OpenPrompt {
        OpenPrompt::new(Arc::clone(&self.thread))
    }

    /// Starts an answer on standard output. Until it is dropped, the live view is hidden and lines are held back.
    pub fn answer(&self) -> OpenAnswer {
        OpenAnswer::new(Arc::clone(&self.thread))
    }

    /// Erases the live view and the prompt, and writes nothing until the returned value is dropped. Meanwhile, another
    /// program can use the terminal.
    pub fn pause(&self) -> ScreenPause {
        ScreenPause::new(Arc::clone(&self.thread))
    }

    /// Waits until everything is written that no answer or other program holds back.
    pub fn flush(&self) {
        let shared = self.shared();
        shared.update(|state| state.flush_waiters += 1);
        shared.wait_while(|state| !state.is_idle() || state.is_writing);
        shared.update(|state| state.flush_waiters -= 1);
    }
}
