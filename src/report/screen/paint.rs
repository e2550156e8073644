//! Turns what is to be shown into the bytes that show it: text, and the escapes that move over the live view.
//! Never writes them.

use std::{borrow::Cow, collections::VecDeque, fmt::Write as _};

use super::{
    super::text::{printable_styled, printable_unstyled},
    Abilities, Output, Size,
};

/// Something to write.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole line, or several with line breaks between them.
    Line(String),
    /// Text of a prompt or of an answer, as it is.
    Text(Output, String),
    /// A person ended the line on the terminal itself.
    Typed,
    /// The prompt or the answer is over; what follows begins on a line of its own.
    EndText,
}

/// Knows what is on the screen.
pub(super) struct Painter {
    abilities: Abilities,
    /// The live view as it was drawn.
    drawn: Vec<String>,
    /// Whose text the cursor stands behind, in the middle of a line.
    mid_line: Option<Output>,
}

impl Painter {
    pub(super) fn new(abilities: Abilities) -> Self {
        Self { abilities, drawn: Vec::new(), mid_line: None }
    }

    /// The bytes that write `steps` and then draw `view` below, in order; none where nothing changes.
    pub(super) fn paint(&mut self, steps: VecDeque<Step>, view: Vec<String>, size: Size) -> Vec<(Output, String)> {
        let most = size.rows.saturating_sub(1);
        let view: Vec<_> = view.into_iter().take(most).map(|line| self.fit(&line, size)).collect();
        if steps.is_empty() && view == self.drawn {
            return Vec::new();
        }
        let mut strokes = Vec::new();
        add(&mut strokes, Output::Talk, &self.erasure(size));
        for step in steps {
            match step {
                Step::Line(line) => {
                    self.break_line(&mut strokes);
                    add(&mut strokes, Output::Talk, &self.styled(&line));
                    add(&mut strokes, Output::Talk, "\n");
                }
                Step::Text(output, text) => {
                    add(&mut strokes, output, &self.styled(&text));
                    if !text.is_empty() {
                        self.mid_line = (!text.ends_with('\n')).then_some(output);
                    }
                }
                Step::Typed => self.mid_line = None,
                Step::EndText => self.break_line(&mut strokes),
            }
        }
        for line in &view {
            add(&mut strokes, Output::Talk, line);
            add(&mut strokes, Output::Talk, "\n");
        }
        self.drawn = view;
        strokes
    }

    /// Moves to where the live view began and clears all below. The terminal may have become narrower since, and
    /// then each line takes more rows than it did.
    fn erasure(&self, size: Size) -> String {
        let columns = size.columns.max(1);
        let rows: usize =
            self.drawn.iter().map(|line| console::measure_text_width(line).div_ceil(columns).max(1)).sum();
        let mut out = String::new();
        if rows > 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, "\x1b[{rows}A\r\x1b[J");
        }
        out
    }

    fn fit(&self, line: &str, size: Size) -> String {
        console::truncate_str(&self.styled(line), size.columns.saturating_sub(1), "…").into_owned()
    }

    /// Escapes what is unsafe, and removes styles where no colors are wanted.
    fn styled<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.abilities.colour { printable_styled(text) } else { printable_unstyled(text) }
    }

    fn break_line(&mut self, strokes: &mut Vec<(Output, String)>) {
        if let Some(output) = self.mid_line.take() {
            add(strokes, output, "\n");
        }
    }
}

/// Adds text to the last stroke, or as another where that went elsewhere.
fn add(strokes: &mut Vec<(Output, String)>, output: Output, text: &str) {
    match strokes.last_mut() {
        _ if text.is_empty() => {}
        Some((last, before)) if *last == output => before.push_str(text),
        _ => strokes.push((output, text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rows: 4, columns: 20 };

    /// A painter all of whose strokes go to one terminal.
    struct Drawn(Painter);

    impl Drawn {
        fn paint(&mut self, steps: VecDeque<Step>, view: Vec<String>, size: Size) -> String {
            self.0.paint(steps, view, size).into_iter().map(|(_, text)| text).collect()
        }
    }

    fn painter(colour: bool) -> Drawn {
        Drawn(Painter::new(Abilities { live: true, colour }))
    }

    fn line(text: &str) -> Step {
        Step::Line(text.to_owned())
    }

    fn view(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn draws_the_view_below_the_lines_and_over_the_last_one() {
        let mut painter = painter(true);
        assert_eq!(painter.paint([line("one")].into(), view(&["a", "b"]), SIZE), "one\na\nb\n");
        assert_eq!(painter.paint(VecDeque::new(), view(&["a", "b"]), SIZE), "");
        assert_eq!(painter.paint([line("two")].into(), view(&["c"]), SIZE), "\x1b[2A\r\x1b[Jtwo\nc\n");
        assert_eq!(painter.paint(VecDeque::new(), Vec::new(), SIZE), "\x1b[1A\r\x1b[J");
        assert_eq!(painter.paint(VecDeque::new(), Vec::new(), SIZE), "");
    }

    #[test]
    fn keeps_within_the_terminal_by_the_width_of_its_characters() {
        let mut painter = painter(true);
        let tall = painter.paint(VecDeque::new(), view(&["1", "2", "3", "4", "5"]), SIZE);
        assert_eq!(tall, "1\n2\n3\n");
        let wide = painter.paint(VecDeque::new(), view(&["世界世界世界世界世界世界"]), SIZE);
        assert_eq!(wide, "\x1b[3A\r\x1b[J世界世界世界世界世…\n");
        let narrower = Size { columns: 10, ..SIZE };
        assert_eq!(painter.paint(VecDeque::new(), Vec::new(), narrower), "\x1b[2A\r\x1b[J");
    }

    #[test]
    fn a_prompt_ends_its_line_unless_the_person_did() {
        let prompt = |ending| VecDeque::from([Step::Text(Output::Talk, "name> ".to_owned()), ending, line("next")]);
        assert_eq!(painter(true).paint(prompt(Step::EndText), Vec::new(), SIZE), "name> \nnext\n");
        assert_eq!(painter(true).paint(prompt(Step::Typed), Vec::new(), SIZE), "name> next\n");
    }

    #[test]
    fn an_answer_goes_to_its_own_output_and_ends_its_line_there() {
        let mut painter = Painter::new(Abilities { live: true, colour: false });
        painter.paint(VecDeque::new(), view(&["writing"]), SIZE);
        let said = |text: &str| Step::Text(Output::Answer, text.to_owned());
        let strokes = painter.paint([said("It is"), said(""), said(" green.")].into(), Vec::new(), SIZE);
        let (talk, answer) = (Output::Talk, Output::Answer);
        assert_eq!(strokes, [(talk, "\x1b[1A\r\x1b[J".to_owned()), (answer, "It is green.".to_owned())]);
        let strokes = painter.paint([Step::EndText, line("done")].into(), Vec::new(), SIZE);
        assert_eq!(strokes, [(answer, "\n".to_owned()), (talk, "done\n".to_owned())]);
    }

    #[test]
    fn takes_styles_out_where_no_colours_are_wanted() {
        let steps = [line("\x1b[31mred\x1b[0m")];
        assert_eq!(painter(false).paint(steps.into(), view(&["\x1b[2mdim\x1b[0m"]), SIZE), "red\ndim\n");
    }
}
