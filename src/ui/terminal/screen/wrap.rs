//! Wraps styled text to the width of a screen. Only words that do not fit in a row are split.

use console::{AnsiCodeIterator, measure_text_width};

/// Wraps a line at spaces. Further rows are indented like the first one.
pub(super) fn wrap_words(line: &str, columns: usize) -> Vec<String> {
    if measure_text_width(line) <= columns {
        return vec![line.to_owned()];
    }
    let plain = console::strip_ansi_codes(line);
    let indent = " ".repeat((plain.len() - plain.trim_start_matches(' ').len()).min(columns / 2));
    let mut rows = Vec::new();
    let (mut row, mut width) = (String::new(), 0);
    // The place of the last space after the indentation, where the row can end.
    let mut last_space = None;
    for (piece, is_style) in AnsiCodeIterator::new(line) {
        if is_style {
            row.push_str(piece);
            continue;
        }
        for c in piece.chars() {
            if width + char_width(c) > columns {
                let rest = match last_space.take() {
                    Some(at) if c != ' ' => row.split_off(at),
                    _ => String::new(),
                };
                let next = format!("{indent}{rest}");
                width = measure_text_width(&next);
                rows.push(std::mem::replace(&mut row, next).trim_end().to_owned());
                if c == ' ' {
                    continue;
                }
            }
            row.push(c);
            width += char_width(c);
            if c == ' ' && width > indent.len() {
                last_space = Some(row.len());
            }
        }
    }
    rows.push(row);
    rows
}

/// Wraps a line at any character. Returns the rows, and the row and column of the position `cursor` (in bytes).
pub(super) fn wrap_input(line: &str, cursor: usize, columns: usize) -> (Vec<String>, (usize, usize)) {
    let mut rows = vec![String::new()];
    let mut place = None;
    let mut width = 0;
    for (at, c) in line.char_indices() {
        if width + char_width(c) > columns {
            rows.push(String::new());
            width = 0;
        }
        if at >= cursor && place.is_none() {
            place = Some((rows.len() - 1, width));
        }
        if let Some(row) = rows.last_mut() {
            row.push(c);
        }
        width += char_width(c);
    }
    if place.is_none() && width >= columns {
        rows.push(String::new());
        width = 0;
    }
    let end = (rows.len() - 1, width);
    (rows, place.unwrap_or(end))
}

fn char_width(c: char) -> usize {
    measure_text_width(c.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_between_words_and_keeps_the_indentation() {
        assert_eq!(wrap_words("  one two three", 11), ["  one two", "  three"]);
        assert_eq!(wrap_words("one two", 7), ["one two"]);
        assert_eq!(wrap_words("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap_words("  abcdefghijkl", 6), ["  abcd", "  efgh", "  ijkl"]);
        assert_eq!(wrap_words("世界 世界", 5), ["世界", "世界"]);
        assert_eq!(wrap_words("\x1b[1mone two\x1b[0m three", 7), ["\x1b[1mone two\x1b[0m", "three"]);
    }

    #[test]
    fn input_wraps_anywhere_with_its_cursor() {
        assert_eq!(wrap_input("a> bc", 5, 10), (vec!["a> bc".to_owned()], (0, 5)));
        assert_eq!(wrap_input("abcdef", 2, 4), (vec!["abcd".to_owned(), "ef".to_owned()], (0, 2)));
        assert_eq!(wrap_input("abcdef", 4, 4), (vec!["abcd".to_owned(), "ef".to_owned()], (1, 0)));
        assert_eq!(wrap_input("abcd", 4, 4), (vec!["abcd".to_owned(), String::new()], (1, 0)));
        assert_eq!(wrap_input("世界世", 9, 5), (vec!["世界".to_owned(), "世".to_owned()], (1, 2)));
    }
}
