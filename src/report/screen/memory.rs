//! A screen for tests.
//! Never writes to a terminal.

use std::sync::{Arc, Mutex};

use super::{Device, Output, Size};

/// A device that keeps what was written, wherever it went.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<String>>);

impl Memory {
    /// All that was written so far.
    pub(crate) fn text(&self) -> String {
        self.0.lock().expect("no panic").clone()
    }
}

impl Device for Memory {
    fn write(&mut self, _: Output, text: &str) {
        self.0.lock().expect("no panic").push_str(text);
    }
    fn size(&self) -> Size {
        Size { rows: 24, columns: 80 }
    }
}
