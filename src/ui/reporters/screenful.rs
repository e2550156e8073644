//! Cuts a result to a screenful.

use console::measure_text_width;

use crate::ui::terminal::screen::ScreenSize;
use crate::view::text::printable_text;

/// The rows that remain for the messages around the text.
const OTHER_ROWS: usize = 4;

/// The beginning of a text that fits on a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screenful<'t> {
    /// The lines that fit, each with its line break.
    pub text: &'t str,
    /// The number of lines that do not fit.
    pub omitted_lines: usize,
}

impl<'t> Screenful<'t> {
    /// Cuts `text` behind the last line that fits. Long lines take several rows.
    pub fn cut(text: &'t str, size: ScreenSize) -> Self {
        let room = size.rows.saturating_sub(OTHER_ROWS).max(1);
        let (mut rows, mut end) = (0, 0);
        for line in text.split_inclusive('\n') {
            let width = measure_text_width(&printable_text(line.trim_end_matches('\n')));
            rows += width.div_ceil(size.columns.max(1)).max(1);
            if rows > room && end > 0 {
                break;
            }
            end += line.len();
        }
        Self { text: &text[..end], omitted_lines: text[end..].lines().count() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ScreenSize = ScreenSize { rows: 8, columns: 10 };

    #[test]
    fn text_is_cut_at_a_line_that_does_not_fit() {
        let cut = |text: &'static str| {
            let Screenful { text, omitted_lines } = Screenful::cut(text, SIZE);
            (text, omitted_lines)
        };
        assert_eq!(cut("a\nb\nc\nd\n"), ("a\nb\nc\nd\n", 0));
        assert_eq!(cut("a\nb\nc\nd\ne\nf\n"), ("a\nb\nc\nd\n", 2));
        assert_eq!(cut("a\n0123456789012345678901234\nc\n"), ("a\n0123456789012345678901234\n", 1));
        assert_eq!(cut("\n\n世界世界世界\nd\n"), ("\n\n世界世界世界\n", 1));
        assert_eq!(cut(""), ("", 0));
    }
}
