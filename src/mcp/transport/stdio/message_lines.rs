//! Splits the output of a child into the texts of messages: one per line, or several lines for pretty-printed JSON.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// The capacity of the read buffer.
const BUFFER_BYTES: usize = 64 * 1024;

/// The output of a child, split into texts.
pub(super) struct MessageLines<R> {
    output: BufReader<R>,
    /// The maximum size of a text.
    limit: usize,
    /// A line that was read in advance, and follows the text before it.
    queued: Option<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> MessageLines<R> {
    /// Creates a reader of `output` with texts of up to `limit` bytes.
    pub(super) fn new(output: R, limit: usize) -> Self {
        Self { output: BufReader::with_capacity(BUFFER_BYTES, output), limit, queued: None }
    }

    /// Replaces `text` by the next text: a line, or all lines of a JSON value whose first line only opens it. Returns
    /// false at the end of the output.
    ///
    /// # Errors
    /// Returns the error of the pipe, or [`io::ErrorKind::FileTooLarge`].
    pub(super) async fn next(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        text.clear();
        match self.queued.take() {
            Some(line) => *text = line,
            None => self.read_line(text).await?,
        }
        if opens_value(text) {
            self.read_rest(text).await?;
        }
        Ok(!text.is_empty())
    }

    /// Appends a line to `text`.
    async fn read_line(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let remaining = self.limit.saturating_sub(text.len()) as u64;
        (&mut self.output).take(remaining + 1).read_until(b'\n', text).await?;
        if text.len() > self.limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    }

    /// Appends the remaining lines of a JSON value to `text`. A line that is a message by itself ends the text: what came
    /// before was not JSON.
    async fn read_rest(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let mut nesting = Nesting::default();
        nesting.read(text);
        while nesting.depth > 0 {
            let start = text.len();
            self.read_line(text).await?;
            let line = &text[start..];
            if line.is_empty() {
                break;
            }
            if is_message(line) {
                self.queued = Some(text.split_off(start));
                break;
            }
            nesting.read(line);
        }
        Ok(())
    }
}

/// Returns whether a line only opens a JSON value, as the first line of pretty-printed JSON does.
fn opens_value(line: &[u8]) -> bool {
    matches!(line.trim_ascii(), b"{" | b"[" | b"[{")
}

/// Returns whether a line is a JSON-RPC message, possibly as an element of a list.
fn is_message(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.starts_with(b"{\"")
        && line.strip_suffix(b",").unwrap_or(line).ends_with(b"}")
        && line.windows(KEY.len()).any(|bytes| bytes == KEY)
}

/// The key that each message has.
const KEY: &[u8] = b"\"jsonrpc\"";

/// The nesting of the brackets of a JSON text, as far as it was read.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    after_backslash: bool,
}

impl Nesting {
    fn read(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                _ if self.after_backslash => self.after_backslash = false,
                b'\\' if self.in_string => self.after_backslash = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the texts of an output, or the error at its end.
    async fn texts(output: &str) -> Result<Vec<String>, io::ErrorKind> {
        let mut lines = MessageLines::new(output.as_bytes(), 60);
        let (mut text, mut texts) = (Vec::new(), Vec::new());
        while lines.next(&mut text).await.map_err(|error| error.kind())? {
            texts.push(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(texts)
    }

    #[tokio::test]
    async fn pretty_printed_values_are_one_text() {
        for (output, expected) in [
            ("", &[][..]),
            ("a\n\nb", &["a\n", "\n", "b"]),
            ("{\n  \"a\": [\n    \"}\\\"]\"\n  ]\n}\nnext\n", &["{\n  \"a\": [\n    \"}\\\"]\"\n  ]\n}\n", "next\n"]),
            ("[\n  {\n    \"a\": 1\n  },\n  {}\n]\r\n{}\n", &["[\n  {\n    \"a\": 1\n  },\n  {}\n]\r\n", "{}\n"]),
            ("{ \"a\":\n1 }\n", &["{ \"a\":\n", "1 }\n"]),
            ("{\n\"a\":", &["{\n\"a\":"]),
        ] {
            assert_eq!(texts(output).await.unwrap(), expected, "{output}");
        }
    }

    #[tokio::test]
    async fn messages_end_what_is_not_json() {
        let message = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";
        let output = format!("{{\nready\n{message}\n[\n{message},\n{message}\n]\n");
        let expected = ["{\nready\n".to_owned(), format!("{message}\n"), "[\n".to_owned()];
        let rest = [format!("{message},\n"), format!("{message}\n"), "]\n".to_owned()];
        assert_eq!(texts(&output).await.unwrap(), [expected, rest].concat());
    }

    #[tokio::test]
    async fn texts_are_limited() {
        assert_eq!(texts(&"x".repeat(60)).await.map(|texts| texts.len()), Ok(1));
        assert_eq!(texts(&"x".repeat(61)).await, Err(io::ErrorKind::FileTooLarge));
        assert_eq!(texts(&format!("{{\n{}", "1,\n".repeat(30))).await, Err(io::ErrorKind::FileTooLarge));
    }
}
