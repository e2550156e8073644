//! Decodes the bytes of a terminal into keys. It does no IO.

use std::str;

/// The maximum length of a paste, in bytes. What exceeds it is dropped, and the paste is reported as too long.
pub(crate) const MAX_PASTE_BYTES: usize = 64 * 1024;

/// The maximum length of an escape sequence. Known ones are far shorter.
const MAX_SEQUENCE_BYTES: usize = 32;

/// The end of pasted text.
const PASTE_END: &[u8] = b"\x1b[201~";

/// A key, or text that was pasted as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TypedKey {
    /// A character that an answer may contain.
    Char(char),
    /// Any other character, such as a control character without a function.
    Refused(char),
    /// Text that was pasted, unchanged.
    Paste(String),
    /// Text that is longer than [`MAX_PASTE_BYTES`].
    LongPaste,
    Enter,
    /// Ctrl-D: the end of the input on an empty line.
    EndOfInput,
    Backspace,
    Delete,
    Left,
    Right,
    PreviousWord,
    NextWord,
    Up,
    Down,
    Home,
    End,
    KillToEnd,
    KillToStart,
    KillPreviousWord,
    KillNextWord,
    BackTab,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
}

/// The decoder, which keeps incomplete characters and sequences.
#[derive(Debug, Default)]
pub(crate) struct KeyDecoder {
    /// An incomplete character or escape sequence.
    pending: Vec<u8>,
    /// The text of an open paste.
    paste: Option<Vec<u8>>,
    is_paste_cut: bool,
}

impl KeyDecoder {
    /// Decodes further bytes.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Vec<TypedKey> {
        let mut keys = Vec::new();
        for byte in bytes {
            if self.paste.is_some() {
                keys.extend(self.add_to_paste(*byte));
                continue;
            }
            self.pending.push(*byte);
            if let Some(key) = self.next_key() {
                self.pending.clear();
                keys.extend(key);
            }
        }
        keys
    }

    /// Forgets an incomplete sequence, because no byte followed in time: the Escape key.
    pub(crate) fn end_sequence(&mut self) {
        self.pending.clear();
    }

    /// Adds a byte to the open paste. Returns the paste once it has ended.
    fn add_to_paste(&mut self, byte: u8) -> Option<TypedKey> {
        let paste = self.paste.as_mut()?;
        paste.push(byte);
        if paste.ends_with(PASTE_END) {
            let text = self.paste.take()?;
            let text = &text[..text.len() - PASTE_END.len()];
            if std::mem::take(&mut self.is_paste_cut) {
                return Some(TypedKey::LongPaste);
            }
            return Some(TypedKey::Paste(String::from_utf8_lossy(text).into_owned()));
        }
        if paste.len() > MAX_PASTE_BYTES + PASTE_END.len() {
            // The end of the text can be the beginning of the sequence that ends the paste.
            paste.drain(..MAX_PASTE_BYTES);
            self.is_paste_cut = true;
        }
        None
    }

    /// Returns the key that is complete, `Some(None)` for a sequence without a function, or `None` if bytes are missing.
    fn next_key(&mut self) -> Option<Option<TypedKey>> {
        if self.pending[0] == 0x1b {
            return self.escape_sequence();
        }
        match str::from_utf8(&self.pending) {
            Ok(text) => Some(text.chars().next().map(key_of_char)),
            Err(error) if error.error_len().is_none() => None,
            Err(_) => Some(Some(TypedKey::Refused(char::REPLACEMENT_CHARACTER))),
        }
    }

    fn escape_sequence(&mut self) -> Option<Option<TypedKey>> {
        let sequence = &self.pending[1..];
        let key = match sequence {
            [] | [b'[' | b'O'] => return None,
            [0x1b] => {
                // The Escape key before another sequence.
                self.pending.truncate(1);
                return None;
            }
            [b'O', last] => sequence_key(b"", *last),
            [b'[', parameters @ .., last @ 0x40..=0x7e] => {
                if parameters == b"200" && *last == b'~' {
                    self.paste = Some(Vec::new());
                    return Some(None);
                }
                sequence_key(parameters, *last)
            }
            [b'[', ..] if sequence.len() < MAX_SEQUENCE_BYTES => return None,
            [b'b' | b'B'] => Some(TypedKey::PreviousWord),
            [b'f' | b'F'] => Some(TypedKey::NextWord),
            [b'd' | b'D'] => Some(TypedKey::KillNextWord),
            [0x7f | 0x08] => Some(TypedKey::KillPreviousWord),
            _ => None,
        };
        Some(key)
    }
}

/// Returns the key of a control sequence. The second parameter names the modifiers, where any of them moves by words.
fn sequence_key(parameters: &[u8], last: u8) -> Option<TypedKey> {
    let by_words = parameters.contains(&b';');
    Some(match last {
        b'A' => TypedKey::Up,
        b'B' => TypedKey::Down,
        b'C' if by_words => TypedKey::NextWord,
        b'D' if by_words => TypedKey::PreviousWord,
        b'C' => TypedKey::Right,
        b'D' => TypedKey::Left,
        b'H' => TypedKey::Home,
        b'F' => TypedKey::End,
        b'Z' => TypedKey::BackTab,
        b'~' => match parameters {
            b"1" | b"7" => TypedKey::Home,
            b"4" | b"8" => TypedKey::End,
            b"3" => TypedKey::Delete,
            _ => return None,
        },
        _ => return None,
    })
}

fn key_of_char(c: char) -> TypedKey {
    match c {
        '\r' | '\n' => TypedKey::Enter,
        '\x01' => TypedKey::Home,
        '\x02' => TypedKey::Left,
        '\x04' => TypedKey::EndOfInput,
        '\x05' => TypedKey::End,
        '\x06' => TypedKey::Right,
        '\x08' | '\x7f' => TypedKey::Backspace,
        '\x0b' => TypedKey::KillToEnd,
        '\x0c' => TypedKey::Redraw,
        '\x0e' => TypedKey::Down,
        '\x10' => TypedKey::Up,
        '\x15' => TypedKey::KillToStart,
        '\x17' => TypedKey::KillPreviousWord,
        '\x1a' => TypedKey::Suspend,
        c if c.is_control() => TypedKey::Refused(c),
        c => TypedKey::Char(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<TypedKey> {
        KeyDecoder::default().decode(bytes)
    }

    #[test]
    fn decodes_characters_and_control_keys() {
        assert_eq!(keys("aß世".as_bytes()), [TypedKey::Char('a'), TypedKey::Char('ß'), TypedKey::Char('世')]);
        assert_eq!(
            keys(b"\x01\x05\x0b\x15\x17\x7f\r\x04\x1a"),
            [
                TypedKey::Home,
                TypedKey::End,
                TypedKey::KillToEnd,
                TypedKey::KillToStart,
                TypedKey::KillPreviousWord,
                TypedKey::Backspace,
                TypedKey::Enter,
                TypedKey::EndOfInput,
                TypedKey::Suspend
            ]
        );
        assert_eq!(keys(b"\x07\xff"), [TypedKey::Refused('\x07'), TypedKey::Refused('\u{fffd}')]);
    }

    #[test]
    fn decodes_escape_sequences() {
        assert_eq!(
            keys(b"\x1b[A\x1b[B\x1b[C\x1b[D\x1bOH\x1b[4~\x1b[3~\x1b[Z"),
            [
                TypedKey::Up,
                TypedKey::Down,
                TypedKey::Right,
                TypedKey::Left,
                TypedKey::Home,
                TypedKey::End,
                TypedKey::Delete,
                TypedKey::BackTab
            ]
        );
        assert_eq!(
            keys(b"\x1bb\x1bf\x1bd\x1b\x7f\x1b[1;5C\x1b[1;3D"),
            [
                TypedKey::PreviousWord,
                TypedKey::NextWord,
                TypedKey::KillNextWord,
                TypedKey::KillPreviousWord,
                TypedKey::NextWord,
                TypedKey::PreviousWord
            ]
        );
        assert_eq!(keys(b"\x1b[38;5;1mx\x1b[99~\x1b\x1b[A"), [TypedKey::Char('x'), TypedKey::Up]);
    }

    #[test]
    fn sequences_and_characters_can_be_split() {
        let mut decoder = KeyDecoder::default();
        assert_eq!(decoder.decode(b"\x1b"), []);
        assert_eq!(decoder.decode(b"[D\xc3"), [TypedKey::Left]);
        assert_eq!(decoder.decode(b"\xbcx"), [TypedKey::Char('ü'), TypedKey::Char('x')]);
        assert_eq!(decoder.decode(b"\x1b"), []);
        decoder.end_sequence();
        assert_eq!(decoder.decode(b"A"), [TypedKey::Char('A')]);
    }

    #[test]
    fn a_paste_is_one_key() {
        let mut decoder = KeyDecoder::default();
        assert_eq!(decoder.decode(b"\x1b[200~one\ny\n\x1b[2"), []);
        assert_eq!(decoder.decode(b"01~\r"), [TypedKey::Paste("one\ny\n".to_owned()), TypedKey::Enter]);
        let long = [b"\x1b[200~".as_slice(), &vec![b'x'; 3 * MAX_PASTE_BYTES], PASTE_END, b"y"].concat();
        assert_eq!(decoder.decode(&long), [TypedKey::LongPaste, TypedKey::Char('y')]);
    }
}
