//! Converts paint steps into text with the escape sequences that replace the live view. It does no IO.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write as _;

use super::device::{OutputStream, ScreenCapabilities, ScreenSize};
use crate::view::text::{printable_styled, printable_unstyled};

/// A step of output.
#[derive(Debug)]
pub(super) enum PaintStep {
    /// A complete line, or several with line breaks between them.
    Line(String),
    /// Text of a prompt or of an answer, unchanged.
    Text(OutputStream, String),
    /// The line ended on the terminal itself, because a person typed a line break.
    LineBreakTyped,
    /// The prompt or the answer ended; later text starts on a new line.
    EndText,
}

/// The renderer, which tracks what is on the screen.
pub(super) struct Painter {
    capabilities: ScreenCapabilities,
    /// The lines of the live view as last drawn.
    drawn_lines: Vec<String>,
    /// The stream whose text ends in the middle of a line, if any.
    mid_line: Option<OutputStream>,
}

impl Painter {
    pub(super) fn new(capabilities: ScreenCapabilities) -> Self {
        Self { capabilities, drawn_lines: Vec::new(), mid_line: None }
    }

    /// Returns the text that writes `steps` and then draws `view` below, in order; empty if nothing changes.
    pub(super) fn paint(
        &mut self,
        steps: VecDeque<PaintStep>,
        view: Vec<String>,
        size: ScreenSize,
    ) -> Vec<(OutputStream, String)> {
        let max_lines = size.rows.saturating_sub(1);
        let view: Vec<_> = view.into_iter().take(max_lines).map(|line| self.fit_width(&line, size)).collect();
        if steps.is_empty() && view == self.drawn_lines {
            return Vec::new();
        }
        let mut strokes = Vec::new();
        push_text(&mut strokes, OutputStream::Messages, &self.erase_sequence(size));
        for step in steps {
            match step {
                PaintStep::Line(line) => {
                    self.end_open_line(&mut strokes);
                    push_text(&mut strokes, OutputStream::Messages, &self.safe_text(&line));
                    push_text(&mut strokes, OutputStream::Messages, "\n");
                }
                PaintStep::Text(output, text) => {
                    push_text(&mut strokes, output, &self.safe_text(&text));
                    if !text.is_empty() {
                        self.mid_line = (!text.ends_with('\n')).then_some(output);
                    }
                }
                PaintStep::LineBreakTyped => self.mid_line = None,
                PaintStep::EndText => self.end_open_line(&mut strokes),
            }
        }
        for line in &view {
            push_text(&mut strokes, OutputStream::Messages, line);
            push_text(&mut strokes, OutputStream::Messages, "\n");
        }
        self.drawn_lines = view;
        strokes
    }

    /// Moves to the start of the live view and clears everything below.
    ///
    /// The terminal may have become narrower since, and then each line takes more rows than before.
    fn erase_sequence(&self, size: ScreenSize) -> String {
        let columns = size.columns.max(1);
        let rows: usize =
            self.drawn_lines.iter().map(|line| console::measure_text_width(line).div_ceil(columns).max(1)).sum();
        let mut out = String::new();
        if rows > 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, "\x1b[{rows}A\r\x1b[J");
        }
        out
    }

    fn fit_width(&self, line: &str, size: ScreenSize) -> String {
        console::truncate_str(&self.safe_text(line), size.columns.saturating_sub(1), "…").into_owned()
    }

    /// Escapes unsafe characters, and removes styles if colors are disabled.
    fn safe_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.capabilities.color { printable_styled(text) } else { printable_unstyled(text) }
    }

    fn end_open_line(&mut self, strokes: &mut Vec<(OutputStream, String)>) {
        if let Some(output) = self.mid_line.take() {
            push_text(strokes, output, "\n");
        }
    }
}

/// Appends text to the last stroke, or adds another stroke for another stream.
fn push_text(strokes: &mut Vec<(OutputStream, String)>, output: OutputStream, text: &str) {
    match strokes.last_mut() {
        _ if text.is_empty() => {}
        Some((last, before)) if *last == output => before.push_str(text),
        _ => strokes.push((output, text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ScreenSize = ScreenSize { rows: 4, columns: 20 };

    /// A painter whose strokes all go to one terminal.
    struct TestPainter(Painter);

    impl TestPainter {
        fn paint(&mut self, steps: VecDeque<PaintStep>, view: Vec<String>, size: ScreenSize) -> String {
            self.0.paint(steps, view, size).into_iter().map(|(_, text)| text).collect()
        }
    }

    fn painter(color: bool) -> TestPainter {
        TestPainter(Painter::new(ScreenCapabilities { live: true, color }))
    }

    fn line(text: &str) -> PaintStep {
        PaintStep::Line(text.to_owned())
    }

    fn view(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn draws_the_view_below_lines_and_replaces_it() {
        let mut painter = painter(true);
        assert_eq!(painter.paint([line("one")].into(), view(&["a", "b"]), SIZE), "one\na\nb\n");
        assert_eq!(painter.paint(VecDeque::new(), view(&["a", "b"]), SIZE), "");
        assert_eq!(painter.paint([line("two")].into(), view(&["c"]), SIZE), "\x1b[2A\r\x1b[Jtwo\nc\n");
        assert_eq!(painter.paint(VecDeque::new(), Vec::new(), SIZE), "\x1b[1A\r\x1b[J");
        assert_eq!(painter.paint(VecDeque::new(), Vec::new(), SIZE), "");
    }

    #[test]
    fn truncates_lines_by_display_width() {
        let mut painter = painter(true);
        let tall = painter.paint(VecDeque::new(), view(&["1", "2", "3", "4", "5"]), SIZE);
        assert_eq!(tall, "1\n2\n3\n");
        let wide = painter.paint(VecDeque::new(), view(&["世界世界世界世界世界世界"]), SIZE);
        assert_eq!(wide, "\x1b[3A\r\x1b[J世界世界世界世界世…\n");
        let narrower = ScreenSize { columns: 10, ..SIZE };
        assert_eq!(painter.paint(VecDeque::new(), Vec::new(), narrower), "\x1b[2A\r\x1b[J");
    }

    #[test]
    fn prompt_ends_its_line_once() {
        let prompt = |ending| {
            VecDeque::from([PaintStep::Text(OutputStream::Messages, "name> ".to_owned()), ending, line("next")])
        };
        assert_eq!(painter(true).paint(prompt(PaintStep::EndText), Vec::new(), SIZE), "name> \nnext\n");
        assert_eq!(painter(true).paint(prompt(PaintStep::LineBreakTyped), Vec::new(), SIZE), "name> next\n");
    }

    #[test]
    fn answer_goes_to_stdout_and_ends_its_line() {
        let mut painter = Painter::new(ScreenCapabilities { live: true, color: false });
        painter.paint(VecDeque::new(), view(&["writing"]), SIZE);
        let delta = |text: &str| PaintStep::Text(OutputStream::Answer, text.to_owned());
        let strokes = painter.paint([delta("It is"), delta(""), delta(" green.")].into(), Vec::new(), SIZE);
        let (messages, answer) = (OutputStream::Messages, OutputStream::Answer);
        assert_eq!(strokes, [(messages, "\x1b[1A\r\x1b[J".to_owned()), (answer, "It is green.".to_owned())]);
        let strokes = painter.paint([PaintStep::EndText, line("done")].into(), Vec::new(), SIZE);
        assert_eq!(strokes, [(answer, "\n".to_owned()), (messages, "done\n".to_owned())]);
    }

    #[test]
    fn removes_styles_without_color() {
        let steps = [line("\x1b[31mred\x1b[0m")];
        assert_eq!(painter(false).paint(steps.into(), view(&["\x1b[2mdim\x1b[0m"]), SIZE), "red\ndim\n");
    }
}
