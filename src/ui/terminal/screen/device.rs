//! The device that a screen writes to, and its capabilities.

use std::io::{self, Write};

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

/// The standard streams of the process.
pub(super) struct StdioDevice;

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
