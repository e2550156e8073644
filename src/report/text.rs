//! Makes text fit for a person's terminal: harmless, on one line, and of a known width.
//! Never adds meaning.

use std::{borrow::Cow, time::Duration};

use crate::model::Task;

/// Most characters of an agent's text that a line shows.
const LONGEST: usize = 400;

/// Text of agents as one harmless line: line breaks and tabs become spaces, and characters that would command the
/// terminal or reorder the line (control characters, directional marks, invisible tags) are shown as `\u{1b}`.
/// Every text that comes from outside goes through here before it is shown.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| matches!(c, '\n' | '\r' | '\t') || is_harmful(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\r' => {}
            '\n' | '\t' => out.push(' '),
            c if is_harmful(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// [`printable`], shortened to what a line of a report can hold.
pub fn brief(text: &str) -> String {
    let end = text.char_indices().nth(LONGEST).map(|(end, _)| end);
    let shown = printable(text[..end.unwrap_or(text.len())].trim()).into_owned();
    if end.is_some() { shown + "…" } else { shown }
}

/// Text of several lines, each [`printable`].
pub fn printable_lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.lines().map(printable)
}

/// Text of several lines in one, each [`printable`]. Every character is judged alone, so text can be given in pieces.
pub fn printable_text(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A duration as people read it, to about three digits: `340ms`, `12.3s`, `4m05s`, `1h02m`, `3d04h`.
pub fn elapsed(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = millis / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{seconds}.{}s", millis % 1_000 / 100),
        60_000..3_600_000 => format!("{minutes}m{:02}s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A task of a plan in a line: `t1: research.search, What to read`.
pub fn task_in_words(task: &Task) -> String {
    let routes: Vec<_> = task.routes().iter().map(|route| format!("{}.{}", route.agent, route.tool)).collect();
    let work = if routes.is_empty() { "the language model".to_owned() } else { routes.join(" or ") };
    let title = task.title.as_ref().map(|title| format!(", {title}")).unwrap_or_default();
    brief(&format!("{}: {work}{title}", task.id))
}

/// `1 task`, `2 tasks`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_would_command_the_terminal() {
        for (text, shown) in [
            ("plain, Grüße 世界 👩‍💻", "plain, Grüße 世界 👩‍💻"),
            ("\x1b[2J\x1b]0;owned\x07", r"\u{1b}[2J\u{1b}]0;owned\u{7}"),
            ("a\r\nb\tc", "a b c"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("user\u{202e}txt.exe", r"user\u{202e}txt.exe"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\n\x08b").collect::<Vec<_>>(), ["a", r"\u{8}b"]);
        assert_eq!(printable_text("a\r\n\x08b\n") + &printable_text("\tc"), "a\n\\u{8}b\n c");
    }

    #[test]
    fn shortens_what_no_line_can_hold() {
        assert_eq!(brief(" short\n"), "short");
        assert_eq!(brief(&"é".repeat(1_000)), "é".repeat(LONGEST) + "…");
    }

    #[test]
    fn durations_have_about_three_digits() {
        let shown =
            [0, 340, 12_345, 59_999, 245_000, 3_720_000, 273_600_000].map(|ms| elapsed(Duration::from_millis(ms)));
        assert_eq!(shown, ["0ms", "340ms", "12.3s", "59.9s", "4m05s", "1h02m", "3d04h"]);
    }
}
