//! Cleans the text that a person types.

/// Removes control sequences, such as those of arrow keys and bracketed paste, and control characters other than tabs
/// and line breaks.
pub(crate) fn strip_control_sequences(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let introducer = match c {
            '\x1b' => match rest.next() {
                Some(introducer) => introducer,
                None => break,
            },
            // The eight-bit forms of the same introducers.
            '\u{9b}' => '[',
            '\u{8f}' => 'O',
            '\u{9d}' | '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}' => ']',
            '\n' | '\t' => {
                kept.push(c);
                continue;
            }
            c => {
                kept.extend((!c.is_control()).then_some(c));
                continue;
            }
        };
        match introducer {
            '[' => {
                while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                rest.next_if(|c| matches!(c, '@'..='~'));
            }
            'O' => {
                rest.next_if(|c| c.is_ascii_alphanumeric());
            }
            ']' | 'P' | 'X' | '^' | '_' => {
                while let Some(c) = rest.next() {
                    if matches!(c, '\x07' | '\u{9c}') || c == '\x1b' && rest.next_if_eq(&'\\').is_some() {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_typed_control_sequences() {
        for (typed, kept) in [
            ("ab\x1b[A\x1b[D\x1b[1;5Cc", "abc"),
            ("\x1b[200~pasted text\x1b[201~", "pasted text"),
            ("\x1bOP\x1bOAx", "x"),
            ("a\x1b]0;title\x07b\x1b]8;;u\x1b\\c", "abc"),
            ("a\u{9b}31mb\u{9d}0;t\u{9c}c\u{85}", "abc"),
            ("a\x08\x7f\x00b\x1b", "ab"),
            ("\x1b[3~\x1bb \u{fc}\t[A", " \u{fc}\t[A"),
        ] {
            assert_eq!(strip_control_sequences(typed), kept, "{typed:?}");
        }
    }
}
