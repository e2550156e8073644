//! Edits one line of an answer, with the lines that were typed before. It does no IO.

use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer};
use rustyline::{At, Movement, Word};

use super::keys::TypedKey;

/// The maximum length of a typed line, in bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The maximum number of earlier lines that are kept.
const MAX_HISTORY_LINES: usize = 100;

/// The lines that were typed before, oldest first.
#[derive(Debug, Default)]
pub(crate) struct LineHistory(Vec<String>);

impl LineHistory {
    /// Adds a line, unless it is empty, a command, or repeats the last one.
    pub(crate) fn add(&mut self, line: &str) {
        if line.is_empty() || line.starts_with(':') || self.0.last().is_some_and(|last| last == line) {
            return;
        }
        if self.0.len() == MAX_HISTORY_LINES {
            self.0.remove(0);
        }
        self.0.push(line.to_owned());
    }
}

/// The effect of a key on a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LineEdit {
    /// The line may have changed.
    Changed,
    /// The key does not fit, for this reason.
    Refused(String),
    /// The line is complete.
    Submitted,
    /// The input ends: Ctrl-D on an empty line.
    EndOfInput,
    /// Shift-Tab: return to the field before.
    Back,
}

/// A line that is being typed.
#[derive(Debug)]
pub(crate) struct LineEditor<'h> {
    line: LineBuffer,
    history: &'h LineHistory,
    /// The position in the history; its length stands for the line that is being typed.
    position: usize,
    /// The line that was being typed before an earlier one was shown.
    draft: String,
}

/// The editor keeps no undo list, so changes are not observed.
struct IgnoreChanges;

impl DeleteListener for IgnoreChanges {
    fn delete(&mut self, _: usize, _: &str, _: Direction) {}
}

impl ChangeListener for IgnoreChanges {
    fn insert_char(&mut self, _: usize, _: char) {}
    fn insert_str(&mut self, _: usize, _: &str) {}
    fn replace(&mut self, _: usize, _: &str, _: &str) {}
}

impl<'h> LineEditor<'h> {
    /// Starts a line with this text.
    pub(crate) fn new(text: &str, history: &'h LineHistory) -> Self {
        let mut line = LineBuffer::with_capacity(MAX_LINE_BYTES);
        line.update(text, text.len(), &mut IgnoreChanges);
        Self { line, history, position: history.0.len(), draft: String::new() }
    }

    /// Returns the text of the line.
    pub(crate) fn text(&self) -> &str {
        self.line.as_str()
    }

    /// Returns the position of the cursor in the text, in bytes.
    pub(crate) fn cursor(&self) -> usize {
        self.line.pos()
    }

    /// Applies a key.
    pub(crate) fn press(&mut self, key: TypedKey) -> LineEdit {
        let line = &mut self.line;
        match key {
            TypedKey::Char(c) => {
                if line.insert(c, 1, &mut IgnoreChanges).is_none() {
                    return too_long();
                }
            }
            TypedKey::Refused(c) => {
                return LineEdit::Refused(format!("`{}` does not fit in an answer", c.escape_unicode()));
            }
            TypedKey::Paste(text) => return self.paste(&text),
            TypedKey::LongPaste => return too_long(),
            TypedKey::Enter => return LineEdit::Submitted,
            TypedKey::EndOfInput if line.is_empty() => return LineEdit::EndOfInput,
            TypedKey::EndOfInput | TypedKey::Delete => drop(line.delete(1, &mut IgnoreChanges)),
            TypedKey::Backspace => drop(line.backspace(1, &mut IgnoreChanges)),
            TypedKey::Left => drop(line.move_backward(1)),
            TypedKey::Right => drop(line.move_forward(1)),
            TypedKey::PreviousWord => drop(line.move_to_prev_word(Word::Emacs, 1)),
            TypedKey::NextWord => drop(line.move_to_next_word(At::AfterEnd, Word::Emacs, 1)),
            TypedKey::Home => drop(line.move_buffer_start()),
            TypedKey::End => drop(line.move_buffer_end()),
            TypedKey::KillToEnd => drop(line.kill(&Movement::EndOfBuffer, &mut IgnoreChanges)),
            TypedKey::KillToStart => drop(line.kill(&Movement::BeginningOfBuffer, &mut IgnoreChanges)),
            TypedKey::KillPreviousWord => drop(line.delete_prev_word(Word::Big, 1, &mut IgnoreChanges)),
            TypedKey::KillNextWord => drop(line.delete_word(At::AfterEnd, Word::Emacs, 1, &mut IgnoreChanges)),
            TypedKey::Up => self.show_earlier(),
            TypedKey::Down => self.show_later(),
            TypedKey::BackTab => return LineEdit::Back,
            TypedKey::Suspend | TypedKey::Redraw => {}
        }
        LineEdit::Changed
    }

    /// Inserts pasted text. Line breaks become spaces, so that one paste never answers several questions.
    fn paste(&mut self, text: &str) -> LineEdit {
        let text = text.trim_end_matches(['\r', '\n']).replace("\r\n", " ").replace(['\r', '\n', '\t'], " ");
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return LineEdit::Refused(format!(
                "the pasted text does not fit in an answer: it has `{}`",
                c.escape_unicode()
            ));
        }
        if text.is_empty() || self.line.yank(&text, 1, &mut IgnoreChanges).is_some() {
            LineEdit::Changed
        } else {
            too_long()
        }
    }

    fn show_earlier(&mut self) {
        if self.position == 0 {
            return;
        }
        if self.position == self.history.0.len() {
            self.draft = self.line.as_str().to_owned();
        }
        self.position -= 1;
        self.show_position();
    }

    fn show_later(&mut self) {
        if self.position < self.history.0.len() {
            self.position += 1;
            self.show_position();
        }
    }

    fn show_position(&mut self) {
        let text = self.history.0.get(self.position).unwrap_or(&self.draft);
        self.line.update(text, text.len(), &mut IgnoreChanges);
    }
}

fn too_long() -> LineEdit {
    LineEdit::Refused(format!("an answer has at most {} KiB", MAX_LINE_BYTES / 1024))
}

#[cfg(test)]
mod tests {
    use super::super::keys::KeyDecoder;
    use super::*;

    /// Returns the line with `|` at the cursor after these bytes are typed.
    fn typed(bytes: &str, history: &LineHistory) -> String {
        let mut editor = LineEditor::new("", history);
        for key in KeyDecoder::default().decode(bytes.as_bytes()) {
            editor.press(key);
        }
        let (before, after) = editor.text().split_at(editor.cursor());
        format!("{before}|{after}")
    }

    #[test]
    fn keys_edit_the_line() {
        for (bytes, line) in [
            ("abc\x1b[D\x1b[Dx", "ax|bc"),
            ("abc\x01x\x05y", "xabcy|"),
            ("one two\x17x", "one x|"),
            ("one two\x1bb\x0b", "one |"),
            ("one two\x1bb\x15", "|two"),
            ("one two\x01\x1bfx", "onex| two"),
            ("one two\x01\x1bd", "| two"),
            ("世界\x7fx", "世x|"),
            ("ab\x01\x1b[3~", "|b"),
            ("ab\x01\x04", "|b"),
            ("\x1b[200~one\r\ntwo\t3\n\x1b[201~!", "one two 3!|"),
        ] {
            assert_eq!(typed(bytes, &LineHistory::default()), line, "{bytes:?}");
        }
    }

    #[test]
    fn earlier_lines_can_be_edited() {
        let mut history = LineHistory::default();
        for line in ["first", "second", "second", ""] {
            history.add(line);
        }
        assert_eq!(typed("draft\x1b[A", &history), "second|");
        assert_eq!(typed("draft\x1b[A\x1b[A\x1b[A!", &history), "first!|");
        assert_eq!(typed("draft\x1b[A\x1b[B\x1b[B", &history), "draft|");
    }

    #[test]
    fn control_characters_are_refused() {
        let history = LineHistory::default();
        let mut editor = LineEditor::new("a", &history);
        for key in [TypedKey::Refused('\x07'), TypedKey::Paste("x\x1b[2Jy".to_owned()), TypedKey::LongPaste] {
            assert!(matches!(editor.press(key), LineEdit::Refused(_)));
        }
        assert!(matches!(editor.press(TypedKey::Paste("x".repeat(2 * MAX_LINE_BYTES))), LineEdit::Refused(_)));
        assert_eq!(editor.text(), "a");
        assert_eq!(editor.press(TypedKey::EndOfInput), LineEdit::Changed);
        editor.press(TypedKey::Backspace);
        assert_eq!(editor.press(TypedKey::EndOfInput), LineEdit::EndOfInput);
    }
}
