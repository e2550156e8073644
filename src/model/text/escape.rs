//! Makes untrusted text short, and safe to display. All data passes this filter before it reaches a terminal.
//!
//! Control characters, bidirectional marks, and invisible characters are shown as escapes such as `\u{1b}`.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::iter;
use std::ops::ControlFlow;

/// Returns text as one safe line: line breaks and tabs become spaces, unsafe characters are escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape_text(text, |c, out| match c {
        '\r' => ControlFlow::Continue(()),
        '\n' | '\t' => {
            out.push(' ');
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Break(()),
    })
}

/// Returns the beginning of a text: at most `max_chars` characters, and `…` if it is longer.
pub fn truncate_chars(text: &str, max_chars: usize) -> Cow<'_, str> {
    // A text has at most as many characters as bytes.
    if text.len() <= max_chars {
        return Cow::Borrowed(text);
    }
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Truncates a text to at most `max_bytes` bytes, and appends `…` if it was longer.
pub fn truncate_bytes(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        text.truncate(floor_char_boundary(text, max_bytes));
        text.push('…');
    }
}

/// Returns the last character boundary of a text that is not after the byte `at`.
pub fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Returns the message of the innermost cause of an error. It is the most specific one, and has no URL.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    iter::successors(Some(error), |&cause| cause.source()).last().unwrap_or(error).to_string()
}

/// Returns the lines of a text, each [`printable`].
pub fn printable_lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.lines().map(printable)
}

/// Returns text of several lines with unsafe characters escaped. Line breaks and tabs stay; `\r\n` becomes `\n`.
pub fn printable_text(text: &str) -> Cow<'_, str> {
    printable_after("", text)
}

/// Returns `next` as [`printable_text`] does, where `before` is the text already shown.
///
/// The character before a joiner determines whether the joiner is part of an emoji.
pub fn printable_after<'t>(before: &str, next: &'t str) -> Cow<'t, str> {
    escape_text_after(before.chars().next_back(), next, escape_except_line_breaks)
}

/// Returns text that kapell has styled: colors and font weight stay, everything else is escaped as in
/// [`printable_text`].
pub fn printable_styled(text: &str) -> Cow<'_, str> {
    if is_printable_ascii(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (piece, style) in split_styles(text) {
        out.push_str(&printable_text(piece));
        out.push_str(style);
    }
    Cow::Owned(out)
}

/// Returns text without the styles that kapell has given it, and otherwise as [`printable_text`].
pub fn printable_unstyled(text: &str) -> Cow<'_, str> {
    if is_printable_ascii(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(split_styles(text).map(|(piece, _)| printable_text(piece)).collect())
}

/// Returns the same JSON with unsafe characters written as `\u001b`.
///
/// In valid JSON they occur only inside strings, where both spellings mean the same. Line breaks and tabs stay.
pub fn safe_json(json: &str) -> Cow<'_, str> {
    if is_printable_ascii(json) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    let mut previous = None;
    for c in json.chars() {
        if matches!(c, '\n' | '\t' | '\r') || !is_unsafe(previous, c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        previous = Some(c);
    }
    Cow::Owned(out)
}

/// Returns whether the text holds nothing to escape, found by its bytes alone.
fn is_printable_ascii(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'))
}

fn escape_except_line_breaks(c: char, out: &mut String) -> ControlFlow<()> {
    match c {
        '\n' | '\t' => {
            out.push(c);
            ControlFlow::Continue(())
        }
        '\r' => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    }
}

fn escape_text(text: &str, special: impl Fn(char, &mut String) -> ControlFlow<()>) -> Cow<'_, str> {
    escape_text_after(None, text, special)
}

/// Escapes unsafe characters, except those that `special` has written itself.
fn escape_text_after(
    mut previous: Option<char>,
    text: &str,
    special: impl Fn(char, &mut String) -> ControlFlow<()>,
) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if special(c, &mut out).is_break() {
            if is_unsafe(previous, c) {
                out.extend(c.escape_unicode());
            } else {
                out.push(c);
            }
        }
        previous = Some(c);
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

/// Returns whether a character must be escaped on a terminal.
///
/// Joiners and variation selectors are valid after certain characters and invisible elsewhere.
fn is_unsafe(previous: Option<char>, c: char) -> bool {
    let is_after = |accepts: fn(char) -> bool| previous.is_some_and(accepts);
    match c {
        c if c.is_control() => true,
        '\u{200c}' => !is_after(is_joining_letter),
        '\u{200d}' => !is_after(is_joining_letter) && !is_after(is_emoji),
        '\u{fe0e}' | '\u{fe0f}' => !is_after(is_emoji) && !is_after(is_keycap),
        '\u{180b}'..='\u{180d}' | '\u{180f}' => !is_after(|c| matches!(c, '\u{1820}'..='\u{18aa}')),
        '\u{e0100}'..='\u{e01ef}' => !is_after(is_ideograph),
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0d}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        // Noncharacters.
        c => u32::from(c) & 0xfffe == 0xfffe || matches!(c, '\u{fdd0}'..='\u{fdef}'),
    }
}

/// Returns whether a joiner after the letter changes its shape: scripts from Hebrew to Khmer, and Mongolian.
fn is_joining_letter(c: char) -> bool {
    matches!(c, '\u{5d0}'..='\u{109f}' | '\u{1780}'..='\u{17b3}' | '\u{17b6}'..='\u{17ff}' | '\u{1820}'..='\u{18aa}')
}

fn is_emoji(c: char) -> bool {
    matches!(c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{20e3}' | '\u{2100}'..='\u{27ff}' | '\u{2900}'..='\u{2bff}'
        | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{fe0f}' | '\u{1f000}'..='\u{1faff}')
}

fn is_keycap(c: char) -> bool {
    matches!(c, '0'..='9' | '#' | '*')
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Splits text into pieces, each with the style after it; the last style is empty.
fn split_styles(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest.take()?;
        let style = text.match_indices('\x1b').find_map(|(at, _)| Some((at, style_length(&text[at..])?)));
        let Some((at, length)) = style else { return Some((text, "")) };
        rest = Some(&text[at + length..]);
        Some((&text[..at], &text[at..at + length]))
    })
}

/// Returns the length of the style at the start of a text, if kapell uses such styles: foreground colors, bold, dim,
/// italic, underline, and their resets. Styles that hide text are not among them.
fn style_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !c.is_ascii_digit() && c != ';').filter(|&end| body.as_bytes()[end] == b'm')?;
    let mut codes = body[..end].split(';');
    while let Some(code) = codes.next() {
        match code.parse::<u8>().ok() {
            None if code.is_empty() => {}
            Some(0..=4 | 9 | 22..=24 | 29..=37 | 39 | 90..=97) => {}
            // A color by number or by components.
            Some(38) => return codes.all(|code| code.parse::<u8>().is_ok()).then_some(end + 3),
            _ => return None,
        }
    }
    Some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_at_characters() {
        for (text, max, by_chars, by_bytes) in [
            ("", 0, "", ""),
            ("aé", 2, "aé", "a…"),
            ("aéb", 3, "aéb", "aé…"),
            ("世界", 1, "世…", "…"),
            ("ab", 0, "…", "…"),
        ] {
            let mut bytes = text.to_owned();
            truncate_bytes(&mut bytes, max);
            assert_eq!((&*truncate_chars(text, max), bytes.as_str()), (by_chars, by_bytes), "{text}");
        }
        assert_eq!([0, 1, 2, 3, 9].map(|at| floor_char_boundary("é世", at)), [0, 0, 2, 2, 5]);
    }

    #[test]
    fn escapes_terminal_control_characters() {
        for (text, shown) in [
            ("plain, Grüße 世界 👩‍💻", "plain, Grüße 世界 👩‍💻"),
            ("\x1b[2J\x1b]0;owned\x07", r"\u{1b}[2J\u{1b}]0;owned\u{7}"),
            ("a\r\nb\tc", "a b c"),
            ("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"),
            ("user\u{202e}txt.exe", r"user\u{202e}txt.exe"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\n\x08b").collect::<Vec<_>>(), ["a", r"\u{8}b"]);
        assert_eq!(printable_text("a\r\n\x08b\n\tc"), "a\n\\u{8}b\n\tc");
    }

    #[test]
    fn escapes_invisible_characters() {
        for c in "\u{ad}\u{34f}\u{115f}\u{1160}\u{17b4}\u{180e}\u{200b}\u{200c}\u{200d}\u{2060}\u{2061}\u{2064}\u{206a}\
                  \u{2800}\u{3164}\u{fe00}\u{fe0e}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{fffe}\u{e0001}\u{e0041}\u{e0100}"
            .chars()
        {
            assert_eq!(printable(&format!("a{c}b")), format!("a{}b", c.escape_unicode()));
        }
    }

    #[test]
    fn keeps_joiners_in_valid_sequences() {
        for text in ["❤️ 1️⃣ 👩‍❤️‍👩 🏳️‍🌈 👍🏽", "می‌خواهم क्‍ष", "葛\u{e0100}城"]
        {
            assert_eq!(printable(text), text);
        }
        assert_eq!(printable("👩\u{200d}\u{200d}a"), "👩\u{200d}\\u{200d}a");
        assert_eq!(printable_after("👩", "\u{200d}💻"), "\u{200d}💻");
    }

    #[test]
    fn keeps_known_styles_only() {
        let text = "\x1b[1;31mred\x1b[0m \x1b[38;5;208mx\x1b[39m";
        assert_eq!(printable_styled(text), text);
        assert_eq!(printable_unstyled(text), "red x");
        for hostile in ["\x1b[8mhidden", "\x1b[41mx", "\x1b[2J", "\x1b]8;;x\x07", "\x1b[1", "\x1b", "\x1b[38;mx"] {
            let shown = hostile.replace('\x1b', r"\u{1b}").replace('\x07', r"\u{7}");
            assert_eq!(printable_styled(hostile), shown);
            assert_eq!(printable_unstyled(hostile), shown);
        }
    }

    #[test]
    fn safe_json_is_equivalent() {
        let json = "{\"a\u{7f}\u{9b}\":\"x\u{202e}\u{e0041}👩\u{200d}💻\"}\n";
        let safe = safe_json(json);
        assert_eq!(safe, "{\"a\\u007f\\u009b\":\"x\\u202e\\udb40\\udc41👩\u{200d}💻\"}\n");
        let parse = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("valid JSON");
        assert_eq!(parse(&safe), parse(json));
    }
}
