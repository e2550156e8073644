//! Converts paint steps into text with the escape sequences that replace the last frame. It does no IO.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::device::{OutputStream, ScreenCapabilities, ScreenSize};
use super::frame::{Frame, FrameParts, safe_text};
use super::wrap::wrap_words;

/// A step of output.
#[derive(Debug)]
pub(super) enum PaintStep {
    /// A complete line, or several with line breaks between them.
    Line(String),
    /// Text of a prompt or of an answer, unchanged.
    Text(OutputStream, String),
    /// The label of a prompt, which is repeated after lines that interrupt it.
    Label(String),
    /// The line ended on the terminal itself, because a person typed a line break.
    LineBreakTyped,
    /// The prompt or the answer ended; later text starts on a new line.
    EndText,
    /// A prompt on a live screen ended. Its lines stay.
    EndPrompt { id: u64, lines: Vec<String> },
    /// A signal to the person.
    Bell,
}

/// The renderer, which tracks what is on the screen.
pub(super) struct Painter {
    capabilities: ScreenCapabilities,
    /// The frame as last drawn.
    drawn: Frame,
    /// The size of the screen at that time.
    drawn_size: ScreenSize,
    /// The stream whose text ends in the middle of a line, if any.
    mid_line: Option<OutputStream>,
    /// The label of the open prompt, on a screen that is not live.
    label: Option<String>,
    /// The prompt whose first lines no longer fit, and the number of them.
    overflowed: (u64, usize),
}

impl Painter {
    pub(super) fn new(capabilities: ScreenCapabilities) -> Self {
        Self {
            capabilities,
            drawn: Frame::default(),
            drawn_size: ScreenSize::default(),
            mid_line: None,
            label: None,
            overflowed: (0, 0),
        }
    }

    /// Returns the text that writes `steps` and then draws `parts` below, in order; empty if nothing changes.
    pub(super) fn paint(
        &mut self,
        steps: VecDeque<PaintStep>,
        parts: &FrameParts,
        size: ScreenSize,
    ) -> Vec<(OutputStream, String)> {
        let hidden = parts.prompt.as_ref().map_or(0, |prompt| self.overflow_of(prompt.id));
        let frame = Frame::lay_out(parts, hidden, self.capabilities, size);
        if steps.is_empty() && frame == self.drawn && size == self.drawn_size {
            return Vec::new();
        }
        let mut strokes = Vec::new();
        push_text(&mut strokes, OutputStream::Messages, &self.erase_sequence(size));
        for step in steps {
            self.write_step(step, size, &mut strokes);
        }
        if let Some(prompt) = &parts.prompt {
            self.overflowed = (prompt.id, hidden + frame.overflow);
            for line in &prompt.lines[hidden..hidden + frame.overflow] {
                self.write_wrapped(line, size, &mut strokes);
            }
        }
        if let Some(label) = self.label.clone().filter(|_| self.mid_line.is_none()) {
            push_text(&mut strokes, OutputStream::Messages, &label);
            self.mid_line = Some(OutputStream::Messages);
        }
        push_text(&mut strokes, OutputStream::Messages, &draw_sequence(&frame));
        self.drawn = frame;
        self.drawn_size = size;
        strokes
    }

    fn write_step(&mut self, step: PaintStep, size: ScreenSize, strokes: &mut Vec<(OutputStream, String)>) {
        match step {
            // Only a live screen has a width: the lines of a log file stay whole.
            PaintStep::Line(line) if self.capabilities.live => {
                self.end_open_line(strokes);
                line.split('\n').for_each(|line| self.write_wrapped(line, size, strokes));
            }
            PaintStep::Line(line) => {
                self.end_open_line(strokes);
                push_text(strokes, OutputStream::Messages, &safe_text(&line, self.capabilities));
                push_text(strokes, OutputStream::Messages, "\n");
            }
            PaintStep::Text(output, text) => {
                if output == OutputStream::Messages && self.label.take().is_some() {
                    self.end_open_line(strokes);
                }
                push_text(strokes, output, &safe_text(&text, self.capabilities));
                if !text.is_empty() {
                    self.mid_line = (!text.ends_with('\n')).then_some(output);
                }
            }
            PaintStep::Label(label) => {
                self.end_open_line(strokes);
                let label = safe_text(&label, self.capabilities).into_owned();
                push_text(strokes, OutputStream::Messages, &label);
                self.label = Some(label);
                self.mid_line = Some(OutputStream::Messages);
            }
            PaintStep::LineBreakTyped => {
                self.label = None;
                self.mid_line = None;
            }
            PaintStep::EndText => {
                self.label = None;
                self.end_open_line(strokes);
            }
            PaintStep::EndPrompt { id, lines } => {
                self.end_open_line(strokes);
                for line in lines.iter().skip(self.overflow_of(id)) {
                    self.write_wrapped(line, size, strokes);
                }
            }
            PaintStep::Bell => push_text(strokes, OutputStream::Messages, "\x07"),
        }
    }

    /// Returns the number of lines of a prompt that were written above the frame.
    fn overflow_of(&self, prompt: u64) -> usize {
        if self.overflowed.0 == prompt { self.overflowed.1 } else { 0 }
    }

    /// Writes a line in rows that fit the screen.
    fn write_wrapped(&self, line: &str, size: ScreenSize, strokes: &mut Vec<(OutputStream, String)>) {
        let columns = size.columns.saturating_sub(1).max(1);
        for row in wrap_words(&safe_text(line, self.capabilities), columns) {
            push_text(strokes, OutputStream::Messages, &row);
            push_text(strokes, OutputStream::Messages, "\n");
        }
    }

    /// Moves to the start of the last frame and clears everything below.
    ///
    /// The terminal may have become narrower since, and then each line takes more rows than before.
    fn erase_sequence(&self, size: ScreenSize) -> String {
        let columns = size.columns.max(1);
        let Frame { rows, cursor, .. } = &self.drawn;
        let height = |rows: &[String]| -> usize {
            rows.iter().map(|row| console::measure_text_width(row).div_ceil(columns).max(1)).sum()
        };
        let up = match cursor {
            None => height(rows),
            Some((row, column)) => height(&rows[..*row]) + column / columns,
        };
        let mut out = String::new();
        if up > 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, "\x1b[{up}A");
        }
        if !rows.is_empty() {
            out.push_str("\r\x1b[J");
        }
        out
    }

    fn end_open_line(&mut self, strokes: &mut Vec<(OutputStream, String)>) {
        if let Some(output) = self.mid_line.take() {
            push_text(strokes, output, "\n");
        }
    }
}

/// Returns the text that draws a frame and moves the cursor to its place.
fn draw_sequence(frame: &Frame) -> String {
    let mut out = frame.rows.join("\n");
    let Some((row, column)) = frame.cursor else {
        if !out.is_empty() {
            out.push('\n');
        }
        return out;
    };
    let up = frame.rows.len().saturating_sub(row + 1);
    if up > 0 {
        let _ = write!(out, "\x1b[{up}A");
    }
    if up > 0 || frame.rows.last().is_none_or(|last| console::measure_text_width(last) != column) {
        out.push('\r');
        if column > 0 {
            let _ = write!(out, "\x1b[{column}C");
        }
    }
    out
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
    use std::sync::Arc;

    use super::super::frame::{InputLine, PromptBlock};
    use super::*;

    const SIZE: ScreenSize = ScreenSize { rows: 4, columns: 20 };

    /// A painter whose strokes all go to one terminal.
    struct TestPainter(Painter);

    impl TestPainter {
        fn paint(&mut self, steps: VecDeque<PaintStep>, view: Vec<String>, size: ScreenSize) -> String {
            self.0.paint(steps, &parts(view), size).into_iter().map(|(_, text)| text).collect()
        }
    }

    fn painter(color: bool) -> TestPainter {
        TestPainter(Painter::new(ScreenCapabilities { live: true, color }))
    }

    fn line(text: &str) -> PaintStep {
        PaintStep::Line(text.to_owned())
    }

    fn parts(view: Vec<String>) -> FrameParts {
        let view = (!view.is_empty()).then(|| -> super::super::frame::LiveRegion { Arc::new(move |_| view.clone()) });
        FrameParts { view, prompt: None }
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
    fn wraps_permanent_lines_between_words() {
        let drawn = painter(true).paint([line("trip: booked for 360 EUR?\nnext")].into(), Vec::new(), SIZE);
        assert_eq!(drawn, "trip: booked for\n360 EUR?\nnext\n");
        let mut piped = TestPainter(Painter::new(ScreenCapabilities { live: false, color: false }));
        let whole = piped.paint([line("trip: booked for 360 EUR?")].into(), Vec::new(), SIZE);
        assert_eq!(whole, "trip: booked for 360 EUR?\n");
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
    fn label_is_repeated_after_lines_that_interrupt_it() {
        let mut painter = painter(false);
        let label = PaintStep::Label("name> ".to_owned());
        assert_eq!(painter.paint([label].into(), Vec::new(), SIZE), "name> ");
        assert_eq!(painter.paint([line("log")].into(), Vec::new(), SIZE), "\nlog\nname> ");
        assert_eq!(painter.paint([PaintStep::LineBreakTyped, line("log")].into(), Vec::new(), SIZE), "log\n");
    }

    #[test]
    fn prompt_is_drawn_below_the_view_with_its_cursor() {
        let mut painter = Painter::new(ScreenCapabilities { live: true, color: false });
        let mut parts = parts(view(&["a"]));
        let input = InputLine { label: "> ".to_owned(), text: "xy".to_owned(), cursor: 1 };
        parts.prompt =
            Some(PromptBlock { id: 7, lines: vec!["Sure?".to_owned()], input: Some(input), ..PromptBlock::default() });
        let mut text = |steps: VecDeque<PaintStep>, parts: &FrameParts| -> String {
            painter.paint(steps, parts, SIZE).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(text(VecDeque::new(), &parts), "a\nSure?\n> xy\r\x1b[3C");
        assert_eq!(text([line("log")].into(), &parts), "\x1b[2A\r\x1b[Jlog\na\nSure?\n> xy\r\x1b[3C");
        let end = PaintStep::EndPrompt { id: 7, lines: vec!["Sure?".to_owned(), "> xy".to_owned()] };
        parts.prompt = None;
        assert_eq!(text([end].into(), &parts), "\x1b[2A\r\x1b[JSure?\n> xy\na\n");
    }

    #[test]
    fn lines_of_a_prompt_that_do_not_fit_are_written_once() {
        let mut painter = Painter::new(ScreenCapabilities { live: true, color: false });
        let lines: Vec<String> = (1..=6).map(|n| n.to_string()).collect();
        let prompt = PromptBlock { id: 1, lines: lines.clone(), ..PromptBlock::default() };
        let parts = FrameParts { view: None, prompt: Some(prompt) };
        let drawn: String = painter.paint(VecDeque::new(), &parts, SIZE).into_iter().map(|(_, text)| text).collect();
        assert_eq!(drawn, "1\n2\n3\n4\n5\n6\n");
        let end = PaintStep::EndPrompt { id: 1, lines };
        let drawn = painter.paint([end].into(), &FrameParts::default(), SIZE);
        let drawn: String = drawn.into_iter().map(|(_, text)| text).collect();
        assert_eq!(drawn, "\x1b[3A\r\x1b[J4\n5\n6\n");
    }

    #[test]
    fn answer_goes_to_stdout_and_ends_its_line() {
        let mut painter = Painter::new(ScreenCapabilities { live: true, color: false });
        painter.paint(VecDeque::new(), &parts(view(&["writing"])), SIZE);
        let delta = |text: &str| PaintStep::Text(OutputStream::Answer, text.to_owned());
        let strokes = painter.paint([delta("It is"), delta(""), delta(" green.")].into(), &FrameParts::default(), SIZE);
        let (messages, answer) = (OutputStream::Messages, OutputStream::Answer);
        assert_eq!(strokes, [(messages, "\x1b[1A\r\x1b[J".to_owned()), (answer, "It is green.".to_owned())]);
        let strokes = painter.paint([PaintStep::EndText, line("done")].into(), &FrameParts::default(), SIZE);
        assert_eq!(strokes, [(answer, "\n".to_owned()), (messages, "done\n".to_owned())]);
    }

    #[test]
    fn removes_styles_without_color() {
        let steps = [line("\x1b[31mred\x1b[0m")];
        assert_eq!(painter(false).paint(steps.into(), view(&["\x1b[2mdim\x1b[0m"]), SIZE), "red\ndim\n");
    }
}
