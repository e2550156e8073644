//! The controlling terminal of the process, on which a person is asked. Pipes and files are never used for that.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
#[cfg(target_os = "macos")]
use std::time::Duration;

#[cfg(not(target_os = "macos"))]
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::{getpgrp, tcgetpgrp};

use super::screen::{Device, OutputStream, Screen, ScreenCapabilities, ScreenSize};

/// The time after which the end of a question is noticed, and after which an escape sequence is incomplete.
#[cfg(not(target_os = "macos"))]
const INPUT_WAIT: u16 = 100;
#[cfg(target_os = "macos")]
const INPUT_WAIT: Duration = Duration::from_millis(20);

/// Opens the controlling terminal. Returns `None` if there is none, or if this process is in the background: reading
/// there would stop it.
pub(crate) fn open_terminal() -> Option<File> {
    let terminal = open_with(OpenOptions::new().read(true).write(true))?;
    is_in_foreground(&terminal).then_some(terminal)
}

/// Opens the controlling terminal for short writes, which fail rather than wait for a stopped terminal.
pub(crate) fn open_nonblocking() -> Option<File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    options.open("/dev/tty").ok()
}

fn open_with(options: &mut OpenOptions) -> Option<File> {
    options.custom_flags(libc::O_NOCTTY).open("/dev/tty").ok()
}

/// Returns whether this process may use the terminal. A background process that reads from it is stopped.
pub(crate) fn is_in_foreground(terminal: &File) -> bool {
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp())
}

/// Waits a moment for input, without reading it. Returns whether a read may return something.
#[cfg(not(target_os = "macos"))]
pub(crate) fn wait_for_input(terminal: &File) -> bool {
    let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    // After an error, the read reports the reason.
    poll(&mut ready, INPUT_WAIT).map_or(true, |count| count > 0)
}

/// Waits a moment for input. `poll` does not support terminals on this system.
#[cfg(target_os = "macos")]
pub(crate) fn wait_for_input(_: &File) -> bool {
    std::thread::sleep(INPUT_WAIT);
    true
}

/// Returns a screen on the controlling terminal: `screen` if standard error is that terminal, and otherwise another one.
///
/// # Errors
/// When the system cannot start another thread.
pub(crate) fn screen_for(terminal: &File, screen: Screen) -> io::Result<Screen> {
    // The system knows the foreground process of the controlling terminal only.
    if tcgetpgrp(io::stderr().as_fd()).is_ok() {
        return Ok(screen);
    }
    let capabilities = ScreenCapabilities {
        live: has_cursor_control(),
        color: anstream::AutoStream::choice(terminal) != anstream::ColorChoice::Never,
    };
    Screen::with_device(
        TerminalDevice(console::Term::read_write_pair(terminal.try_clone()?, terminal.try_clone()?)),
        capabilities,
    )
}

/// Returns whether `TERM` names a terminal with a movable cursor.
fn has_cursor_control() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// The controlling terminal, while standard error is elsewhere.
struct TerminalDevice(console::Term);

impl Device for TerminalDevice {
    fn write(&mut self, _: OutputStream, text: &str) {
        let _ = self.0.write_all(text.as_bytes());
        let _ = self.0.flush();
    }

    fn size(&self) -> ScreenSize {
        let (rows, columns) = self.0.size_checked().unwrap_or((24, 80));
        ScreenSize { rows: usize::from(rows), columns: usize::from(columns) }
    }
}
