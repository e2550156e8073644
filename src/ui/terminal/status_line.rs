//! A line on a live screen while the host waits for something outside of a run.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::screen::Screen;
use crate::view::text::format_elapsed;

/// The time after which a wait is shown. A shorter one is not noticed.
const SHOW_DELAY: Duration = Duration::from_millis(300);

/// Shows what the host waits for, and for how long, until `work` ends. Shows nothing if the screen is not live.
pub(crate) async fn show_while<T>(screen: &Screen, text: impl Into<String>, work: impl Future<Output = T>) -> T {
    let text = text.into();
    show_text_while(screen, move || text.clone(), work).await
}

/// Shows as [`show_while`], with a text that changes.
pub(crate) async fn show_text_while<T>(
    screen: &Screen,
    text: impl Fn() -> String + Send + Sync + 'static,
    work: impl Future<Output = T>,
) -> T {
    let start = Instant::now();
    screen.show(Arc::new(move |_| match start.elapsed() {
        elapsed if elapsed < SHOW_DELAY => Vec::new(),
        elapsed => vec![format!("{} … {}", text(), format_elapsed(elapsed))],
    }));
    let _line = HideOnDrop(screen);
    work.await
}

/// Removes the line, also if the work is given up.
struct HideOnDrop<'s>(&'s Screen);

impl Drop for HideOnDrop<'_> {
    fn drop(&mut self) {
        self.0.hide();
        self.0.flush();
    }
}
