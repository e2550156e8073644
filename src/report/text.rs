//! Makes text from agents safe to show on a terminal, and durations short.
//! Never changes what a program reads.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

/// `text` with every control character escaped but line breaks and tabs: nothing in it can move the cursor, set a
/// colour or a title, or turn the direction of what follows.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_control(c) && !matches!(c, '\n' | '\t'))
}

/// The same on one line: line breaks and tabs are escaped too.
pub fn printable_line(text: &str) -> Cow<'_, str> {
    escape(text, is_control)
}

/// A duration as people read it, to about three digits: `340ms`, `12.3s`, `4m05s`, `1h02m`, `3d04h`.
pub fn duration(duration: Duration) -> String {
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

/// Control characters, and the marks that turn the direction of text.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, unsafe_to_show: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&unsafe_to_show) else { return Cow::Borrowed(text) };
    let mut escaped = String::with_capacity(text.len() + 8);
    escaped.push_str(&text[..first]);
    for c in text[first..].chars() {
        if unsafe_to_show(c) {
            let _ = write!(escaped, "{}", c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_about_three_digits() {
        let shown =
            [0, 340, 12_345, 59_999, 245_000, 3_720_000, 273_600_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["0ms", "340ms", "12.3s", "59.9s", "4m05s", "1h02m", "3d04h"]);
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let text = "é\u{1b}[31mred\u{7}\r\n\ttab\u{9b}2J\u{202e}x";
        assert_eq!(printable(text), "é\\u{1b}[31mred\\u{7}\\r\n\ttab\\u{9b}2J\\u{202e}x");
        assert_eq!(printable_line(text), "é\\u{1b}[31mred\\u{7}\\r\\n\\ttab\\u{9b}2J\\u{202e}x");
        assert!(matches!(printable("plain\ntext\t"), Cow::Borrowed(_)));
    }
}
