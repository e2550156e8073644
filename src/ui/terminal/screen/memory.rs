//! A screen device for tests.

use std::sync::{Arc, Mutex};

use super::device::{Device, OutputStream, ScreenSize};

/// A device that keeps all text, regardless of the stream.
#[derive(Clone, Default)]
pub(crate) struct MemoryDevice(Arc<Mutex<String>>);

impl MemoryDevice {
    /// Returns all text that was written so far.
    pub(crate) fn text(&self) -> String {
        self.0.lock().expect("no panic").clone()
    }
}

impl Device for MemoryDevice {
    fn write(&mut self, _: OutputStream, text: &str) {
        self.0.lock().expect("no panic").push_str(text);
    }
    fn size(&self) -> ScreenSize {
        ScreenSize { rows: 24, columns: 80 }
    }
}
