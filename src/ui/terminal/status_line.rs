//! A line on a live screen while the host waits for something outside of a run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::screen::Screen;
use crate::view::text::format_elapsed;

/// The time after which a wait is shown. A shorter one is not noticed.
const SHOW_DELAY: Duration = Duration::from_millis(300);

/// A status line with the elapsed time, which is removed when this is dropped.
pub(crate) struct StatusLine<'s>(&'s Screen);

impl<'s> StatusLine<'s> {
    /// Shows what the host waits for. Does nothing if the screen is not live.
    pub(crate) fn show(screen: &'s Screen, text: impl Into<String>) -> Self {
        let (start, text) = (Instant::now(), text.into());
        screen.show(Arc::new(move |_| match start.elapsed() {
            elapsed if elapsed < SHOW_DELAY => Vec::new(),
            elapsed => vec![format!("{text} … {}", format_elapsed(elapsed))],
        }));
        Self(screen)
    }
}

impl Drop for StatusLine<'_> {
    fn drop(&mut self) {
        self.0.hide();
        self.0.flush();
    }
}
