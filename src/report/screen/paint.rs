//! Turns what is to be shown into the bytes that show it: text, and the escapes that move over the live view.
//! Never writes them.

use std::{collections::VecDeque, fmt::Write as _};

use super::{Abilities, Size};

/// Something to write.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole line.
    Line(String),
    /// Text of a prompt, as it is.
    Text(String),
    /// A person ended the line on the terminal itself.
    Typed,
    /// The prompt is over; what follows begins on a line of its own.
    EndPrompt,
}

/// Knows what is on the screen.
pub(super) struct Painter {
    abilities: Abilities,
    /// The live view as it was drawn.
    drawn: Vec<String>,
    /// Whether the cursor stands behind text of a prompt.
    is_mid_line: bool,
}

impl Painter {
    pub(super) fn new(abilities: Abilities) -> Self {
        Self { abilities, drawn: Vec::new(), is_mid_line: false }
    }

    /// The bytes that write `steps` and then draw `view` below; none where nothing changes.
    pub(super) fn paint(&mut self, steps: VecDeque<Step>, view: Vec<String>, size: Size) -> String {
        let most = size.rows.saturating_sub(1);
        let view: Vec<_> = view.into_iter().take(most).map(|line| self.fit(&line, size)).collect();
        if steps.is_empty() && view == self.drawn {
            return String::new();
        }
        let mut out = self.erasure(size);
        for step in steps {
            match step {
                Step::Line(line) => {
                    self.break_line(&mut out);
                    out.push_str(&self.styled(&line));
                    out.push('\n');
                }
                Step::Text(text) => {
                    out.push_str(&self.styled(&text));
                    self.is_mid_line = !text.ends_with('\n') && (self.is_mid_line || !text.is_empty());
                }
                Step::Typed => self.is_mid_line = false,
                Step::EndPrompt => self.break_line(&mut out),
            }
        }
        for line in &view {
            out.push_str(line);
            out.push('\n');
        }
        self.drawn = view;
        out
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

    fn styled(&self, text: &str) -> String {
        if self.abilities.colour { text.to_owned() } else { anstream::adapter::strip_str(text).to_string() }
    }

    fn break_line(&mut self, out: &mut String) {
        if std::mem::take(&mut self.is_mid_line) {
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rows: 4, columns: 20 };

    fn painter(colour: bool) -> Painter {
        Painter::new(Abilities { live: true, colour })
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
        let prompt = |ending| VecDeque::from([Step::Text("name> ".to_owned()), ending, line("next")]);
        assert_eq!(painter(true).paint(prompt(Step::EndPrompt), Vec::new(), SIZE), "name> \nnext\n");
        assert_eq!(painter(true).paint(prompt(Step::Typed), Vec::new(), SIZE), "name> next\n");
    }

    #[test]
    fn takes_styles_out_where_no_colours_are_wanted() {
        let steps = [line("\x1b[31mred\x1b[0m")];
        assert_eq!(painter(false).paint(steps.into(), view(&["\x1b[2mdim\x1b[0m"]), SIZE), "red\ndim\n");
    }
}
