//! Reads single keys from the terminal in a separate thread, and only while a question is open.
//! The mode of the terminal is restored when the question closes, also before the process stops or exits.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{
    FlushArg, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcflush, tcgetattr, tcsetattr,
};
use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

use super::controlling_terminal::{is_in_foreground, open_nonblocking, wait_for_input};
use super::keys::{KeyDecoder, TypedKey};
use super::screen::{Screen, ScreenPause};

/// The maximum number of keys that wait for the question. A person types fewer; more are dropped.
const MAX_QUEUED_KEYS: usize = 1_024;

/// The interval in which a process in the background checks whether it is in the foreground again.
const FOREGROUND_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The value of a control character that disables it (`_POSIX_VDISABLE`).
const DISABLED: libc::cc_t = if cfg!(target_os = "macos") { 0xff } else { 0 };

/// Switches bracketed paste on and off: the terminal marks the beginning and the end of pasted text.
const PASTE_MARKS_ON: &[u8] = b"\x1b[?2004h";
const PASTE_MARKS_OFF: &[u8] = b"\x1b[?2004l";

/// The keys that are typed at a terminal while a question is open.
pub(crate) struct KeyReader {
    shared: Option<Arc<KeyShared>>,
    keys: tokio::sync::Mutex<mpsc::Receiver<(u64, TypedKey)>>,
}

struct KeyShared {
    terminal: File,
    /// For sequences that must never wait for a stopped terminal.
    control: Option<File>,
    /// Absent once the reader is dropped, since the last owner of a screen waits for its output.
    screen: Mutex<Option<Screen>>,
    /// Held briefly: a read under it returns at once.
    state: Mutex<KeyState>,
    changed: Condvar,
}

#[derive(Default)]
struct KeyState {
    /// The number of the open question, or zero.
    open: u64,
    last: u64,
    /// No more questions will be opened.
    is_closed: bool,
    /// The mode of the terminal outside of questions, while a question is open.
    original: Option<Termios>,
}

impl KeyReader {
    /// Starts to read the keys of `terminal`. The screen is paused while the process is stopped.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub(crate) fn start(terminal: File, screen: Screen) -> io::Result<Self> {
        let shared = Arc::new(KeyShared {
            terminal,
            control: open_nonblocking(),
            screen: Mutex::new(Some(screen)),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (sender, keys) = mpsc::channel(MAX_QUEUED_KEYS);
        let reader = Arc::clone(&shared);
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            // Restores the mode even after a panic.
            let _restore = RestoreOnDrop(Arc::clone(&reader));
            read_keys(&reader, &sender);
        })?;
        Ok(Self { shared: Some(shared), keys: tokio::sync::Mutex::new(keys) })
    }

    /// Begins a question: keys are read from now on, without those that were typed before.
    pub(crate) fn open(&self) {
        let Some(shared) = &self.shared else { return };
        let mut state = shared.state.lock();
        state.last += 1;
        state.open = state.last;
        shared.set_mode(&mut state);
        drop(state);
        shared.changed.notify_one();
    }

    /// Ends the question, restores the mode of the terminal, and discards the input that was not read.
    pub(crate) fn close(&self) {
        if let Some(shared) = &self.shared {
            shared.close();
        }
    }

    /// Returns the next key of the open question, or `None` if the terminal is gone.
    pub(crate) async fn next_key(&self) -> Option<TypedKey> {
        let mut keys = self.keys.lock().await;
        loop {
            let (question, key) = keys.recv().await?;
            if self.shared.as_ref().is_none_or(|shared| shared.state.lock().open == question) {
                return Some(key);
            }
        }
    }

    /// Returns a reader of given keys, for tests.
    #[cfg(test)]
    pub(crate) fn from_keys(typed: impl IntoIterator<Item = TypedKey>) -> Self {
        let (sender, keys) = mpsc::channel(MAX_QUEUED_KEYS);
        for key in typed {
            sender.try_send((0, key)).expect("few keys");
        }
        Self { shared: None, keys: tokio::sync::Mutex::new(keys) }
    }
}

impl Drop for KeyReader {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.close();
            shared.screen.lock().take();
            shared.state.lock().is_closed = true;
            shared.changed.notify_one();
        }
    }
}

/// Restores the mode of the terminal when the reading thread ends.
struct RestoreOnDrop(Arc<KeyShared>);

impl Drop for RestoreOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl KeyShared {
    fn close(&self) {
        let mut state = self.state.lock();
        if state.open != 0 {
            state.open = 0;
            self.restore_mode(&mut state);
        }
    }

    /// Makes the terminal return single keys without echo. Ctrl-C still sends its signal.
    fn set_mode(&self, state: &mut KeyState) {
        if !is_in_foreground(&self.terminal) {
            return;
        }
        let Ok(mode) = tcgetattr(&self.terminal) else { return };
        if is_key_mode(&mode) {
            return;
        }
        let mut key_mode = mode.clone();
        state.original = Some(mode);
        key_mode.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::IEXTEN);
        // A read returns at once, also without a key.
        key_mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        key_mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        // Ctrl-Z is read as a key, so that the mode can be restored first.
        key_mode.control_chars[SpecialCharacterIndices::VSUSP as usize] = DISABLED;
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &key_mode);
        let _ = tcflush(&self.terminal, FlushArg::TCIFLUSH);
        self.write_control(PASTE_MARKS_ON);
    }

    fn restore_mode(&self, state: &mut KeyState) {
        let Some(original) = state.original.take() else { return };
        if is_in_foreground(&self.terminal) {
            self.write_control(PASTE_MARKS_OFF);
            let _ = tcflush(&self.terminal, FlushArg::TCIFLUSH);
            let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &original);
        }
    }

    fn write_control(&self, sequence: &[u8]) {
        if let Some(mut control) = self.control.as_ref() {
            let _ = control.write_all(sequence);
        }
    }

    /// Waits until a question is open. Returns `false` if the reader is closed.
    fn wait_for_question(&self) -> bool {
        let mut state = self.state.lock();
        while state.open == 0 && !state.is_closed {
            self.changed.wait(&mut state);
        }
        !state.is_closed
    }

    /// Reads what was typed for the open question, and returns its number and the number of bytes. Without one, the
    /// input is for another reader of the terminal, such as the prompt of a session.
    fn read_open(&self, buffer: &mut [u8]) -> io::Result<Option<(u64, usize)>> {
        let state = self.state.lock();
        // In another mode, a read would wait for a line.
        if state.open == 0 || !tcgetattr(&self.terminal).is_ok_and(|mode| is_key_mode(&mode)) {
            return Ok(None);
        }
        (&self.terminal).read(buffer).map(|count| Some((state.open, count)))
    }

    fn pause_screen(&self) -> Option<ScreenPause> {
        let screen = self.screen.lock().clone();
        screen.map(|screen| screen.pause())
    }

    /// Stops the process group like Ctrl-Z does, and returns when it is in the foreground again.
    fn suspend(&self) {
        let _pause = self.pause_screen();
        self.restore_mode(&mut self.state.lock());
        let _ = kill(Pid::from_raw(0), Signal::SIGTSTP);
        self.wait_for_foreground();
    }

    /// Waits until this process is in the foreground, and sets the mode again if a question is still open.
    fn wait_for_foreground(&self) {
        while !is_in_foreground(&self.terminal) && self.state.lock().open != 0 && tcgetattr(&self.terminal).is_ok() {
            std::thread::sleep(FOREGROUND_CHECK_INTERVAL);
        }
        let mut state = self.state.lock();
        if state.open != 0 {
            self.set_mode(&mut state);
        }
    }
}

fn is_key_mode(mode: &Termios) -> bool {
    !mode.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO)
}

fn read_keys(shared: &KeyShared, keys: &mpsc::Sender<(u64, TypedKey)>) {
    let mut decoder = KeyDecoder::default();
    let mut buffer = [0; 4_096];
    while shared.wait_for_question() {
        // The shell that continues a stopped process may have changed the mode, and so may a process in the background.
        let Ok(mode) = tcgetattr(&shared.terminal) else { return };
        if !is_in_foreground(&shared.terminal) || !is_key_mode(&mode) {
            let _pause = shared.pause_screen();
            shared.wait_for_foreground();
            continue;
        }
        if !wait_for_input(&shared.terminal) {
            decoder.end_sequence();
            continue;
        }
        let (question, count) = match shared.read_open(&mut buffer) {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if count == 0 {
            decoder.end_sequence();
            continue;
        }
        let mut decoded = decoder.decode(&buffer[..count]).into_iter();
        while let Some(key) = decoded.next() {
            let is_end = key == TypedKey::Enter;
            if key == TypedKey::Suspend {
                shared.suspend();
            } else {
                // A question that is closed at this moment needs no keys.
                let _ = keys.try_send((question, key));
            }
            // What arrives together with a line break was pasted, and must not answer the next question.
            if is_end && decoded.next().is_some() {
                let _ = tcflush(&shared.terminal, FlushArg::TCIFLUSH);
                break;
            }
        }
    }
}
