//! Lays out what stays at the bottom of the screen: the live view, and the prompt below it. It does no IO.

use std::borrow::Cow;
use std::sync::Arc;

use super::device::{ScreenCapabilities, ScreenSize};
use super::wrap::{wrap_input, wrap_words};
use crate::view::text::{printable, printable_styled, printable_unstyled};

/// The rows that a prompt leaves to a live view.
const MIN_VIEW_ROWS: usize = 5;

/// A callback that returns the lines of the live view for a screen size. It runs on the screen thread.
pub type LiveRegion = Arc<dyn Fn(ScreenSize) -> Vec<String> + Send + Sync>;

/// A callback that returns the status lines of a prompt, such as the time that is left. It runs on the screen thread.
pub type PromptStatus = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// A line that a person is typing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputLine {
    /// The text before the input.
    pub label: String,
    /// The input so far.
    pub text: String,
    /// The position of the cursor in the input, in bytes.
    pub cursor: usize,
}

impl InputLine {
    /// Returns the line as it is shown.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.label, printable(&self.text))
    }

    /// Returns the position of the cursor in the line as it is shown.
    fn shown_cursor(&self) -> usize {
        self.label.len() + printable(&self.text[..self.cursor]).len()
    }
}

/// A prompt on a live screen.
#[derive(Clone, Default)]
pub(super) struct PromptBlock {
    pub(super) id: u64,
    /// The lines above the input.
    pub(super) lines: Vec<String>,
    /// A message about the last key, until the next one.
    pub(super) notice: Option<String>,
    pub(super) status: Option<PromptStatus>,
    pub(super) input: Option<InputLine>,
}

/// The parts of a frame.
#[derive(Clone, Default)]
pub(super) struct FrameParts {
    pub(super) view: Option<LiveRegion>,
    pub(super) prompt: Option<PromptBlock>,
}

impl FrameParts {
    pub(super) fn is_empty(&self) -> bool {
        self.view.is_none() && self.prompt.is_none()
    }
}

/// The rows at the bottom of the screen, each narrower than the screen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) rows: Vec<String>,
    /// The row and column of the cursor, or `None` below the rows.
    pub(super) cursor: Option<(usize, usize)>,
    /// The number of lines of the prompt that do not fit, in addition to those that did not fit before.
    pub(super) overflow: usize,
}

impl Frame {
    /// Lays out the parts, without the first `hidden` lines of the prompt.
    pub(super) fn lay_out(
        parts: &FrameParts,
        hidden: usize,
        capabilities: ScreenCapabilities,
        size: ScreenSize,
    ) -> Self {
        let columns = size.columns.saturating_sub(1).max(1);
        let fit = |text: &str| console::truncate_str(&safe_text(text, capabilities), columns, "…").into_owned();
        let Some(prompt) = &parts.prompt else {
            let view = parts.view.as_ref().map(|view| view(size)).unwrap_or_default();
            let rows = view.iter().take(size.rows.saturating_sub(1)).map(|line| fit(line)).collect();
            return Self { rows, ..Self::default() };
        };
        let input = prompt.input.clone().unwrap_or_default();
        let (mut input_rows, (row, column)) = wrap_input(&input.shown(), input.shown_cursor(), columns);
        // Of an input that exceeds the screen, the rows around the cursor are shown.
        let max_input_rows = (size.rows / 2).max(1);
        let first = (row + 1).saturating_sub(max_input_rows);
        input_rows.drain(..first);
        input_rows.truncate(max_input_rows);
        let row = row - first;
        let status = prompt.status.as_ref().map(|status| status()).unwrap_or_default();
        let below: Vec<String> = status.iter().chain(&prompt.notice).map(|line| fit(line)).collect();

        let view_rows = if parts.view.is_some() { MIN_VIEW_ROWS.min(size.rows / 4) } else { 0 };
        let room = size.rows.saturating_sub(view_rows + below.len() + input_rows.len());
        let mut lines: Vec<_> =
            prompt.lines[hidden..].iter().map(|line| wrap_words(&safe_text(line, capabilities), columns)).collect();
        let mut used: usize = lines.iter().map(Vec::len).sum();
        let mut overflow = 0;
        while used > room && overflow < lines.len() {
            used -= lines[overflow].len();
            overflow += 1;
        }
        lines.drain(..overflow);

        let view_rows = size.rows.saturating_sub(used + below.len() + input_rows.len());
        let view = parts.view.as_ref().map(|view| view(ScreenSize { rows: view_rows, ..size })).unwrap_or_default();
        // The end of the view has the totals.
        let cut = view.len().saturating_sub(view_rows);
        let mut rows: Vec<String> = view[cut..].iter().map(|line| fit(line)).collect();
        rows.extend(lines.into_iter().flatten());
        rows.extend(below);
        let row = rows.len() + row;
        rows.extend(input_rows);
        Self { rows, cursor: Some((row, column)), overflow }
    }
}

/// Escapes unsafe characters, and removes styles if colors are disabled.
pub(super) fn safe_text(text: &str, capabilities: ScreenCapabilities) -> Cow<'_, str> {
    if capabilities.color { printable_styled(text) } else { printable_unstyled(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: ScreenCapabilities = ScreenCapabilities { live: true, color: false };
    const SIZE: ScreenSize = ScreenSize { rows: 12, columns: 20 };

    fn view(lines: usize) -> Option<LiveRegion> {
        Some(Arc::new(move |_| (1..=lines).map(|n| format!("task {n}")).collect()))
    }

    fn prompt(lines: usize, text: &str) -> PromptBlock {
        PromptBlock {
            lines: (1..=lines).map(|n| format!("line {n}")).collect(),
            status: Some(Arc::new(|| vec!["1 more question waits".to_owned()])),
            input: Some(InputLine { label: "name> ".to_owned(), text: text.to_owned(), cursor: text.len() }),
            ..PromptBlock::default()
        }
    }

    fn frame(parts: &FrameParts) -> (String, Option<(usize, usize)>, usize) {
        let frame = Frame::lay_out(parts, 0, PLAIN, SIZE);
        (frame.rows.join("\n"), frame.cursor, frame.overflow)
    }

    #[test]
    fn the_prompt_is_below_the_view() {
        let parts = FrameParts { view: view(2), prompt: Some(prompt(1, "ab")) };
        let rows = "task 1\ntask 2\nline 1\n1 more question wa…\nname> ab";
        assert_eq!(frame(&parts), (rows.to_owned(), Some((4, 8)), 0));
        let rows = "task 1\ntask 2".to_owned();
        assert_eq!(frame(&FrameParts { view: view(2), prompt: None }), (rows, None, 0));
    }

    #[test]
    fn a_long_prompt_leaves_room_for_the_end_of_the_view() {
        let parts = FrameParts { view: view(20), prompt: Some(prompt(20, "")) };
        let (rows, cursor, overflow) = frame(&parts);
        let expected = ["task 18", "task 19", "task 20", "line 14"];
        assert_eq!(rows.lines().take(4).collect::<Vec<_>>(), expected);
        assert_eq!((rows.lines().count(), cursor, overflow), (12, Some((11, 6)), 13));
        let again = Frame::lay_out(&parts, 13, PLAIN, SIZE);
        assert_eq!((again.rows.join("\n"), again.overflow), (rows, 0));
    }

    #[test]
    fn a_long_input_shows_the_rows_around_the_cursor() {
        let parts = FrameParts { view: None, prompt: Some(prompt(0, &"x".repeat(300))) };
        let (rows, cursor, _) = frame(&parts);
        assert_eq!((rows.lines().count(), cursor), (7, Some((6, 2))));
    }

    #[test]
    fn typed_text_is_escaped() {
        let parts = FrameParts { view: None, prompt: Some(prompt(0, "a\u{202e}b")) };
        let (rows, cursor, _) = frame(&parts);
        assert_eq!((rows.lines().last(), cursor), (Some("name> a\\u{202e}b"), Some((1, 16))));
    }
}
